"""The secrets of the configuration, from its files too: who may log in, and which tokens are good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from telemetry import ConfigError, Problem
from tocsin.http.config import HttpConfig
from tocsin.http.roles import LOCAL, Principal
from tocsin.http.tokens import hash_token, is_hash


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in."""

    principal: Principal
    password_hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Everyone who may ask."""

    users: Sequence[User] = ()
    tokens: Sequence[tuple[str, Principal]] = field(default=(), repr=False)
    """Hash, and who shows that token."""

    @classmethod
    def load(cls, config: HttpConfig, local_token: str = "") -> Credentials:
        """Those of the configuration and, if there is one, the token of the commands of this machine.

        Raises ConfigError with all that cannot be used.
        """
        problems: list[Problem] = []
        users, tokens = [], []
        for i, user in enumerate(config.users):
            found = _secret(user.password_hash, user.password_file, _hash_of_password, ("users", i), problems)
            users.append(User(Principal(user.name, user.role), found))
        for i, token in enumerate(config.tokens):
            found = _secret(token.token_hash, token.token_file, _hash_of_token, ("tokens", i), problems)
            tokens.append((found, Principal(token.name, token.role)))
        if problems:
            raise ConfigError(problems)
        if local_token:
            tokens.append((hash_token(local_token), LOCAL))
        return cls(users, tokens)


def _secret(
    hashed: SecretStr | None,
    file: Path | None,
    hash_of: Callable[[str], str],
    place: tuple[str, int],
    problems: list[Problem],
) -> str:
    """The hash, as it is or of what the file's first line says; empty if there is a problem with that."""
    if hashed is not None:
        return hashed.get_secret_value()
    key = "password_file" if place[0] == "users" else "token_file"
    try:
        lines = Path(file or "").read_text().splitlines()
        return hash_of(lines[0] if lines else "")
    except OSError as error:
        reason = error.strerror or str(error)
    except UnicodeDecodeError:
        reason = "it is no text"
    except ValueError as error:
        reason = str(error)
    message = f"http.{place[0]}: cannot use the {key} {file}: {reason}"
    problems.append(Problem(message, loc=("http", *place, key)))
    return ""


def _hash_of_password(text: str) -> str:
    from tocsin.http.passwords import check_hash, hash_password  # noqa: PLC0415  # argon2, only if somebody needs it

    if not text.startswith("$argon2"):
        return hash_password(text)
    check_hash(text)
    return text


def _hash_of_token(text: str) -> str:
    return text if is_hash(text) else hash_token(text)
