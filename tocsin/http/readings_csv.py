"""/api/v1/tocsin/readings.csv: stored readings, and expressions over them, as a table that is sent bit by bit.

Not here: charts and pages, which have fewer points.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray

import rules
from rules.query import Element
from rules.syntax import Selector
from tocsin.backend import Backend
from tocsin.http import prometheus_parameters as parameters
from tocsin.http.prometheus_answers import ApiError
from tocsin.http.resource import resources
from tocsin.words import exact, iso

MOST_QUERIES = 8
MOST_CELLS = 2_000_000
"""Steps × elements of an expression that is no plain selector."""
MOST_SAMPLES = 10_000_000
"""That one expression may read"""
_ROWS_AT_ONCE = 5_000
Samples = dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]
_Queries = Annotated[list[str], Query(min_length=1, max_length=MOST_QUERIES, description="PromQL expressions.")]
_Instant = Annotated[str, Query(max_length=100, description=parameters.INSTANT)]
_Step = Annotated[
    str,
    Query(max_length=100, description=f"Between evaluations of what is no plain selector. {parameters.DURATION}"),
]


def router(backend: Backend) -> APIRouter:
    """Its route."""
    routes = resources("readings")

    @routes.get(
        "/readings.csv",
        summary="Readings as CSV: time,series,value",
        operation_id="export_readings",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "The readings."}},
    )
    def readings(query: _Queries, start: _Instant, end: _Instant, step: _Step = "60") -> StreamingResponse:
        """A plain selector gives each reading as it is stored, anything else is evaluated every `step`."""
        first, last = (
            parameters.within_reach(name, parameters.instant(name, text))
            for name, text in (("start", start), ("end", end))
        )
        if last <= first:
            raise parameters.invalid("end", "it must lie after start")
        every = parameters.duration("step", step) or 60 * 10**9
        if every < 0:
            raise parameters.invalid("step", "it must be longer than 0")
        try:
            parts = [_of(backend, text, first, last, every) for text in query]
        except rules.ExpressionError as error:
            raise ApiError("bad_data", f'invalid parameter "query": {error}') from None
        return StreamingResponse(
            _table(element for part in parts for element in part),
            media_type="text/csv",
            headers={"Content-Disposition": 'attachment; filename="tocsin.csv"'},
        )

    return routes


def _of(backend: Backend, text: str, start: int, end: int, step: int) -> Iterable[tuple[str, Element]]:
    """Name and element of what a query gives. Raises ExpressionError, at once."""
    expression = rules.parse(text)
    table = backend.table
    if isinstance(expression, Selector) and expression == Selector(expression.matchers):
        return _stored(backend, [int(id_) for id_ in rules.select(text, table)], start, end)
    store = backend.store

    def read(ids: list[int], t0: int, t1: int) -> Samples:
        if store.most_rows(ids, t0, t1) > MOST_SAMPLES:
            raise rules.ExpressionError(
                f"it needs over {MOST_SAMPLES:,} samples: choose a shorter time or fewer series"
            )
        return store.read_many(ids, t0, t1)

    own = backend.own_staleness()
    stored = rules.Stored(table, read, own_staleness=own, most_cells=MOST_CELLS, read_at=store.read_at)
    return [(_name(found[0]) or text, found) for found in rules.on_grid(expression, stored, start, end, step)]


def _stored(backend: Backend, ids: list[int], start: int, end: int) -> Iterator[tuple[str, Element]]:
    table, store = backend.table, backend.store
    for id_ in ids:  # one by one, so that no more than one series is held
        yield str(table[id_]), ({}, *store.read(id_, start, end))


def _table(found: Iterable[tuple[str, Element]]) -> Iterator[str]:
    buffer = io.StringIO()
    out = csv.writer(buffer, lineterminator="\n")
    out.writerow(("time", "series", "value"))
    for name, (_, time, value) in found:
        for at in range(0, len(time), _ROWS_AT_ONCE):
            some = slice(at, at + _ROWS_AT_ONCE)
            rows = zip(time[some].tolist(), value[some].tolist(), strict=True)
            out.writerows((iso(t), name, exact(v)) for t, v in rows)
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _name(labels: dict[str, str]) -> str:
    inner = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()) if name != "__name__")
    return labels.get("__name__", "") + (f"{{{inner}}}" if inner else "")
