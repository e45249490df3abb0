"""Queries over what is stored: evaluated two at a time beside ingestion, each within limits of size and time.

Here: the limits, and the answers of /query and /query_range. Not here: evaluation (rules), reading (sinks.store).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson
from fastapi import Response
from numpy.typing import NDArray

import rules
from rules.query import Element
from sinks.store import Store
from telemetry import SeriesTable
from tocsin.backend import Backend
from tocsin.http import prometheus_parameters as parameters
from tocsin.http.prometheus_answers import ApiError, enveloped, matrix, misplaced, seconds, vector
from tocsin.http.prometheus_parameters import InstantQuery, RangeQuery
from tocsin.words import exact

MOST_POINTS = 11_000
"""Of one series in an answer, as upstream."""
MOST_CELLS = 2_000_000
"""Series × points of an answer."""
MOST_SAMPLES = 20_000_000
"""That one query may read."""
MOST_AT_ONCE = 2
MOST_WAITING = 16
"""Queries; each keeps a thread of the server."""
MOST_SECONDS = 60.0
_READ_TOGETHER = 2_000
"""Series."""
_MOST_TOGETHER = 5_000_000
"""Samples."""
TRUNCATED = "results truncated due to limit"

Samples = dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]


class Gate:
    """Lets in so many at once; some more may wait, and nobody longer than he has time."""

    def __init__(self, at_once: int = MOST_AT_ONCE, waiting: int = MOST_WAITING) -> None:
        self._free, self._most_waiting = threading.Semaphore(at_once), waiting
        self._lock, self._waiting = threading.Lock(), 0

    @contextmanager
    def entered(self, deadline: Deadline) -> Iterator[None]:
        """Raises ApiError if there are too many, or if it takes too long."""
        with self._lock:
            if self._waiting >= self._most_waiting:
                raise ApiError("unavailable", f"{self._waiting} queries wait already: try again in a moment")
            self._waiting += 1
        try:
            entered = self._free.acquire(timeout=deadline.left)
        finally:
            with self._lock:
                self._waiting -= 1
        if not entered:
            raise ApiError("timeout", "query timed out while it waited for others: try again in a moment")
        try:
            yield
        finally:
            self._free.release()


class Deadline:
    """Until when a query must be answered. It is kept while queries wait, between reads, between parts of the work."""

    def __init__(self, seconds: float = MOST_SECONDS) -> None:
        self._end = time.monotonic() + seconds

    @classmethod
    def of(cls, text: str) -> Deadline:
        """Of the parameter `timeout`. Raises ApiError."""
        if not text:
            return cls()
        return cls(min(MOST_SECONDS, parameters.duration("timeout", text) / 1e9))

    @property
    def left(self) -> float:
        """s, not less than 0."""
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raises ApiError when it is past."""
        if not self.left:
            raise ApiError("timeout", "query timed out in expression evaluation: ask for less, or with a larger step")


class Queries:
    """Answers /query and /query_range."""

    def __init__(self, backend: Backend, gate: Gate) -> None:
        self._backend, self._gate = backend, gate

    def instant(self, asked: InstantQuery) -> Response:
        """Raises ApiError."""
        now = self._backend.clock.now() // 10**6 * 10**6
        at = parameters.within_reach("time", parameters.instant("time", asked.time, now))
        limit, deadline = parameters.limit(asked.limit), Deadline.of(asked.timeout)
        _parsed(asked.query)
        with self._gate.entered(deadline):
            try:
                answer = rules.query_instant(asked.query, self._stored(asked.lookback_delta, deadline), at)
            except rules.ExpressionError as error:
                raise ApiError("execution", str(error)) from None
            kept, warnings = limited(answer.elements, limit)
            match answer.kind:
                case "scalar":
                    [(_, _, value)] = answer.elements
                    result, warnings = _pair(at, exact(value[0])), []
                case "string":
                    result = _pair(at, answer.text)
                case "matrix":
                    result = matrix(kept)
                case _:
                    result = vector(kept)
        return _result(answer.kind, result, warnings)

    def range(self, asked: RangeQuery) -> Response:
        """Raises ApiError."""
        start, end = (
            parameters.within_reach(name, parameters.instant(name, text))
            for name, text in (("start", asked.start), ("end", asked.end))
        )
        if end < start:
            raise parameters.invalid("end", "end timestamp must not be before start time")
        step = parameters.duration("step", asked.step) // 10**6 * 10**6
        if step <= 0:
            why = "zero or negative query resolution step widths are not accepted. Try a positive integer"
            raise parameters.invalid("step", why)
        if (end - start) // step > MOST_POINTS:
            raise ApiError(
                "bad_data",
                "exceeded maximum resolution of 11,000 points per timeseries. "
                "Try decreasing the query resolution (?step=XX)",
            )
        limit, deadline = parameters.limit(asked.limit), Deadline.of(asked.timeout)
        expression = _parsed(asked.query, of_range=True)
        with self._gate.entered(deadline):
            try:
                found = rules.on_grid(expression, self._stored(asked.lookback_delta, deadline), start, end, step)
            except rules.ExpressionError as error:
                raise ApiError("execution", str(error)) from None
            kept, warnings = limited(found, limit)
            return _result("matrix", matrix(kept), warnings)

    def _stored(self, lookback: str, deadline: Deadline) -> rules.Stored:
        """What a query sees. Raises ApiError."""
        staleness = parameters.duration("lookback_delta", lookback) if lookback else 0
        own = self._backend.own_staleness()  # before the table: all of these are in it

        def read(ids: list[int], first: int, end: int) -> Samples:
            found: Samples = {}
            read = 0
            while len(found) < len(ids):
                deadline.check()
                some = _together(self._backend.store, ids[len(found) :], first, end)
                rows = self._backend.store.read_many(some, first, end)
                read += sum(len(times) for times, _ in rows.values())
                if read > MOST_SAMPLES:
                    raise _too_many()
                found |= rows
            return found

        def read_at(ids: list[int], instants: NDArray[np.int64], reach: int) -> tuple[NDArray[Any], NDArray[Any]]:
            return self._backend.store.read_at(ids, instants, reach)

        return rules.Stored(
            known_series(self._backend),
            read,
            staleness if staleness > 0 else rules.STALENESS,
            own_staleness={} if staleness > 0 else own,
            most_cells=MOST_CELLS,
            pause=deadline.check,
            read_at=read_at,
        )


def _together(store: Store, ids: list[int], first: int, end: int) -> list[int]:
    """The first of these series, as many as are well read at once. Raises ExpressionError."""
    some = ids[:_READ_TOGETHER]
    while (rows := store.most_rows(some, first, end)) > _MOST_TOGETHER and len(some) > 1:
        some = some[: len(some) // 2]
    if rows > MOST_SAMPLES + _MOST_TOGETHER:
        raise _too_many()
    return some


def _too_many() -> rules.ExpressionError:
    return rules.ExpressionError(f"it needs more than {MOST_SAMPLES} samples: use a shorter time or fewer series")


def known_series(backend: Backend) -> SeriesTable:
    """The series that there are; none before the first reading."""
    return backend.table if backend.data.series.exists() else SeriesTable()


def limited(elements: list[Element], limit: int | None) -> tuple[list[Element], list[str]]:
    """The first ones, and the warning if these are not all."""
    if limit is None or len(elements) <= limit:
        return elements, []
    return elements[:limit], [TRUNCATED]


def _parsed(text: str, *, of_range: bool = False) -> rules.Expression:
    """Raises ApiError with the place of what is wrong."""
    try:
        return rules.parse(text) if of_range else rules.parse_any(text)
    except rules.ExpressionError as error:
        raise misplaced("query", text, error) from None


def _pair(at: int, text: str) -> bytes:
    return b"[%b,%b]" % (seconds(at), orjson.dumps(text))


def _result(kind: str, result: bytes, warnings: list[str]) -> Response:
    return enveloped([b'{"resultType":"%b","result":' % kind.encode(), result, b"}"], warnings)
