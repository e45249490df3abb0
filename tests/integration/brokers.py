"""Mosquitto, told by options what to do, and its two clients as the other end of a test."""

import os
import signal
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.integration.certificates import Certificates
from tests.integration.servers import Server, free_port, is_listening, program, wait_until

CLIENT_SECONDS = 30


class Received(NamedTuple):
    topic: str
    payload: bytes


@dataclass(frozen=True, kw_only=True)
class MosquittoOptions:
    """`lines` are added to mosquitto.conf as they are."""

    users: Mapping[str, str] = field(default_factory=dict)  # name: password; none: anyone may come in
    tls: Certificates | None = None
    client_certificates: bool = False  # ask every client for one (needs tls)
    persistence: bool = False  # sessions and queues outlive stop(); a kill() too, as of the last second or save()
    websockets: bool = False  # a second listener
    max_inflight: int | None = None
    lines: Sequence[str] = ()


class Mosquitto(Server):
    """Queues without limit unless `lines` say otherwise, so that a test only loses what it means to lose."""

    def __init__(self, directory: Path, options: MosquittoOptions) -> None:
        config = directory / "mosquitto.conf"
        super().__init__([program("mosquitto", "mosquitto"), "-c", config], directory=directory, port=free_port())
        self.options = options
        self.websockets_port = free_port() if options.websockets else None
        self.url = f"{'mqtts' if options.tls else 'mqtt'}://{self.host}:{self.port}"
        self.websockets_url = f"{'wss' if options.tls else 'ws'}://{self.host}:{self.websockets_port}/mqtt"
        config.write_text("\n".join(self._config()) + "\n")

    def _config(self) -> list[str]:
        options = self.options
        lines = ["log_dest stderr", "log_type all", "max_queued_messages 0", "set_tcp_nodelay true"]
        if os.geteuid() == 0:
            lines.append("user root")  # else it gives its rights up and cannot read the test's directory
        if options.persistence:
            lines += ["persistence true", f"persistence_location {self.directory}/"]
            lines.append("autosave_interval 1")  # s; after every change would write everything anew each time
        if options.max_inflight is not None:
            lines.append(f"max_inflight_messages {options.max_inflight}")
        if options.users:
            lines += ["allow_anonymous false", f"password_file {self._password_file()}"]
        else:
            lines.append("allow_anonymous true")
        lines += options.lines
        lines += self._listener(self.port)
        if self.websockets_port is not None:
            lines += [*self._listener(self.websockets_port), "protocol websockets"]
        return lines

    def _listener(self, port: int) -> list[str]:
        lines = [f"listener {port} {self.host}"]
        if (tls := self.options.tls) is not None:
            lines += [f"cafile {tls.ca}", f"certfile {tls.server}", f"keyfile {tls.server_key}"]
            lines.append(f"require_certificate {str(self.options.client_certificates).lower()}")
        return lines

    def _password_file(self) -> Path:
        path = self.directory / "passwords"
        path.touch(mode=0o600)
        for name, password in self.options.users.items():
            command: list[str | Path] = [program("mosquitto_passwd", "mosquitto"), "-b", path, name, password]
            subprocess.run(command, check=True, capture_output=True, timeout=CLIENT_SECONDS)
        return path

    def answers(self) -> bool:
        return is_listening(self.port) and (self.websockets_port is None or is_listening(self.websockets_port))

    def publish(
        self, topic: str, payload: bytes | str, *, qos: int = 1, retain: bool = False, user: str | None = None
    ) -> None:
        """One message, acknowledged by the broker on return when qos > 0."""
        self._publish(topic, payload, "--stdin-file", qos=qos, retain=retain, user=user)

    def publish_lines(
        self, topic: str, payloads: Sequence[str], *, qos: int = 1, retain: bool = False, user: str | None = None
    ) -> None:
        """Many messages over one connection, in order; payloads without line breaks."""
        text = "".join(payload + "\n" for payload in payloads)
        self._publish(topic, text, "--stdin-line", qos=qos, retain=retain, user=user)

    def _publish(self, topic: str, text: bytes | str, source: str, *, qos: int, retain: bool, user: str | None) -> None:
        command = [*self._client("mosquitto_pub", user), source, "-t", topic, "-q", str(qos), *["-r"][: int(retain)]]
        data = text.encode() if isinstance(text, str) else text
        done = subprocess.run(command, input=data, capture_output=True, timeout=CLIENT_SECONDS, check=False)
        assert done.returncode == 0, f"mosquitto_pub: {done.stderr.decode()}\n{self.log_tail()}"

    def subscribe(self, topic: str, count: int, *, qos: int = 1, user: str | None = None) -> list[Received]:
        """The next `count` messages, retained ones first, in order."""
        command = [*self._client("mosquitto_sub", user), "-t", topic, "-q", str(qos), "-C", str(count)]
        command += ["-W", str(CLIENT_SECONDS), "-F", "%t %x"]
        done = subprocess.run(command, capture_output=True, timeout=2 * CLIENT_SECONDS, check=False, text=True)
        assert done.returncode == 0, f"mosquitto_sub: {done.stderr}\n{done.stdout}\n{self.log_tail()}"
        pairs = (line.rsplit(" ", 1) for line in done.stdout.splitlines())
        return [Received(topic, bytes.fromhex(payload)) for topic, payload in pairs]

    def _client(self, name: str, user: str | None) -> list[str | Path]:
        command: list[str | Path] = [program(name, "mosquitto-clients"), "-h", self.host, "-p", str(self.port)]
        if self.options.users:
            user = user or next(iter(self.options.users))
            command += ["-u", user, "-P", self.options.users[user]]
        if (tls := self.options.tls) is not None:
            command += ["--cafile", tls.ca]
            if self.options.client_certificates:
                command += ["--cert", tls.client, "--key", tls.client_key]
        return command

    def save(self) -> None:
        """Write sessions and queues to disk now (SIGUSR1): what a kill() after this leaves behind."""
        database = self.directory / "mosquitto.db"
        database.unlink(missing_ok=True)  # it writes beside it and renames, so that the next one is whole and new
        self._signal(signal.SIGUSR1)
        wait_until(database.exists, what="mosquitto saves its database")


def trusting(certificates: Certificates) -> ssl.SSLContext:
    """A client's context that trusts the tests' authority only."""
    return ssl.create_default_context(cafile=certificates.ca)
