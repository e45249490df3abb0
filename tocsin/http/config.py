"""Where tocsin listens for HTTP, and who may ask: the models, and what may be listened on. Not here: the server."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

DEFAULT_PORT = 8100
MOST_NAMES = 1_000
_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_][a-z0-9_-]{0,62})*", re.IGNORECASE)
LET_IN_NOBODY = (
    "others than this machine must say who they are: write http.users: [{name: ada, password_hash: '…', role: "
    "operator}] (`tocsin password` prints the hash), or http.tokens (`tocsin token` makes one), or listen on 127.0.0.1"
)
"""Why a server that asks nobody does not listen for others, and what to do."""


class Role(StrEnum):
    """What somebody may do."""

    READER = "reader"
    OPERATOR = "operator"
    """Besides reading: everything that changes something."""


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:8100` or `[::1]:8100`; `0.0.0.0` and `[::]` are all addresses. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{text!r} is not HOST:PORT: write 127.0.0.1:{DEFAULT_PORT}, or port 0 for any that is free")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if bare == "localhost":
        bare = "127.0.0.1"
    try:
        is_written_right = (ipaddress.ip_address(bare).version == 6) == host.startswith("[")
    except ValueError:
        is_written_right = False
    if not is_written_right:
        raise ValueError(
            f"{host or 'nothing'!r} is no address of this machine: write 127.0.0.1:{port}, [::1]:{port}, or 0.0.0.0:"
            f"{port} for all addresses"
        )
    return bare, int(port)


def is_loopback(host: str) -> bool:
    """Whether an address (without brackets) can be reached from this machine only."""
    return ipaddress.ip_address(host).is_loopback


class UserConfig(BaseModel):
    """Somebody who logs in, in the browser."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64, description="Name to log in with.")
    password_hash: SecretStr | None = Field(
        None, description="Hash of the password (argon2id), as `tocsin password` prints it."
    )
    password_file: Path | None = Field(
        None, description="File whose first line is the password, or its hash. Read when tocsin starts."
    )
    role: Role = Field(Role.READER, description="reader: may see everything; operator: may change something, too.")

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.password_hash is None) == (self.password_file is None):
            raise ValueError(
                f"the user {self.name!r} needs either password_hash or password_file: `tocsin password` prints a hash"
            )
        return self

    @field_validator("password_hash")
    @classmethod
    def _is_hash(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            from tocsin.http.passwords import check_hash  # noqa: PLC0415  # imports argon2: not for every command

            check_hash(value.get_secret_value())
        return value


class TokenConfig(BaseModel):
    """A program that shows a token with each request (`Authorization: Bearer …`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64, description="Which program it is for.")
    token_hash: SecretStr | None = Field(None, description="Hash of the token (SHA-256), as `tocsin token` prints it.")
    token_file: Path | None = Field(
        None, description="File whose first line is the token, or its hash. Read when tocsin starts."
    )
    role: Role = Field(Role.READER, description="reader: may see everything; operator: may change something, too.")

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.token_hash is None) == (self.token_file is None):
            raise ValueError(
                f"the token {self.name!r} needs either token_hash or token_file: `tocsin token` makes a token"
            )
        return self

    @field_validator("token_hash")
    @classmethod
    def _is_hash(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            from tocsin.http.tokens import check_hash  # noqa: PLC0415  # beside the one of passwords

            check_hash(value.get_secret_value())
        return value


def _address(text: str) -> str:
    parse_address(text)
    return text


def _host_name(text: str) -> str:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        if not _HOST_NAME.fullmatch(text):
            raise ValueError(f"{text!r} is no host name: write for example tocsin.example.org, without port") from None
    return text.lower()


def _named_once(entries: list[UserConfig] | list[TokenConfig], what: str) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.name in seen:
            raise ValueError(f"the name {entry.name!r} is used twice: give each {what} its own")
        seen.add(entry.name)


class HttpConfig(BaseModel):
    """Console, API, metrics, health and status over HTTP; on this machine only, unless somebody may log in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(default=True, description="Whether to listen at all.")
    users: list[UserConfig] = Field(
        [],
        max_length=MOST_NAMES,
        description="Who may log in. As soon as there are users or tokens, nobody gets in without, on this machine "
        "neither.",
    )
    tokens: list[TokenConfig] = Field(
        [], max_length=MOST_NAMES, description="Programs that may ask without logging in."
    )
    listen: Annotated[str, AfterValidator(_address)] = Field(
        f"127.0.0.1:{DEFAULT_PORT}",
        description="Address and port; port 0: any that is free (it stands in http.json). 0.0.0.0: all addresses. Any "
        "but this machine's own (127.0.0.1, [::1]) needs users or tokens.",
    )
    hosts: list[Annotated[str, AfterValidator(_host_name)]] = Field(
        [],
        max_length=MOST_NAMES,
        description="Names by which browsers may call this server, besides its addresses; those of a proxy before it.",
    )
    cert_file: Path | None = Field(None, description="PEM file of the server's certificate: https instead of http.")
    key_file: Path | None = Field(None, description="PEM file of the key of cert_file, unless it is in the same file.")

    @field_validator("users")
    @classmethod
    def _users_differ(cls, value: list[UserConfig]) -> list[UserConfig]:
        _named_once(value, "user")
        return value

    @field_validator("tokens")
    @classmethod
    def _tokens_differ(cls, value: list[TokenConfig]) -> list[TokenConfig]:
        _named_once(value, "token")
        return value

    @field_validator("listen")
    @classmethod
    def _others_must_say_who_they_are(cls, value: str, info: ValidationInfo) -> str:
        known = info.data.get("users"), info.data.get("tokens")
        if known == ([], []) and info.data.get("enabled") and not is_loopback(parse_address(value)[0]):
            raise ValueError(LET_IN_NOBODY)
        return value

    @model_validator(mode="after")
    def _key_has_certificate(self) -> Self:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file")
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host without brackets, and port."""
        return parse_address(self.listen)

    @property
    def asks_for_login(self) -> bool:
        """Whether everyone must say who he is."""
        return bool(self.users or self.tokens)
