"""Which series, labels and metrics there are. Not here: their values."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import Response
from numpy.typing import NDArray

import rules
from telemetry import SeriesTable
from telemetry.series import LABEL_NAME
from tocsin.backend import Backend
from tocsin.http import prometheus_parameters as parameters
from tocsin.http.prometheus_answers import ApiError, misplaced, success
from tocsin.http.prometheus_parameters import SeriesQuery
from tocsin.http.prometheus_query import TRUNCATED, Deadline, Gate, known_series

MOST_SERIES = 100_000
"""In one answer."""
_MOST_SELECTORS = 1_000
_UNITS = (
    "amperes", "bytes", "celsius", "grams", "hertz", "joules", "meters", "pascals", "percent", "ratio", "seconds",
    "volts", "watts",
)  # fmt: skip
"""OpenMetrics has the unit at the end of a metric's name, before _total."""


class Metadata:
    """Answers /series, /labels, /label/…/values and /metadata."""

    def __init__(self, backend: Backend, gate: Gate) -> None:
        self._backend, self._gate = backend, gate

    def series(self, asked: SeriesQuery) -> Response:
        """Label sets. Raises ApiError."""
        if not asked.match:
            raise ApiError("bad_data", "no match[] parameter provided")
        table, ids = self._selected(asked)
        limit = min(parameters.limit(asked.limit) or MOST_SERIES, MOST_SERIES)
        found = [{"__name__": table[i].metric, **dict(table[i].labels)} for i in ids.tolist()[:limit]]
        return success(found, [TRUNCATED] if len(ids) > limit else [])

    def labels(self, asked: SeriesQuery) -> Response:
        """Names of labels. Raises ApiError."""
        table, ids = self._selected(asked)
        names = {name for i in ids.tolist() for name, _ in table[i].labels}
        return _listed({"__name__", *names} if len(ids) else names, asked.limit)

    def values(self, name: str, asked: SeriesQuery) -> Response:
        """Values of a label. Raises ApiError."""
        if not LABEL_NAME.fullmatch(name):
            raise ApiError("bad_data", f'invalid label name: "{name}"')
        if not (asked.match or asked.start or asked.end):
            return _listed(set(known_series(self._backend).values(name)), asked.limit)
        table, ids = self._selected(asked)
        return _listed({value for i in ids.tolist() if (value := table[i].label(name))}, asked.limit)

    def metrics(self, metric: str, limit: str, limit_per_metric: str) -> Response:
        """What is known of each metric. Raises ApiError."""
        most, each = parameters.limit(limit), parameters.limit(limit_per_metric)
        del each  # there is one entry for each metric anyway
        names = known_series(self._backend).values("__name__")
        if metric:
            names = [name for name in names if name == metric]
        recorded = {
            rule.record: f"recorded by {rule.id}: {rule.expr}"
            for group in self._backend.groups
            for rule in group.rules
            if isinstance(rule, rules.Record)
        }
        return success({name: [_described(name, recorded.get(name, ""))] for name in names[:most]})

    def _selected(self, asked: SeriesQuery) -> tuple[SeriesTable, NDArray[np.int64]]:
        """Ids of the series that any selector matches, ascending, without those that ended before `start`.

        That is what the newest readings tell at once; series that began after `end`, or were silent in between, are
        left in (upstream, which looks at blocks of hours, is not exact either).
        """
        start = parameters.instant("start", asked.start, -parameters.FARTHEST)
        end = parameters.instant("end", asked.end, parameters.FARTHEST)
        table = known_series(self._backend)
        if len(asked.match) > _MOST_SELECTORS:
            raise ApiError("bad_data", f"more than {_MOST_SELECTORS} match[] parameters")
        with self._gate.entered(deadline := Deadline()):
            ids = np.arange(len(table))
            if asked.match:
                ids = np.unique(np.concatenate([_matched(text, table, deadline) for text in asked.match]))
            if end < start:
                ids = ids[:0]
            elif asked.start and len(ids):
                ids = ids[self._backend.store.latest(ids.astype(np.int32))[0] >= start]
        order = sorted(ids.tolist(), key=lambda id_: (table[id_].metric, table[id_].labels))
        return table, np.array(order, np.int64)


def _matched(text: str, table: SeriesTable, deadline: Deadline) -> NDArray[np.int64]:
    deadline.check()
    try:
        return rules.select(text, table)
    except rules.ExpressionError as error:
        raise misplaced("match[]", text, error) from None


def _listed(texts: set[str], limit: str) -> Response:
    most = parameters.limit(limit)
    kept = sorted(texts)[:most]
    return success(kept, [TRUNCATED] if len(kept) < len(texts) else [])


def _described(metric: str, help_: str) -> dict[str, Any]:
    """Type and unit are told by the name alone, as OpenMetrics writes it: devices do not say."""
    stem = metric.removesuffix("_total")
    unit = next((unit for unit in _UNITS if stem.endswith(f"_{unit}")), "")
    kind = "unknown" if help_ else "counter" if stem != metric else "gauge"
    return {"type": kind, "help": help_, "unit": unit}
