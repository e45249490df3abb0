"""Who we are to the broker, and whom we trust: password and TLS, from the files that the configuration names."""

from __future__ import annotations

import ssl
from pathlib import Path

from ingest.config import MqttConfig
from telemetry import ConfigError, Problem


class _Socket(ssl.SSLSocket):
    """Closes itself when the handshake fails: its caller, paho, would leave it to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:  # as it is declared there
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def password(config: MqttConfig) -> str | None:
    """The password; read anew at every call, so that a rotated file takes effect. Raises ConfigError."""
    if config.password_file is not None:
        try:
            return config.password_file.read_text().splitlines()[0]
        except IndexError:
            raise _problem("password_file", config.password_file, "it is empty") from None
        except (OSError, UnicodeDecodeError) as error:
            raise _problem("password_file", config.password_file, _reason(error)) from None
    return None if config.password is None else config.password.get_secret_value()


def tls_context(config: MqttConfig) -> ssl.SSLContext | None:
    """TLS 1.2 or later, verified by the system's authorities or by `ca_file` alone; None without TLS.

    Raises ConfigError.
    """
    if not config.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except (OSError, ValueError) as error:
        raise _problem("ca_file", config.ca_file, _reason(error)) from None
    context.sslsocket_class = _Socket
    if config.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.cert_file is not None:
        try:
            # An empty password makes an encrypted key an error instead of a question on the terminal.
            context.load_cert_chain(config.cert_file, config.key_file, password="")
        except (OSError, ValueError) as error:
            name = "cert_file" if config.key_file is None else "cert_file and key_file"
            raise _problem(name, config.cert_file, _reason(error)) from None
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no valid PEM file, or certificate and key do not belong together: {error.reason or error}"
    return getattr(error, "strerror", None) or str(error)


def _problem(name: str, path: Path | None, reason: str) -> ConfigError:
    return ConfigError([Problem(f"mqtt.{name}: cannot use {path} ({reason})", loc=("mqtt", name.partition(" ")[0]))])
