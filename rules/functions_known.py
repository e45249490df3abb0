"""The functions of PromQL by name. Here: which are evaluated, which are refused, and why. Not here: evaluation.

Source: prometheus.io/docs/prometheus/latest/querying/functions (version 3). Arguments' types are the parser's matter.
"""

from __future__ import annotations

import difflib

FUNCTIONS = frozenset(
    {
        # of each element's value
        "abs", "ceil", "clamp", "clamp_max", "clamp_min", "exp", "floor", "ln", "log10", "log2", "round", "sgn", "sqrt",
        "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "deg", "rad", "sin", "sinh", "tan", "tanh",
        # of time
        "age", "day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "time",
        "timestamp", "year",
        # of a range
        "absent_over_time", "avg_over_time", "changes", "count_over_time", "delta", "deriv",
        "double_exponential_smoothing", "first_over_time", "holt_winters", "idelta", "increase", "irate",
        "last_over_time", "mad_over_time", "max_over_time", "min_over_time", "predict_linear", "present_over_time",
        "quantile_over_time", "rate", "resets", "stddev_over_time", "stdvar_over_time", "sum_over_time",
        "ts_of_first_over_time", "ts_of_last_over_time", "ts_of_max_over_time", "ts_of_min_over_time",
        # of the elements together, and of their labels
        "absent", "histogram_quantile", "label_join", "label_replace", "pi", "scalar", "sort", "sort_by_label",
        "sort_by_label_desc", "sort_desc", "vector",
    }
)  # fmt: skip
"""Every function that an expression may call: upstream's for float samples, and our `age`."""

SAME = {"holt_winters": "double_exponential_smoothing"}
"""Older names"""

_NATIVE = "it is for native histograms, and readings are numbers"
_QUANTILE = "histogram_quantile() takes classic buckets, that is, series with the label le"
_REFUSED = {
    "histogram_avg": f"{_NATIVE}: divide the series _sum by _count",
    "histogram_count": f"{_NATIVE}: a classic histogram has a series _count",
    "histogram_sum": f"{_NATIVE}: a classic histogram has a series _sum",
    "histogram_stddev": f"{_NATIVE}; {_QUANTILE}",
    "histogram_stdvar": f"{_NATIVE}; {_QUANTILE}",
    "histogram_fraction": f"{_NATIVE}; divide the bucket's series by _count",
    "histogram_quantiles": f"it is an experiment of Prometheus; {_QUANTILE}, so write one call for each quantile",
    "info": "it is an experiment of Prometheus: write x * on(device) group_left(label) y",
    "limitk": "it is an experiment of Prometheus: choose series by their labels, or by value with topk(3, x)",
    "limit_ratio": 'it is an experiment of Prometheus: choose series by their labels, e.g. x{device=~".*[05]"}',
    "fill": "filling gaps is an experiment of Prometheus: write x + (y or 0 * x) where y has gaps",
    "start": "it stands only after @, as in x @ start(); the time of evaluation is time()",
    "end": "it stands only after @, as in x @ end(); the time of evaluation is time()",
    "range": "computed durations are an experiment of Prometheus: write the number",
    "step": "computed durations are an experiment of Prometheus: write the number",
    "min_of": "computed durations are an experiment of Prometheus: write the number",
    "max_of": "computed durations are an experiment of Prometheus: write the number",
}  # fmt: skip
_REFUSED |= dict.fromkeys(("fill_left", "fill_right"), _REFUSED["fill"])


def why_refused(name: str) -> str | None:
    """What to tell the author of a call of `name`; None if it is a function that is evaluated."""
    if name in FUNCTIONS:
        return None
    if name in _REFUSED:
        return f"{name}() is not supported: {_REFUSED[name]}"
    near = difflib.get_close_matches(name.lower(), FUNCTIONS, n=1, cutoff=0.75)
    return f"there is no function {name}()" + (f": did you mean {near[0]}()?" if near else "")
