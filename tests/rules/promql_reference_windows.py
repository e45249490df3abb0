"""The functions of PromQL over windows of samples, and over the elements of a group: lists of numbers → one number.

Here: formulas. Which samples a window has is told in promql_reference.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from rules.syntax import Labels
from tests.rules.promql_reference_functions import EvaluationError, divided

S = 1e9


@dataclass(frozen=True)
class Window:
    """The samples of one series in the range (start, end]."""

    labels: Labels
    samples: list[tuple[int, float]]
    start: int
    end: int
    now: int
    """The instant of evaluation, by the series' own clock; `offset` and `@` set it apart from `end`"""
    lost: bool
    """The series had samples, so that having no result now means that its data vanished"""

    @property
    def values(self) -> list[float]:
        return [v for _, v in self.samples]


# ---- of a list that is not empty


def total(values: Sequence[float]) -> float:
    """Exact, then rounded once."""
    try:
        return math.fsum(values) + 0.0
    except ValueError:  # infinities of both signs
        return math.nan
    except OverflowError:
        return sum(values)


def mean(values: Sequence[float]) -> float:
    """No overflow where only the sum is too large."""
    if math.isinf(total(values)):
        return total([v / len(values) for v in values])
    return total(values) / len(values)


def variance(values: Sequence[float]) -> float:
    if not all(map(math.isfinite, values)):
        return math.nan
    middle = mean(values)
    return total([(v - middle) * (v - middle) for v in values]) / len(values)


def without_nan(choose: Callable[[list[float]], float]) -> Callable[[Sequence[float]], float]:
    """NaN only where there is nothing else."""

    def chosen(values: Sequence[float]) -> float:
        numbers = [v for v in values if not math.isnan(v)]
        return choose(numbers) if numbers else math.nan

    return chosen


largest, smallest = without_nan(max), without_nan(min)


def quantile(q: float, values: Sequence[float]) -> float:
    """Interpolated between neighbours; NaN counts as the smallest."""
    if math.isnan(q) or not values:
        return math.nan
    if not 0 <= q <= 1:
        return math.copysign(math.inf, q)
    ordered = sorted(values, key=lambda v: (not math.isnan(v), v))
    rank = q * (len(ordered) - 1)
    lower = math.floor(rank)
    upper = min(lower + 1, len(ordered) - 1)
    weight = rank - lower
    return ordered[lower] * (1 - weight) + ordered[upper] * weight


def histogram_quantile(q: float, buckets: Sequence[tuple[float, float]]) -> float:
    """Of (upper bound, cumulative count). Linear within the bucket that has the rank; the lowest begins at 0."""
    if math.isnan(q) or not 0 <= q <= 1:
        return q if math.isnan(q) else math.copysign(math.inf, q)
    merged: dict[float, float] = {}
    for bound, count in sorted(buckets):
        merged[bound] = merged.get(bound, 0.0) + count
    bounds, counts = list(merged), monotonic(list(merged.values()))
    if bounds[-1] != math.inf or len(bounds) < 2 or counts[-1] == 0:
        return math.nan
    rank = q * counts[-1]
    at = next((i for i, count in enumerate(counts[:-1]) if count >= rank), len(counts) - 1)
    if at == len(bounds) - 1:
        return bounds[-2]
    if at == 0 and bounds[0] <= 0:
        return bounds[0]
    low, below = (bounds[at - 1], counts[at - 1]) if at else (0.0, 0.0)
    return low + (bounds[at] - low) * divided(rank - below, counts[at] - below)


def monotonic(counts: list[float]) -> list[float]:
    """A count that is smaller than the one before, or differs from it by rounding only, is taken for that."""
    for i in range(1, len(counts)):
        if counts[i] < counts[i - 1] or math.isclose(counts[i], counts[i - 1], rel_tol=1e-12):
            counts[i] = counts[i - 1]
    return counts


def deviation(values: Sequence[float]) -> float:
    middle = quantile(0.5, values)
    return quantile(0.5, [abs(v - middle) for v in values])


GROUPS: dict[str, Callable[[Sequence[float]], float]] = {
    "sum": total, "avg": mean, "min": smallest, "max": largest, "stdvar": variance,
    "stddev": lambda values: math.sqrt(variance(values)), "count": lambda values: float(len(values)),
    "group": lambda values: 1.0,
}  # fmt: skip


def written(value: float) -> str:
    """As count_values writes it: all digits, no exponent."""
    if not math.isfinite(value):
        return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN")
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


# ---- of a window that is not empty; None: no result


def extrapolated(window: Window, *, counter: bool, per_second: bool) -> float | None:
    """rate, increase, delta: the slope between the first and the last sample, drawn out to the ends of the window.

    But only half an average interval further, where the next sample would have been missing; and no counter below 0.
    """
    if len(window.samples) < 2:
        return None
    (first, first_value), (last, last_value) = window.samples[0], window.samples[-1]
    change = last_value - first_value
    if counter:
        change += sum(before for before, after in pairwise(window.values) if after < before)
    covered = (last - first) / S
    average = covered / (len(window.samples) - 1)
    to_start, to_end = (first - window.start) / S, (window.end - last) / S
    if to_start >= average * 1.1:
        to_start = average / 2
    if counter and change > 0 and first_value >= 0:
        to_start = min(to_start, covered * (first_value / change))
    if to_end >= average * 1.1:
        to_end = average / 2
    result = change * ((covered + to_start + to_end) / covered)
    return result / ((window.end - window.start) / S) if per_second else result


def newest_change(window: Window, *, counter: bool) -> float | None:
    """irate, idelta"""
    if len(window.samples) < 2:
        return None
    (before, a), (after, b) = window.samples[-2:]
    change = b if counter and b < a else b - a
    return change / ((after - before) / S) if counter else change


def regression(window: Window, origin: int) -> tuple[float, float] | None:
    """Least squares → slope per second, and the value at `origin`."""
    if len(window.samples) < 2:
        return None
    if len(set(window.values)) == 1:
        value = window.values[0]
        return (0.0, value) if math.isfinite(value) else (math.nan, math.nan)
    n = len(window.samples)
    x = [(time - origin) / S for time, _ in window.samples]
    y = window.values
    covariance = total([a * b for a, b in zip(x, y, strict=True)]) - total(x) * total(y) / n
    slope = divided(covariance, total([a * a for a in x]) - total(x) * total(x) / n)
    return slope, total(y) / n - slope * total(x) / n


def derivative(window: Window) -> float | None:
    line = regression(window, window.samples[0][0])
    return None if line is None else line[0]


def prediction(window: Window, seconds: float) -> float | None:
    line = regression(window, window.now)
    return None if line is None else line[0] * seconds + line[1]


def smoothed(window: Window, smoothing: float, trending: float) -> float | None:
    if not (0 < smoothing < 1 and 0 < trending < 1):
        raise EvaluationError("smoothing and trend factors lie between 0 and 1")
    values = window.values
    if len(values) < 2:
        return None
    previous = level = values[0]
    trend = values[1] - values[0]
    for i, value in enumerate(values[1:]):
        if i:
            trend = trending * (level - previous) + (1 - trending) * trend
        previous, level = level, smoothing * value + (1 - smoothing) * (level + trend)
    return level


def moment_of(choose: Callable[[Sequence[float]], float]) -> Callable[[Window], float]:
    """The instant of the newest sample that has the chosen value."""

    def moment(window: Window) -> float:
        value = choose(window.values)
        if math.isnan(value):
            return window.samples[-1][0] / S
        return max(time for time, v in window.samples if v == value) / S

    return moment


def differ(a: float, b: float) -> bool:
    return a != b and not (math.isnan(a) and math.isnan(b))


WINDOWS: dict[str, Callable[..., float | None]] = {
    **{f"{name}_over_time": lambda w, f=function: f(w.values) for name, function in GROUPS.items() if name != "group"},
    "quantile_over_time": lambda w, q: quantile(q, w.values),
    "mad_over_time": lambda w: deviation(w.values),
    "present_over_time": lambda w: 1.0,
    "first_over_time": lambda w: w.values[0],
    "last_over_time": lambda w: w.values[-1],
    "ts_of_first_over_time": lambda w: w.samples[0][0] / S,
    "ts_of_last_over_time": lambda w: w.samples[-1][0] / S,
    "ts_of_max_over_time": moment_of(largest),
    "ts_of_min_over_time": moment_of(smallest),
    "rate": lambda w: extrapolated(w, counter=True, per_second=True),
    "increase": lambda w: extrapolated(w, counter=True, per_second=False),
    "delta": lambda w: extrapolated(w, counter=False, per_second=False),
    "irate": lambda w: newest_change(w, counter=True),
    "idelta": lambda w: newest_change(w, counter=False),
    "deriv": derivative,
    "predict_linear": prediction,
    "double_exponential_smoothing": smoothed,
    "changes": lambda w: float(sum(differ(a, b) for a, b in pairwise(w.values))),
    "resets": lambda w: float(sum(after < before for before, after in pairwise(w.values))),
}
"""Functions of a window, and scalar parameters."""

KEEP_NAME = frozenset({"first_over_time", "last_over_time"})
