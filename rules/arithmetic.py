"""The arithmetic of PromQL on numpy columns: operators and element-wise functions, with upstream's edge cases.

Source: prometheus promql/engine.go (vectorElemBinop) and promql/functions.go, and Go's package math: `%` is math.Mod,
so it has the sign of the dividend; `^` is math.Pow. Nothing raises: division by zero and overflow give Inf or NaN
(IEEE 754).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.calendar import CALENDAR

Floats = NDArray[np.float64]
Limit = Floats | float
"""A parameter: one for each row, or one for all."""


def _quiet(f: Callable[..., Any]) -> Callable[..., Any]:
    def quiet(*args: Any) -> Any:
        with np.errstate(all="ignore"):
            return f(*args)

    return quiet


_OPERATORS: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "^": np.float_power,
    "atan2": np.arctan2,
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}

_NEVER_LOUD = frozenset({"==", "!=", ">", "<", ">=", "<="})

OPERATORS = {name: f if name in _NEVER_LOUD else _quiet(f) for name, f in _OPERATORS.items()}
"""Binary operators; comparisons give booleans."""


def _round(value: Floats, to_nearest: Limit = 1.0) -> Floats:
    """Ties go up, and the division is by the inverse, as upstream."""
    inverse = np.float64(1.0) / to_nearest
    rounded: Floats = np.floor(value * inverse + 0.5) / inverse
    return rounded


def _sgn(value: Floats) -> Floats:
    return np.where(value < 0, -1.0, np.where(value > 0, 1.0, value))


def _max(a: Limit, b: Limit) -> Floats:
    """Go's math.Max: +Inf wins even over NaN, and 0 over -0."""
    greater = np.where(np.equal(a, np.inf) | np.equal(b, np.inf), np.inf, np.maximum(a, b))
    return np.where(np.equal(a, 0) & np.equal(b, 0), np.add(a, b), greater)


def _min(a: Limit, b: Limit) -> Floats:
    """Go's math.Min, the mirror image."""
    return -_max(np.negative(a), np.negative(b))


_FUNCTIONS: dict[str, Callable[..., Floats]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "round": _round,
    "sgn": _sgn,
    "clamp": lambda value, low, high: _max(low, _min(high, value)),
    "clamp_min": lambda value, low: _max(low, value),
    "clamp_max": lambda value, high: _min(high, value),
    "sqrt": np.sqrt,
    "exp": np.exp,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "deg": lambda value: value * 180 / np.pi,  # in this order, as upstream
    "rad": lambda value: value * np.pi / 180,
    **CALENDAR,
}

FUNCTIONS = {name: _quiet(f) for name, f in _FUNCTIONS.items()}
"""Functions of a column, and of parameters: a number for all rows, or a column of numbers."""

EMPTY: dict[str, Callable[..., Any]] = {"clamp": np.greater}
"""By function: of the same parameters, whether it gives no element at all (clamp: the limits are crossed)."""
