"""PromQL's functions of range vectors, for float samples, by name. Here: what each gives for a window.

Not here: finding the samples of a window (History.after), absent_over_time (which is about series that are not there).
Cost: those in window_scans (quantile_over_time, mad_over_time, double_exponential_smoothing, ts_of_min_over_time,
ts_of_max_over_time) look at every sample of a window; the lowest and highest take O(log samples); all others two rows.
Source: prometheus promql/functions.go and docs/querying/functions.md, version 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rules import extremes, window_few, window_moments, window_rates, window_scans
from rules.arithmetic import Floats
from rules.columns import all_of, where
from rules.history import Window
from rules.prefix import COUNTS, DROPS, HIGHEST, LOWEST, SQUARE, SUM, TREND
from rules.window_sums import Ends, changes, ends, resets, select

Bools = NDArray[np.bool_]

Check = Callable[..., tuple[Bools, str]]


@dataclass(frozen=True)
class WindowFunction:
    """A function of windows and of scalars."""

    compute: Callable[..., Floats]
    """(Ends of windows with at least `least` samples, *parameters) → value; warnings of numpy are off"""
    channels: frozenset[str] = frozenset()
    """What it needs of the History"""
    least: int = 1
    """Samples below which there is no result"""
    few: Callable[[Window], Floats | None] | None = None
    """The same of few windows with few samples, where it can do that; each has `least` samples"""
    check: Check | None = None
    """(*parameters) → where they are in error, and how: at those rows there is no result and the expression fails, if
    the window has any sample"""

    def evaluate(self, window: Window, *parameters: Floats) -> tuple[Floats, Bools]:
        """(value, present), (n,); parameters: (n,) each, in the order of the text."""
        present = window.hi - window.lo >= self.least
        if self.check is not None:
            present &= ~self.check(*parameters)[0]
        with np.errstate(all="ignore"):
            if all_of(present):
                return self._of(window, *parameters), present
            rows = where(present)
            value = np.full(len(present), np.nan)
            value[rows] = self._of(select(window, rows), *(p[rows] for p in parameters))
        return value, present

    def _of(self, window: Window, *parameters: Floats) -> Floats:
        if self.few is not None and (found := self.few(window)) is not None:
            return found
        if self.channels:
            window.history.sum_up(window.series)
        return self.compute(ends(window), *parameters)


def _smoothing_factors(smoothing: Floats, trend: Floats) -> tuple[Bools, str]:
    wrong = (smoothing <= 0) | (smoothing >= 1) | (trend <= 0) | (trend >= 1)  # NaN passes, as upstream
    return wrong, "the factors of double_exponential_smoothing must lie between 0 and 1, both excluded"


def _last(at: Ends) -> Floats:
    return at.values[1]


def _first(at: Ends) -> Floats:
    return at.values[0]


def _seconds(time: NDArray[np.int64]) -> Floats:
    return np.asarray(time / 1e9)


def _extreme(at: Ends, name: str) -> Floats:
    window = at.window
    history = window.history
    return extremes.extreme(history.layout, history.rings, name, window.series, window.lo, window.hi) + 0.0  # not -0


def _time_of_extreme(at: Ends, name: str) -> Floats:
    return _seconds(window_scans.time_of(at.window, _extreme(at, name)))


def _functions() -> dict[str, WindowFunction]:
    of = WindowFunction
    sums = frozenset({COUNTS, SUM})
    squares, trends = sums | {SQUARE}, sums | {TREND}
    counter = frozenset({COUNTS, DROPS})
    return {
        "avg_over_time": of(window_moments.average, sums, few=window_few.average),
        "sum_over_time": of(window_moments.total, sums, few=window_few.total),
        "stddev_over_time": of(lambda at: np.sqrt(window_moments.variance(at)), squares),
        "stdvar_over_time": of(window_moments.variance, squares),
        "count_over_time": of(lambda at: at.count),
        "present_over_time": of(lambda at: np.ones(len(at.first))),
        "last_over_time": of(_last),
        "first_over_time": of(_first),
        "min_over_time": of(partial(_extreme, name=LOWEST), frozenset({LOWEST}), few=window_few.lowest),
        "max_over_time": of(partial(_extreme, name=HIGHEST), frozenset({HIGHEST}), few=window_few.highest),
        "ts_of_min_over_time": of(partial(_time_of_extreme, name=LOWEST), frozenset({LOWEST})),
        "ts_of_max_over_time": of(partial(_time_of_extreme, name=HIGHEST), frozenset({HIGHEST})),
        "ts_of_last_over_time": of(lambda at: _seconds(at.times[1])),
        "ts_of_first_over_time": of(lambda at: _seconds(at.times[0])),
        "quantile_over_time": of(lambda at, q: window_scans.quantile(at.window, q)),
        "mad_over_time": of(lambda at: window_scans.mad(at.window)),
        "double_exponential_smoothing": of(
            lambda at, smoothing, trend: window_scans.smoothed(at.window, smoothing, trend),
            least=2,
            check=_smoothing_factors,
        ),
        "changes": of(lambda at: changes(at.steps()).astype(np.float64), frozenset({COUNTS})),
        "resets": of(lambda at: resets(at.steps()).astype(np.float64), frozenset({COUNTS})),
        "rate": of(partial(window_rates.extrapolated, counter=True, per_second=True), counter, 2),
        "increase": of(partial(window_rates.extrapolated, counter=True, per_second=False), counter, 2),
        "delta": of(partial(window_rates.extrapolated, counter=False, per_second=False), least=2),
        "irate": of(partial(window_rates.instant, counter=True), least=2),
        "idelta": of(partial(window_rates.instant, counter=False), least=2),
        "deriv": of(window_moments.slope, trends, 2),
        "predict_linear": of(window_moments.predicted, trends, 2),
    }


WINDOW_FUNCTIONS: Mapping[str, WindowFunction] = MappingProxyType(_functions())
