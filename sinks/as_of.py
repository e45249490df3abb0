"""What is the newest of many series as of many instants, found while their readings come in pieces. Pure.

Not here: which pieces are looked at (sinks.store_reading).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sinks.columns import TIME_MAX, TIME_MIN, Strips


class AsOf:
    """The newest reading of each wanted series at or before each instant, less than `reach` ns before."""

    def __init__(self, wanted: NDArray[np.int32], instants: NDArray[np.int64], reach: int) -> None:
        """wanted: (k,) sorted, without repeats; instants: (m,) ns, rising; reach: ns, at least 1."""
        self._wanted, self._instants, self._reach = wanted, instants, min(reach, TIME_MAX)
        self.time = np.full((len(wanted), len(instants)), TIME_MIN)
        """(k, m) ns; TIME_MIN where there is none"""
        self.value = np.full((len(wanted), len(instants)), np.nan)
        """(k, m)"""

    def consider(self, strips: Strips) -> None:
        """Readings of wanted series; of equal times the one that comes later wins."""
        if not len(strips.ids):
            return
        first, last = int(strips.firsts().min()), int(strips.lasts().max())
        begin = int(np.searchsorted(self._instants, first))
        end = int(np.searchsorted(self._instants, min(last + self._reach - 1, TIME_MAX), side="right"))
        if begin == end:
            return
        instants = self._instants[begin:end]
        row = _newest_rows(strips, instants, first, last)
        there = row >= strips.edges[:-1, None]
        time = strips.time[row]
        age = instants.view(np.uint64) - time.view(np.uint64)  # modulo 2**64: it may not fit int64
        series = np.searchsorted(self._wanted, strips.ids)
        known = self.time[series, begin:end]
        better = there & (age < self._reach) & (time >= known)
        self.time[series, begin:end] = np.where(better, time, known)
        self.value[series, begin:end] = np.where(better, strips.value[row], self.value[series, begin:end])


def _newest_rows(strips: Strips, instants: NDArray[np.int64], first: int, last: int) -> NDArray[np.intp]:
    """(k, m) the last row of each series at or before each instant; where there is none, a row of those before it."""
    k, span = len(strips.ids), last - first + 1
    if k == 1 or k * span > TIME_MAX:
        return np.stack(
            [
                start + np.searchsorted(strips.time[start:end], instants, side="right") - 1
                for start, end in zip(strips.edges[:-1].tolist(), strips.edges[1:].tolist(), strict=True)
            ]
        )
    # One search for all series: their times one after the other, on one axis.
    shift = np.arange(k) * span
    times = strips.time - first + np.repeat(shift, np.diff(strips.edges))
    since = np.minimum(instants, last) - first  # no instant lies before the first reading
    return np.searchsorted(times, (since + shift[:, None]).ravel(), side="right").reshape(k, -1) - 1
