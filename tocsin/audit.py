"""Audit: once a second, whether the books balance and all is well; raises tocsin's own alerts.

Here: when an imbalance is real, and the thread. Not here: the books (`accounts`), the alerts (`own_alerts`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from telemetry import Clock, TocsinError
from tocsin.own_alerts import OwnAlerts, Trouble, imbalance
from tocsin.status import AccountRow

_log = logging.getLogger("tocsin.audit")
_EVERY_SECONDS = 1.0
_LOOKS = 10
_PAUSE_SECONDS = 0.003
_STAYS = 5


class Audit:
    """Runs in a thread of its own from `start` to `stop`; other threads may read its public attributes.

    Books that are read while the pipeline works may be off by what moves on just then. So a stage that does not balance
    is looked at ten times within some milliseconds, and what balances once is sound. Only what never does, in five
    looks a second apart, is an imbalance. What is really missing is missing in all of them.
    """

    def __init__(
        self,
        rows: Callable[[], tuple[AccountRow, ...]],
        troubles: Callable[[], Iterable[Trouble]],
        own_alerts: OwnAlerts,
        *,
        clock: Clock,
        tell: bool = True,
    ) -> None:
        """`tell`: whether alerts are raised; without, those of earlier runs are resolved."""
        self._rows, self._troubles, self._own_alerts = rows, troubles, own_alerts
        self._clock, self._tell = clock, tell
        self._off: dict[str, int] = {}
        """By stage: in how many looks on end it did not balance."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tocsin-audit", daemon=True)
        self.imbalances: dict[str, AccountRow] = {}
        """By stage: what does not balance, and has not for five looks."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        told = ""
        while not self._stopping.wait(_EVERY_SECONDS):
            try:
                self.look()
                told = ""
            except Exception as error:  # noqa: BLE001  # nobody would notice a dead thread
                if str(error) != told:
                    expected = isinstance(error, TocsinError)
                    _log.warning("cannot check the books (%s): trying again", error, exc_info=not expected)
                told = str(error)

    def look(self) -> None:
        """One look at everything. Raises what reading the books raises."""
        rows = self.settled()
        off = {row.stage: row for row in rows if not row.is_balanced}
        self._off = {stage: self._off.get(stage, 0) + 1 for stage in off}
        found = {stage: row for stage, row in off.items() if self._off[stage] >= _STAYS}
        for stage in found.keys() - self.imbalances.keys():
            _log.error("the books do not balance: %s: this is a bug, please report it", found[stage])
        for stage in self.imbalances.keys() - found.keys():
            _log.warning("the books of %s balance again", stage)
        self.imbalances = found
        wrong = [imbalance(stage, row.missing, str(row)) for stage, row in found.items()]
        everything = [*wrong, *self._troubles()] if self._tell else []
        self._own_alerts.look(everything, now=self._clock.now(), at=time.monotonic_ns())

    def settled(self) -> tuple[AccountRow, ...]:
        """The books, each stage as it is when it balances, if it does so within some milliseconds. For any thread."""
        rows = {row.stage: row for row in self._rows()}
        for _ in range(_LOOKS - 1):
            if all(row.is_balanced for row in rows.values()):
                break
            time.sleep(_PAUSE_SECONDS)
            again = self._rows()
            rows |= {row.stage: row for row in again if not rows[row.stage].is_balanced}
        return tuple(rows.values())
