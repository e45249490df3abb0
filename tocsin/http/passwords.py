"""Passwords: their hashes (argon2id, RFC 9106), and whether one is right. Here: argon2.

Not here: how often one may try (`attempts`), what a login gives (`sessions`).
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import argon2

from telemetry import TocsinError

SHORTEST = 8
"""Characters; NIST SP 800-63B, section 5.1.1.2."""
LONGEST = 1_024
"""Characters: more is not hashed."""
_MOST_MEMORY_KIB = 1 << 20
_MOST_WAITING = 16
_THREADS = 2


class Busy(TocsinError):
    """Too many passwords wait to be checked."""


class Hasher(Protocol):
    """Compares hashes, slowly."""

    def verify(self, hashed: str, password: str) -> bool:
        """Whether the password is the one that was hashed."""
        ...


class Argon2:
    """argon2id with the library's parameters, which follow RFC 9106; hashes carry their own."""

    def __init__(self) -> None:
        self._hasher = argon2.PasswordHasher()

    def hash(self, password: str) -> str:
        return self._hasher.hash(_normal(password))

    def verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, _normal(password))
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False


def _normal(password: str) -> bytes:
    """The same bytes for what looks the same, whatever the keyboard makes of it (NIST SP 800-63B: NFKC)."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def hash_password(password: str) -> str:
    """For the configuration. Raises ValueError if it is too short or too long."""
    if len(password) < SHORTEST:
        raise ValueError(f"the password is too short: use at least {SHORTEST} characters, best a few words")
    if len(password) > LONGEST:
        raise ValueError(f"the password is too long: use at most {LONGEST:,} characters")
    return Argon2().hash(password)


def check_hash(hashed: str) -> None:
    """Raises ValueError for what is no argon2id hash, or one that would take this machine's memory."""
    try:
        parameters = argon2.extract_parameters(hashed)
        right = parameters.type is argon2.Type.ID and parameters.hash_len >= 16 and parameters.salt_len >= 8
    except (argon2.exceptions.InvalidHashError, ValueError):
        right = False
    if not right:
        raise ValueError("this is no argon2id hash ($argon2id$…): print one with `tocsin password`")
    if parameters.memory_cost > _MOST_MEMORY_KIB or parameters.time_cost > 100:
        raise ValueError(
            "to check this hash would take more than 1 GiB or 100 rounds: print another, `tocsin password`"
        )


class Passwords:
    """Those of all users. Each question costs the same, whether the user exists or not."""

    def __init__(self, hashes: Mapping[str, str], hasher: Hasher | None = None) -> None:
        """`hashes`: by user."""
        self._hashes = dict(hashes)
        self._hasher = hasher if hasher is not None else Argon2()
        self._instead = next(iter(hashes.values()), "")
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tocsin-password")
        self._waiting = 0

    async def are_right(self, user: str, password: str) -> bool:
        """Whether this user has this password; in a thread, a few at a time. Raises Busy."""
        if not self._hashes or len(password) > LONGEST:
            return False
        if self._waiting >= _MOST_WAITING:
            raise Busy("too many people log in at this moment: try again in a few seconds")
        self._waiting += 1
        try:
            hashed = self._hashes.get(user)
            question = self._hashes.get(user, self._instead)
            same = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._hasher.verify, question, password
            )
        finally:
            self._waiting -= 1
        return same and hashed is not None
