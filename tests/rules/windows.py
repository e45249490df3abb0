"""Functions of windows in plain Python, sample by sample, in exact arithmetic where sums matter: the reference."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

NOTHING = None


def result(name, samples, start, end, now, *parameters):
    """None: no result."""
    function = REFERENCE[name]
    if len(samples) < LEAST.get(name, 1):
        return NOTHING
    if name in OF_RANGE:
        return function(samples, start, end)
    if name == "predict_linear":
        return function(samples, now, *parameters)
    return function(samples, *parameters)


def values(samples):
    return [value for _, value in samples]


def number(exact) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def odd_sum(sample: list[float]) -> float | None:
    if any(map(math.isnan, sample)) or (math.inf in sample and -math.inf in sample):
        return math.nan
    return next((v for v in sample if math.isinf(v)), None)


def total(samples):
    odd = odd_sum(values(samples))
    return number(sum(map(Fraction, values(samples)))) if odd is None else odd


def average(samples):
    odd = odd_sum(values(samples))
    return number(sum(map(Fraction, values(samples))) / len(samples)) if odd is None else odd


def variance(samples):
    sample = values(samples)
    if odd_sum(sample) is not None:
        return math.nan
    exact = list(map(Fraction, sample))
    mean = sum(exact) / len(exact)
    return number(sum((v - mean) ** 2 for v in exact) / len(exact))


def lowest(samples):
    best = samples[0][1]
    for _, v in samples:
        if v < best or math.isnan(best):
            best = v
    return best


def highest(samples):
    return -lowest([(t, -v) for t, v in samples])


def time_of(better):
    def find(samples):
        at, best = samples[0]
        for t, v in samples:
            if better(v, best) or math.isnan(best):
                at, best = t, v
        return at / 1e9

    return find


def quantile(samples, q):
    if math.isnan(q):
        return math.nan
    if q < 0 or q > 1:
        return math.copysign(math.inf, q)
    ordered = sorted(values(samples), key=lambda v: (not math.isnan(v), v))
    rank = q * (len(ordered) - 1)
    lower = max(0, math.floor(rank))
    upper = min(len(ordered) - 1, lower + 1)
    weight = rank - math.floor(rank)
    return ordered[lower] * (1 - weight) + ordered[upper] * weight


def mad(samples):
    middle = quantile(samples, 0.5)
    return quantile([(t, abs(v - middle)) for t, v in samples], 0.5)


def smoothed(samples, sf, tf):
    sample = values(samples)
    before, level, slope = 0.0, sample[0], sample[1] - sample[0]
    for i, v in enumerate(sample[1:]):
        if i > 0:
            slope = tf * (level - before) + (1 - tf) * slope
        before, level = level, sf * v + (1 - sf) * (level + slope)
    return level


def changes(samples):
    return float(sum(a != b and not (math.isnan(a) and math.isnan(b)) for a, b in pairwise(values(samples))))


def resets(samples):
    return float(sum(b < a for a, b in pairwise(values(samples))))


def extrapolated(samples, start, end, *, counter, per_second):
    (first, v), (last, w) = samples[0], samples[-1]
    rise = w - v
    if counter:
        for a, b in pairwise(values(samples)):
            if b < a:
                rise += a
    to_start, to_end = (first - start) / 1e9, (end - last) / 1e9
    sampled = (last - first) / 1e9
    interval = sampled / (len(samples) - 1)
    if to_start >= interval * 1.1:
        to_start = interval / 2
    if counter and rise > 0 and v >= 0:
        to_start = min(to_start, sampled * (v / rise))
    if to_end >= interval * 1.1:
        to_end = interval / 2
    factor = (sampled + to_start + to_end) / sampled
    return rise * (factor / ((end - start) / 1e9) if per_second else factor)


def irate(samples):
    (s, a), (t, b) = samples[-2:]
    return (b if b < a else b - a) / ((t - s) / 1e9)


def idelta(samples):
    return samples[-1][1] - samples[-2][1]


def line(samples, now):
    """Slope per second and value at `now`."""
    sample = values(samples)
    if all(v == sample[0] for v in sample[1:]) and not math.isnan(sample[0]):
        return (math.nan, math.nan) if math.isinf(sample[0]) else (0.0, sample[0])
    if odd_sum(sample) is not None:
        return math.nan, math.nan
    x = [Fraction(t - now, 10**9) for t, _ in samples]
    y = list(map(Fraction, sample))
    n = len(x)
    mean_x, mean_y = sum(x) / n, sum(y) / n
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    return number(slope), number(mean_y - slope * mean_x)


def predicted(samples, now, ahead):
    slope, intercept = line(samples, now)
    return slope * ahead + intercept


REFERENCE = {
    "avg_over_time": average,
    "sum_over_time": total,
    "stdvar_over_time": variance,
    "stddev_over_time": lambda s: math.sqrt(variance(s)),
    "count_over_time": lambda s: float(len(s)),
    "present_over_time": lambda s: 1.0,
    "last_over_time": lambda s: s[-1][1],
    "first_over_time": lambda s: s[0][1],
    "min_over_time": lowest,
    "max_over_time": highest,
    "ts_of_min_over_time": time_of(lambda v, best: v <= best),
    "ts_of_max_over_time": time_of(lambda v, best: v >= best),
    "ts_of_first_over_time": lambda s: s[0][0] / 1e9,
    "ts_of_last_over_time": lambda s: s[-1][0] / 1e9,
    "quantile_over_time": quantile,
    "mad_over_time": mad,
    "double_exponential_smoothing": smoothed,
    "changes": changes,
    "resets": resets,
    "rate": lambda s, start, end: extrapolated(s, start, end, counter=True, per_second=True),
    "increase": lambda s, start, end: extrapolated(s, start, end, counter=True, per_second=False),
    "delta": lambda s, start, end: extrapolated(s, start, end, counter=False, per_second=False),
    "irate": irate,
    "idelta": idelta,
    "deriv": lambda s: line(s, s[0][0])[0],
    "predict_linear": predicted,
}
OF_RANGE = {"rate", "increase", "delta"}
LEAST = dict.fromkeys([*OF_RANGE, "irate", "idelta", "deriv", "predict_linear", "double_exponential_smoothing"], 2)
