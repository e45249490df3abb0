"""Sessions of those who have logged in: kept here, in memory, named by a random id that only the browser knows.

They end when they are not used, when they are old, at logout, and with the process. The time is an argument.
Not here: the cookie (`login`).
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass

from tocsin.http.roles import Principal

IDLE_SECONDS = 12 * 3_600.0
"""An open page of the console counts as use."""
LONGEST_SECONDS = 7 * 24 * 3_600.0
MOST_SESSIONS = 1_000
MOST_OF_USER = 20


@dataclass(slots=True)
class Session:
    """One browser of one user."""

    principal: Principal
    begun: float
    used: float

    def is_over(self, now: float) -> bool:
        return now - self.used >= IDLE_SECONDS or now - self.begun >= LONGEST_SECONDS


class Sessions:
    """All of them; at most `MOST_SESSIONS`, and `MOST_OF_USER` of one user: those unused for longest end first."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()  # the least recently used comes first

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, principal: Principal, now: float) -> str:
        """A new one. Returns its id: 256 random bits, which are kept nowhere."""
        self._tidy(now)
        own = [key for key, session in self._sessions.items() if session.principal.name == principal.name]
        for key in own[: max(0, len(own) - MOST_OF_USER + 1)]:
            del self._sessions[key]
        while len(self._sessions) >= MOST_SESSIONS:
            self._sessions.popitem(last=False)
        id_ = secrets.token_urlsafe(32)
        self._sessions[_key(id_)] = Session(principal, now, now)
        return id_

    def use(self, id_: str, now: float) -> Principal | None:
        """Who has it; None if there is none of that id (any more)."""
        key = _key(id_)
        session = self._sessions.get(key)
        if session is None:
            return None
        if session.is_over(now):
            del self._sessions[key]
            return None
        session.used = now
        self._sessions.move_to_end(key)
        return session.principal

    def end(self, id_: str) -> None:
        """It is over, if there is one."""
        self._sessions.pop(_key(id_), None)

    def _tidy(self, now: float) -> None:
        for key in [key for key, session in self._sessions.items() if session.is_over(now)]:
            del self._sessions[key]


def _key(id_: str) -> bytes:
    """What is looked up is a hash, so that the time it takes tells nothing of the ids."""
    return hashlib.sha256(id_.encode("utf-8", "surrogatepass")).digest()
