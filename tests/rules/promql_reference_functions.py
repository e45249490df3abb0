"""The functions of PromQL on single numbers, on label sets, and on instants. Source: upstream's documented semantics.

Here: what needs no series. Windows: promql_reference_windows.py. The tree is walked in promql_reference.py.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable

from rules.syntax import Labels, Matcher

LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class EvaluationError(Exception):
    """Prometheus gives no result but an error."""


# ---- numbers


def safe(function: Callable[..., float], overflow: float = math.inf) -> Callable[..., float]:
    """With NaN where Python says "domain error", and infinity where it says "overflow", as IEEE 754 has it."""

    def wrapped(*args: float) -> float:
        try:
            return float(function(*args))
        except ValueError:
            return math.nan
        except OverflowError:
            return overflow

    return wrapped


def divided(a: float, b: float) -> float:
    if b != 0:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)


def power(a: float, b: float) -> float:
    odd = math.isfinite(b) and b % 2 == 1
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and odd else math.inf
    except ValueError:  # 0 to a negative power, or a negative number to a fraction
        if a != 0:
            return math.nan
        return math.copysign(math.inf, a) if odd else math.inf


BINARY: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": divided,
    "%": safe(math.fmod),
    "^": power,
    "atan2": math.atan2,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


def logarithm(function: Callable[[float], float]) -> Callable[[float], float]:
    return lambda v: -math.inf if v == 0 else safe(function)(v)


def whole(function: Callable[[float], int]) -> Callable[[float], float]:
    """ceil and floor: nothing to do for NaN and infinity; -0.5 becomes -0."""
    return lambda v: math.copysign(function(v), v) if math.isfinite(v) else v


def rounded(v: float, nearest: float = 1.0) -> float:
    """Ties go up."""
    inverse = divided(1.0, nearest)
    return divided(whole(math.floor)(v * inverse + 0.5), inverse)


def larger(a: float, b: float) -> float:
    """Go's math.Max: infinity wins even over NaN."""
    if math.inf in (a, b):
        return math.inf
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


def smaller(a: float, b: float) -> float:
    return -larger(-a, -b)


def sign(v: float) -> float:
    return math.copysign(1.0, v) if v < 0 or v > 0 else v


def atanh(v: float) -> float:
    return math.copysign(math.inf, v) if abs(v) == 1 else safe(math.atanh)(v)


NUMBERS: dict[str, Callable[..., float]] = {
    "abs": abs, "ceil": whole(math.ceil), "floor": whole(math.floor), "round": rounded, "sgn": sign,
    "sqrt": safe(math.sqrt), "exp": safe(math.exp),
    "ln": logarithm(math.log), "log2": logarithm(math.log2), "log10": logarithm(math.log10),
    "clamp_min": lambda v, low: larger(low, v), "clamp_max": lambda v, high: smaller(high, v),
    "clamp": lambda v, low, high: larger(low, smaller(high, v)),
    "sin": safe(math.sin), "cos": safe(math.cos), "tan": safe(math.tan),
    "asin": safe(math.asin), "acos": safe(math.acos), "atan": math.atan,
    "sinh": lambda v: safe(math.sinh, math.copysign(math.inf, v))(v), "cosh": safe(math.cosh), "tanh": math.tanh,
    "asinh": math.asinh, "acosh": safe(math.acosh), "atanh": atanh,
    "rad": lambda v: v * math.pi / 180, "deg": lambda v: v * 180 / math.pi,
}  # fmt: skip
"""Functions of a vector's values, and scalar parameters."""


# ---- the calendar (UTC), by seconds since the epoch

MONTHS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
DAY = 86_400
CYCLE = 146_097
"""Days of 400 years, after which the calendar repeats"""


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def lengths(year: int) -> list[int]:
    return [29 if month == 1 and is_leap(year) else days for month, days in enumerate(MONTHS)]


def civil(seconds: int) -> tuple[int, int, int, int]:
    """Year, month 1 … 12, day of the month, day of the year."""
    cycles, day = divmod(seconds // DAY, CYCLE)
    year = 1970 + 400 * cycles
    while day >= sum(lengths(year)):
        day -= sum(lengths(year))
        year += 1
    day_of_year, month = day + 1, 0
    while day >= lengths(year)[month]:
        day -= lengths(year)[month]
        month += 1
    return year, month + 1, day + 1, day_of_year


CALENDAR: dict[str, Callable[[int], int]] = {
    "minute": lambda s: s // 60 % 60,
    "hour": lambda s: s // 3600 % 24,
    "day_of_week": lambda s: (s // DAY + 4) % 7,  # the epoch was a Thursday, and Sunday is 0
    "day_of_month": lambda s: civil(s)[2],
    "day_of_year": lambda s: civil(s)[3],
    "days_in_month": lambda s: lengths(civil(s)[0])[civil(s)[1] - 1],
    "month": lambda s: civil(s)[1],
    "year": lambda s: civil(s)[0],
}


def calendar(name: str, seconds: float) -> float:
    """A fraction is cut off. Numbers that no 64-bit integer holds have no date: NaN (upstream leaves that open)."""
    return float(CALENDAR[name](int(seconds))) if abs(seconds) < 2**63 else math.nan


# ---- labels


def nameless(labels: Labels) -> Labels:
    return tuple(pair for pair in labels if pair[0] != "__name__")


def with_label(labels: Labels, name: str, value: str) -> Labels:
    """An empty value takes the label away."""
    if not LABEL.fullmatch(name):
        raise EvaluationError(f"invalid label name {name!r}")
    return tuple(sorted((n, v) for n, v in (dict(labels) | {name: value}).items() if v))


def label_replace(labels: Labels, target: str, replacement: str, source: str, pattern: str) -> Labels:
    if not LABEL.fullmatch(target):
        raise EvaluationError(f"invalid label name {target!r}")
    try:
        match = re.compile(pattern, re.DOTALL).fullmatch(dict(labels).get(source, ""))
    except re.error as error:
        raise EvaluationError(f"invalid regular expression {pattern!r}") from error
    if match is None:
        return labels

    def group(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"  # from $$
        try:
            return match[int(name) if name.isdigit() else name] or ""
        except IndexError:
            return ""

    return with_label(labels, target, re.sub(r"\$(?:(\w+)|\{(\w+)\}|\$)", group, replacement))


def label_join(labels: Labels, target: str, separator: str, *sources: str) -> Labels:
    return with_label(labels, target, separator.join(dict(labels).get(source, "") for source in sources))


def labels_of_absent(matchers: tuple[Matcher, ...]) -> Labels:
    """Of `label="value"` matchers; a label with two matchers has no certain value."""
    labels: dict[str, str] = {}
    told: set[str] = set()
    for m in matchers:
        if m.name == "__name__":
            continue
        if m.op == "=" and m.name not in told:
            labels[m.name] = m.value
            told.add(m.name)
        else:
            labels.pop(m.name, None)
    return tuple(sorted((n, v) for n, v in labels.items() if v))
