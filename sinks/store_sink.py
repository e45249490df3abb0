"""StoreSink: readings into the embedded store, and the thread that keeps that store small.

Here: the store's configuration, which rows are written, when retention and compaction run. Not here: how they work.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sinks.store import Store
from telemetry import DUPLICATE, Clock, ReadingBatch, TocsinError, parse_duration

_log = logging.getLogger("tocsin.sinks")
_RETAIN_SECONDS = 600.0
_DAY = 86_400 * 10**9


class StoreConfig(BaseModel):
    """The embedded store of readings. Its place is given by data_dir."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    retention: Annotated[int, BeforeValidator(parse_duration)] = Field(
        default=30 * _DAY,
        ge=0,
        description="How long readings are kept, by their own time, for example 30d; 0: for ever.",
    )


class StoreSink:
    """A Sink. Owns the store: closes it, and compacts it from a thread of its own."""

    def __init__(self, store: Store, *, retention: int, clock: Clock, name: str = "store", pause: float = 1.0) -> None:
        """`retention`: ns, 0 for ever. `pause`: seconds between two looks at what there is to compact."""
        self._store, self._retention, self._clock, self._name = store, retention, clock, name
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._maintain, name=f"tocsin-{name}-compaction", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return self._name

    @property
    def store(self) -> Store:
        """For reading."""
        return self._store

    def write(self, batch: ReadingBatch) -> None:
        """Durable on return. Duplicates are left out: the reading they repeat was written before them."""
        new = (batch.flags & DUPLICATE) == 0
        rows = batch if new.all() else batch.select(new)
        self._store.append(rows.series, rows.time, rows.value)

    def close(self) -> None:
        self._stop.set()
        self._store.stop_compaction()
        self._thread.join()
        self._store.close()

    def _maintain(self) -> None:
        told, retained = "", -_RETAIN_SECONDS
        while not self._stop.is_set():
            try:
                if self._retention and time.monotonic() - retained >= _RETAIN_SECONDS:
                    self._store.retain(self._clock.now() - self._retention)
                    retained = time.monotonic()
                while self._store.compact():
                    pass
                told = ""
            except Exception as error:  # noqa: BLE001  # the thread must outlive whatever it meets, or the log never shrinks
                # The appends go on, or stop with the same error; it is said once, and tried again.
                expected = isinstance(error, TocsinError)
                why = str(error) if expected else f"unexpected {type(error).__name__}: {error}"
                if why != told:
                    told = why
                    _log.warning("compacting the store: %s", why, exc_info=None if expected else error)
            self._stop.wait(self._pause)
