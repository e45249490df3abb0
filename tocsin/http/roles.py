"""Who asks, and what he may do. Not here: how it is found out (`access`)."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from tocsin.http.config import Role

__all__ = ["LOCAL", "Principal", "Role", "admit", "principal_of", "role_of"]
_KEY = "tocsin.principal"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks."""

    name: str
    role: Role


LOCAL = Principal("local", Role.OPERATOR)
"""Everyone on this machine, while nobody is configured who could log in; and its commands, always."""


def admit(scope: MutableMapping[str, Any], principal: Principal) -> None:
    """Note down who asks, for those who answer."""
    scope[_KEY] = principal


def principal_of(scope: MutableMapping[str, Any]) -> Principal | None:
    """Who asks; None if he has not said (only paths that are open to everyone get such requests)."""
    found = scope.get(_KEY)
    return found if isinstance(found, Principal) else None


def role_of(scope: MutableMapping[str, Any]) -> Role:
    """The role of who asks, of an ASGI scope (`request.scope`, `websocket.scope`); nobody may do more than a reader."""
    principal = principal_of(scope)
    return principal.role if principal is not None else Role.READER
