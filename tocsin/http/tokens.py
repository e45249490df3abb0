"""Tokens that programs show (`Authorization: Bearer …`, RFC 6750): making, hashing and recognising them.

They are random and long, so that a fast hash is enough: nobody can try 2^256 of them. Not here: passwords.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable

from tocsin.http.roles import Principal

SHORTEST = 32
"""Characters of a token that somebody has made himself."""
LONGEST = 1_024
_PREFIX = "sha256:"
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, section 2.1."""


def new_token() -> str:
    """256 random bits, with a beginning by which scanners for leaked secrets can know it."""
    return "tocsin_" + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """For the configuration. Raises ValueError for what is no token, or too easily guessed."""
    if not SHORTEST <= len(token) <= LONGEST or not _TOKEN.fullmatch(token):
        raise ValueError(
            f"a token is {SHORTEST} to {LONGEST:,} letters, digits and -._~+/, made at random: `tocsin token` makes one"
        )
    return _hash(token)


def check_hash(hashed: str) -> None:
    """Raises ValueError for what is no hash of a token."""
    if not is_hash(hashed):
        raise ValueError("this is no hash of a token (sha256:…): `tocsin token` makes a token and prints its hash")


def is_hash(text: str) -> bool:
    """Whether it is written like the hash of a token."""
    return _HASH.fullmatch(text) is not None


def _hash(token: str) -> str:
    return _PREFIX + hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Tokens:
    """All that are good."""

    def __init__(self, known: Iterable[tuple[str, Principal]]) -> None:
        """`known`: hashes, each with who shows that token."""
        self._known = tuple(known)

    def owner(self, token: str) -> Principal | None:
        """Who shows it; None if nobody has it. Takes the same time for every token of a length."""
        shown, found = _hash(token[: LONGEST + 1]), None
        for hashed, principal in self._known:
            if hmac.compare_digest(hashed, shown):
                found = principal
        return found
