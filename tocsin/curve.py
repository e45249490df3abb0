"""Curve: one series to be shown. Apart from the chart, whose library takes half a second to import."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_CURVES = 8
"""In one chart."""


@dataclass(frozen=True)
class Curve:
    """One series."""

    name: str
    time: NDArray[np.int64]
    """(n,) ns since the epoch (UTC), ascending."""
    value: NDArray[np.float64]
    """(n,)"""
