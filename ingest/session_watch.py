"""Watches over a session for what may be lost: the broker's memory of it, silence, and what is promised now.

Called by the network thread alone; others read `guarantees` and `losses`. Not here: the connection (`mqtt`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ingest import refusals
from ingest.arrivals import Arrivals
from ingest.config import MqttConfig
from ingest.guarantee import Announced, Guarantee, Guarantees, SessionFacts, SessionLoss, Wanted
from ingest.session_record import SessionRecord
from ingest.traffic import Traffic
from telemetry import Clock, Counters

_log = logging.getLogger("tocsin.ingest")
_TEND_SECONDS = 1.0


class SessionWatch:
    """Counter: `ingest.sessions_lost`."""

    def __init__(
        self,
        config: MqttConfig,
        filters: Sequence[str],
        wanted: Mapping[str, Wanted],
        record: Path | None,
        *,
        clock: Clock,
        counters: Counters,
    ) -> None:
        self._config, self._clock, self._counters = config, clock, counters
        self._record = SessionRecord(record, config)
        self._traffic = Traffic(filters)
        self._guarantees = Guarantees(config, filters, wanted, now=clock.now())
        self._granted: dict[str, int] = {}
        self._announced = Announced()
        self._connected_since = 0
        self._away_since: int | None = clock.now()
        self._forgotten = False
        self._tended = 0.0
        self.last_message = 0
        """Our clock at the last message, ns; 0 before the first."""

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        return self._guarantees.current

    @property
    def losses(self) -> tuple[SessionLoss, ...]:
        return tuple(self._record.losses)

    def connected(self, announced: Announced, *, session_present: bool) -> None:
        """The broker has let us in."""
        self._announced = announced
        self._connected_since, self._away_since = self._clock.now(), None
        # Until it has subscribed us anew: if this connection ends before, the next finds a session, but an empty one.
        self._forgotten |= self._record.known is not None and not session_present

    def subscribed(self, granted: Mapping[str, int]) -> None:
        """The broker has answered the subscriptions."""
        now = self._clock.now()
        if self._forgotten:
            loss = self._record.lost(now)
            self._forgotten = False
            self._counters.add("ingest.sessions_lost")
            _log.warning("%s", refusals.forgotten(self._config, loss.since, loss.until))
        self._granted = dict(granted)
        self._record.heard(now, save=True)
        self._judge()

    def messages(self, arrivals: Arrivals) -> None:
        """Messages have come."""
        self.last_message = arrivals.received
        self._traffic.note(arrivals)

    def tend(self) -> None:
        """As often as you like; does something once a second."""
        now = time.monotonic()
        if now - self._tended >= _TEND_SECONDS:
            self._tended = now
            self._remember(save=False)
            self._judge()

    def left(self) -> None:
        """The connection has ended, if there was one."""
        if self._away_since is None:
            self._remember(save=True)
            self._away_since = self._clock.now()
            self._judge()

    def _remember(self, *, save: bool) -> None:
        """That the broker has our session: a silence of two keepalives would have ended the connection."""
        if self._away_since is None and self._granted and not self._forgotten:
            keepalive = self._announced.keepalive or self._config.keepalive
            sure = max(self.last_message, self._connected_since, self._clock.now() - 2 * keepalive)
            self._record.heard(sure, save=save)

    def _judge(self) -> None:
        facts = SessionFacts(
            now=self._clock.now(),
            granted=self._granted,
            announced=self._announced,
            away_since=self._away_since,
            connected_since=self._connected_since,
            losses=self.losses,
        )
        self._guarantees.update(facts, self._traffic.heard)
