"""The arithmetic of PromQL on numpy columns: operators and element-wise functions, with upstream's edge cases.

Source: prometheus promql/engine.go (vectorElemBinop) and promql/functions.go; `%` is Go's math.Mod, so it has the sign
of the dividend. Nothing raises: division by zero and overflow give Inf or NaN (IEEE 754).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}

OPERATORS = {name: _quiet(f) for name, f in _OPERATORS.items()}
"""Binary operators; comparisons give booleans."""


def _round(value: Floats, to_nearest: float = 1.0) -> Floats:
    """Ties go up, and the division is by the inverse, as upstream."""
    inverse = np.float64(1.0) / to_nearest
    rounded: Floats = np.floor(value * inverse + 0.5) / inverse
    return rounded


def _sgn(value: Floats) -> Floats:
    return np.where(value < 0, -1.0, np.where(value > 0, 1.0, value))


def _clamp_min(value: Floats, low: float) -> Floats:
    """Go's math.Max: an infinite limit wins even over NaN."""
    return np.full_like(value, low) if low == np.inf else np.maximum(low, value)


def _clamp_max(value: Floats, high: float) -> Floats:
    return np.full_like(value, high) if high == -np.inf else np.minimum(high, value)


_FUNCTIONS: dict[str, Callable[..., Floats]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "round": _round,
    "clamp": lambda value, low, high: np.maximum(low, np.minimum(high, value)),  # NaN anywhere gives NaN
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sgn": _sgn,
}

FUNCTIONS = {name: _quiet(f) for name, f in _FUNCTIONS.items()}
"""Functions of one column and constant parameters."""
