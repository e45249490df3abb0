"""Configuration of the MQTT session and of the journal. That of streams and limits lives beside the decoder."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from telemetry import parse_duration

Duration = Annotated[int, BeforeValidator(parse_duration, json_schema_input_type=str)]
"""ns; written in Prometheus' notation."""

SCHEMES = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
"""URL schemes and their default ports."""


def _default_client_id() -> str:
    return f"tocsin-{socket.gethostname()}"


class MqttConfig(BaseModel):
    """How to reach the MQTT broker."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        "mqtt://localhost:1883",
        description="The broker: mqtt:// (plain), mqtts:// (TLS), ws:// or wss:// (WebSocket), host, port and, for "
        "WebSockets, path. Name and password do not go here.",
    )
    protocol: Literal["5", "3.1.1"] = Field("5", description="MQTT version: 5 or 3.1.1.")
    client_id: str = Field(
        default_factory=_default_client_id,
        min_length=1,
        max_length=65_535,
        description="Name of our session at the broker; keep it stable and give every tocsin its own. The default is "
        "tocsin-<hostname>.",
    )
    username: str | None = Field(None, description="Name to log in with, if the broker asks for one.")
    password: SecretStr | None = Field(None, description="Password; better from the environment or a file.")
    password_file: Path | None = Field(None, description="File that holds the password (its first line).")
    ca_file: Path | None = Field(
        None, description="PEM file of the authority that signed the broker's certificate; default: the system's."
    )
    cert_file: Path | None = Field(None, description="PEM file of our own certificate, if the broker asks for one.")
    key_file: Path | None = Field(None, description="PEM file of the key of cert_file, unless it is in the same file.")
    insecure: bool = Field(
        default=False,
        description="true: do not verify the broker's certificate. Anyone in between can then read and forge messages.",
    )
    keepalive: Duration = Field(
        parse_duration("60s"), description="A connection that is silent for longer is checked with a ping, and cut."
    )
    connect_timeout: Duration = Field(
        parse_duration("10s"), description="How long the broker may take to accept a connection."
    )
    reconnect_delay_max: Duration = Field(
        parse_duration("1m"), description="Longest pause between attempts to connect; they begin at one second."
    )
    session_expiry: Duration = Field(
        parse_duration("24h"),
        description="How long the broker keeps messages for us while we are away (MQTT 5; with 3.1.1, it decides "
        "itself). 0: not at all.",
    )
    receive_maximum: int = Field(
        1000, ge=1, le=65_535, description="How many unacknowledged messages the broker may send ahead (MQTT 5)."
    )
    max_packet_bytes: ByteSize = Field(
        ByteSize(4 << 20),
        ge=1024,
        description="The broker drops larger messages without a word (MQTT 5), so keep it well above the largest "
        "payload that the limits allow: what is too large shall reach the dead letters with a reason.",
    )

    @field_validator("protocol", mode="before")
    @classmethod
    def _yaml_number(cls, value: Any) -> Any:
        return "5" if value in (5, 5.0) else value

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        parts = urlsplit(value)
        example = "write for example mqtt://broker.example:1883 or mqtts://broker.example:8883"
        if parts.scheme not in SCHEMES:
            raise ValueError(f"the URL must begin with mqtt://, mqtts://, ws:// or wss://: {example}")
        if not parts.hostname:
            raise ValueError(f"the URL has no host: {example}")
        if parts.username is not None or parts.password is not None:
            raise ValueError("name and password do not belong into the URL: use mqtt.username and mqtt.password_file")
        if parts.path not in ("", "/") and parts.scheme.startswith("mqtt"):
            raise ValueError(f"{parts.scheme}:// takes no path: {example}")
        _ = parts.port  # raises ValueError for what is no port
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("give either password or password_file, not both")
        if self.username is None and (self.password is not None or self.password_file is not None):
            raise ValueError("a password needs a username: set mqtt.username")
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file")
        tls = [name for name in ("ca_file", "cert_file") if getattr(self, name) is not None]
        if not self.tls and (tls or self.insecure):
            raise ValueError(f"{(tls or ['insecure'])[0]} is about TLS: use mqtts:// or wss:// in the URL")
        if self.insecure and self.ca_file is not None:
            raise ValueError("ca_file verifies the broker and insecure forbids it: remove one of them")
        if self.keepalive < 10**9 or self.keepalive > 65_535 * 10**9:
            raise ValueError("keepalive must lie between 1s and 18h")
        return self

    @property
    def lasting(self) -> bool:
        """Whether the broker shall keep our session while we are away."""
        return self.session_expiry > 0

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def tls(self) -> bool:
        return self.scheme in ("mqtts", "wss")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or SCHEMES[self.scheme]

    @property
    def path(self) -> str:
        """Path of the WebSocket."""
        parts = urlsplit(self.url)
        return (parts.path or "/mqtt") + (f"?{parts.query}" if parts.query else "")

    @property
    def address(self) -> str:
        """The URL as messages show it: with the port, without anything secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class JournalConfig(BaseModel):
    """How much of the event log is kept, and what happens when there is no room for more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    segment_bytes: ByteSize = Field(
        ByteSize(64 << 20),
        ge=4096,
        description="Size of a file; room for all of it is reserved when it is begun. Old data goes file by file.",
    )
    retention_bytes: ByteSize = Field(
        ByteSize(4 << 30), ge=0, description="Above this size, the oldest files that everyone has read are deleted."
    )
    retention_age: Duration = Field(
        parse_duration("7d"), description="Files that everyone has read are deleted at this age."
    )
    max_bytes: ByteSize | None = Field(
        None,
        description="The journal is full at this size, however far behind a sink is; at least retention_bytes and "
        "segment_bytes together. Default: when the disk is full.",
    )
    on_full: Literal["stop", "drop_oldest_consumed"] = Field(
        "stop",
        description="When the journal or the disk is full. stop: receive nothing (the broker keeps the messages) until "
        "there is room again. drop_oldest_consumed: first delete the oldest files that everyone has read, although "
        "retention would keep them; if there are none, stop.",
    )

    @model_validator(mode="after")
    def _has_room_for_retention(self) -> Self:
        least = self.retention_bytes + self.segment_bytes
        if self.max_bytes is not None and self.max_bytes < least:
            raise ValueError(
                f"max_bytes ({self.max_bytes}) must be at least retention_bytes + segment_bytes ({least}), "
                "or what everyone has read fills the journal: raise it, or lower these"
            )
        return self
