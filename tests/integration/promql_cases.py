"""Handwritten expressions over a plant, by topic, of which promtool and the reference evaluator must say the same.

All durations are multiples of 30 s: see test_reference_equals_promtool.py.
"""

from __future__ import annotations

import math

NAN, INF = math.nan, math.inf


def ramp(start: float, step: float, n: int = 28) -> list[float | None]:
    return [start + i * step for i in range(n)]


PLANT: dict[str, list[float | None]] = {
    'counter{device="a"}': [*ramp(100, 7, 9), *ramp(0, 3, 9), *ramp(1, 5, 10)],
    'counter{device="b"}': [*[None] * 10, *ramp(0.5, 2, 18)],
    'counter{device="c", site="s"}': [*ramp(1000, 0, 12), *ramp(40, 1, 16)],
    'gauge{device="a"}': [float(i * 7 % 11) for i in range(28)],
    'gauge{device="b"}': [None if i % 3 else float(i * 5 % 13 - 6) for i in range(28)],
    'gauge{device="c", site="s"}': [float(i * i % 17) / 4 for i in range(28)],
    'odd{device="a"}': [[NAN, INF, 1.0, -INF, NAN, 2.0, None][i % 7] for i in range(28)],
    'odd{device="b"}': [[1.0, -0.0, 1e300, 2.5, -1e-300][i % 5] for i in range(28)],
    'odd{device="c", site="s"}': [NAN] * 28,
    'only{device="a"}': [4.0] * 28,
    'gone{device="a"}': ramp(5, 1, 7),
    'state{device="a", state="on"}': [float(i % 2) for i in range(28)],
    'state{device="a", state="off"}': [float(1 - i % 2) for i in range(28)],
    'state{device="b", state="on"}': [1.0] * 28,
    **{
        f'size_bucket{{device="{device}", le="{le}"}}': ramp(scale * (k + 1), scale * (k + 1) % 7)
        for device, scale in (("a", 1), ("b", 3))
        for k, le in enumerate(("0.5", "1", "2.5", "1e1", "+Inf"))
    },
    'size_bucket{device="c", le="-1"}': ramp(1, 1),
    'size_bucket{device="c", le="2"}': ramp(0, 1),
    'size_bucket{device="c", le="+Inf"}': ramp(2, 2),
    'size_bucket{device="d", le="2"}': ramp(1, 1),
    'size_bucket{device="e", le="+Inf"}': ramp(1, 1),
    'size_bucket{device="f", le="much"}': ramp(1, 1),
}

_MATHS = [
    "abs", "ceil", "floor", "sqrt", "exp", "ln", "log2", "log10", "sgn", "sin", "cos", "tan", "asin", "acos", "atan",
    "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "rad", "deg", "round",
]  # fmt: skip
_OVER_TIME = ["avg", "min", "max", "sum", "count", "stddev", "stdvar", "last", "present"]
_OF_RANGES = ["delta", "idelta", "rate", "increase", "irate", "deriv", "changes", "resets"]
_CALENDAR = ["minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"]

CASES: dict[str, list[str]] = {
    "selectors": [
        "gauge", "gone", "nothing", 'gauge{site=""}', 'gauge{site!=""}', 'gauge{device=~"a|c"}', 'gauge{device!~"a.*"}',
        '{__name__=~"gau.*|only"}', '{site="s"}', "gauge offset 1m", "gauge offset -2m", "gone offset 8m",
        "gauge @ 615", "gauge @ start()", "gauge @ end() offset 3m", "gauge @ 615 offset -1m", 'gauge{device=~"a"}',
    ],
    "mathematical functions": [
        *(f"{name}({metric})" for name in _MATHS for metric in ("gauge", "odd", "gauge / 8", "-gauge")),
        "round(gauge, 2.5)", "round(gauge / 3, 0.1)", "round(-gauge, 2)", "round(gauge, 0)", "clamp(gauge, 2, 5)",
        "clamp(gauge, 5, 2)", "clamp(odd, 0, 1)", "clamp_min(odd, 1)", "clamp_max(odd, 1)", "clamp_min(odd, Inf)",
        "clamp_max(odd, -Inf)", "clamp(gauge, NaN, 3)", "pi() * gauge", "-gauge", "-odd", "+gauge", "1 / -odd",
        "1 / ceil(gauge - 0.5)", "sort(gauge)", "sort_desc(gauge)",
    ],
    "the calendar": [
        *(f"{name}()" for name in _CALENDAR),
        *(f"{name}({of})" for name in _CALENDAR for of in
          ("vector(time() * 1e6)", "gauge * 86400", "counter * 5e6", "-counter * 1e7", "gauge * 31536000.7",
           "vector(951782400)", "vector(951868800)", "vector(-1)", "vector(-2208988801)", "vector(4107542400)")),
    ],
    "time": [
        "time()", "vector(time())", "timestamp(gauge)", "timestamp(gauge offset 2m)", "timestamp(gauge + 0)",
        "timestamp(gauge @ 615)", "time() - timestamp(gauge)", "vector(1)", "scalar(gauge)", "scalar(only)",
        "scalar(nothing)", "scalar(only) + 1", "vector(scalar(only))", "gauge * scalar(only)", "gauge > scalar(only)",
        "scalar(only) > bool 3", "1 > bool 2", "2 ^ 3 ^ 2", "-2 ^ 2", "7 % -4", "1 / 0", "3 atan2 4", "pi()",
    ],
    "arithmetic": [
        "(gauge atan2 3) + 0", "(gauge atan2 odd) + 0", "(-gauge atan2 gauge) + 0", "(0 atan2 -odd) + 0",
        *(f"{a} {op} {b}" for op in ("+", "-", "*", "/", "%", "^", "==", "!=", "<", ">=", "> bool", "== bool")
          for a, b in (("gauge", "3"), ("3", "gauge"), ("odd", "1"), ("0", "odd"), ("odd", "odd"), ("gauge", "odd"),
                       ("gauge", "gauge offset 5m"))),
        "(-gauge) % 3", "gauge % -3", "odd / 0", "(gauge - 4) ^ 0.5", "(gauge - 4) ^ -1", "0 ^ (gauge - 4)",
        "odd ^ odd", "(-odd) ^ 3", "odd * 1e308", "odd % Inf",
    ],
    "matching": [
        "gauge + counter", "gauge + on(device) counter", "gauge - ignoring(site) counter", "gauge > on(device) counter",
        "gauge < ignoring(site) counter", "gauge == on(device, site) gauge", "gauge + on(site) only",
        'gauge * on(device) state{state="on"}', 'gauge * ignoring(state) state{state="on"}', "gauge + nothing",
        "state * on(device) group_left() gauge", "state * on(device) group_left(site) counter",
        "gauge < bool on() only",
        "gauge * on(device) group_right() state", "gauge < on(device) group_right() (state * 9)",
        "gauge > bool on(device) group_right(site) state", "state + ignoring(state) group_left() gauge",
        "state - on(device) group_left(state) (gauge + 0)", "(state == 1) * on(device) group_left(le) gauge",
        "gauge + on() group_left() only", "gauge * on(device) group_left(state) (state == 1)",
        "gauge > on(device) (counter / 100)", "gauge > on(__name__, device) gauge offset 1m",
        "gauge + on(__name__, device) gauge", "gauge > ignoring(__name__) counter / 100",
        "gauge * on(device) group_left(__name__) only", "gauge > on(device) group_left(__name__) only",
    ],
    "sets": [
        *(f"gauge {op} {matching} {other}" for op in ("and", "or", "unless")
          for matching in ("", "on(device)", "ignoring(site)", "on()", "on(site)")
          for other in ("counter", "only", "nothing", "(gauge > 4)", "state")),
        "nothing or gauge", "nothing and gauge", "nothing unless gauge", "gauge > 4 or gauge < 2",
        "state and on(device) gauge", "gauge or on(device) state", "(gauge > 4) or on(site) counter",
        "gauge and gauge > 3 or counter unless only",
    ],
    "aggregations": [
        *(f"{op} {by} ({of})" for op in ("sum", "avg", "min", "max", "count", "group", "stddev", "stdvar",
                                         )
          for by in ("", "by (device)", "by (site)", "without (device)", "without (state)", "by (__name__)", "by (no)")
          for of in ("gauge", '{__name__=~"gauge|state|counter"}')),
        *(f"{op}({of})" for op in ("sum", "avg", "min", "max", "count", "group")
          for of in ("odd", 'odd{device="c"}', "nothing", 'odd{device=~"b|c"}', "vector(1)")),
        *(f"quantile({q}, {of})" for q in ("0", "0.3", "0.5", "1", "-1", "2", "NaN", "scalar(only) / 8")
          for of in ("gauge", "odd", '{__name__=~"gauge|state"}')),
        "quantile by (device) (0.3, state)", "topk(2, gauge + 0.1 * counter)", "bottomk(2, gauge + 0.1 * counter)",
        "topk(0, gauge)", "topk(-1, gauge)", "topk(9, gauge)", "topk by (site) (1, gauge + 0.1 * counter)",
        "bottomk without (device) (1, gauge + 0.1 * counter)", "topk(3, odd)",
        "topk(scalar(only) / 2, gauge + 0.1 * counter)", "topk(1.9, gauge + 0.1 * counter)",
        'count_values("v", gauge)', 'count_values("v", state)', 'count_values by (device) ("v", state)',
        'count_values without (state) ("v", state)', 'count_values("device", gauge)', 'count_values("v", odd)',
        'count_values without (v) ("v", state)', 'count_values("v", gauge / 3)', 'count_values("v", gauge * 1e22)',
        'count_values("v", gauge * 1e-9)', "count(gauge > 3)", "sum(gauge) by (device)",
    ],
    "functions of ranges": [
        *(f"{name}_over_time({metric}[{range_}])" for name in _OVER_TIME for metric in ("counter", "gauge", "gone")
          for range_ in ("2m", "5m", "20m")),
        *(f"{name}_over_time(odd[{range_}])" for name in ("min", "max", "count", "last", "present", "sum", "avg")
          for range_ in ("1m", "5m")),
        *(f"{name}({metric}[{range_}])" for name in _OF_RANGES for metric in ("gauge", "gone")
          for range_ in ("1m", "5m", "20m") if name not in ("rate", "increase")),
        *(f"{name}(odd[5m])" for name in ("changes", "resets", "idelta", "irate", "deriv", "delta")),
        *(f"{name}(counter[{range_}])" for name in ("rate", "increase", "irate", "resets") for range_ in ("2m", "5m")),
        "quantile_over_time(0.3, gauge[5m])", "quantile_over_time(1, gauge[5m])", "quantile_over_time(-1, gauge[5m])",
        "quantile_over_time(2, gauge[5m])", "quantile_over_time(NaN, gauge[5m])", "quantile_over_time(0.5, odd[7m])",
        "quantile_over_time(scalar(only) / 10, gauge[5m])", "predict_linear(gauge[5m], 600)",
        "predict_linear(gauge[5m] offset 5m, 0)", "predict_linear(gauge[5m] @ 615, 60)", "predict_linear(only[5m], 60)",
        "holt_winters(gauge[5m], 0.5, 0.1)", "holt_winters(gauge[1m], 0.5, 0.1)", "holt_winters(odd[9m], 0.2, 0.9)",
        "deriv(only[5m])", "rate(counter[5m] offset 2m)", "sum_over_time(gauge[5m] @ end())",
        "avg_over_time(gauge[5m] @ 615 offset 1m)", "last_over_time(gauge[5m] offset -3m)", "rate(gone[20m])",
        'sum_over_time({__name__=~"gauge|only"}[30s])', "delta(gone[20m])",
    ],
    "subqueries": [
        "avg_over_time(gauge[5m:1m])", "avg_over_time(gauge[5m:])", "max_over_time(rate(counter[2m])[5m:30s])",
        "sum_over_time((gauge > 3)[6m:1m])", "last_over_time(gauge[5m:1m])", "last_over_time((gauge + 0)[5m:1m])",
        "count_over_time(vector(1)[5m:30s])", "rate(counter[5m:1m])", "sum_over_time(sum by (device) (state)[5m:1m])",
        "min_over_time(gauge[5m:1m] offset 3m)", "min_over_time(gauge[5m:1m] @ 615)", "deriv(gauge[5m:30s] @ end())",
        "max_over_time((time() - timestamp(gauge))[5m:30s])", "count_over_time(gone[20m:1m])", "changes(state[5m:30s])",
        "sum_over_time((gauge offset 1m)[5m:1m])", "predict_linear(gauge[5m:1m], 60)", "avg_over_time(hour()[5m:1m])",
        'quantile_over_time(0.5, count_values("v", state)[4m:30s])', "sum_over_time((gauge @ end())[3m:1m])",
        "sum_over_time((gauge @ start())[3m:1m])", "sum_over_time((gauge @ 615 offset 1m)[3m:1m])",
    ],
    "absence": [
        "absent(gauge)", "absent(nothing)", 'absent(nothing{device="a", site=~"s"})', "absent(gone)",
        'absent(nothing{device="a", device="b", site="s"})', "absent(sum(nothing))", "absent(gauge > 100)",
        'absent(nothing{device!="a"})', "absent_over_time(gone[5m])", "absent_over_time(gauge[5m])",
        'absent_over_time(nothing{device="a", site!="s"}[5m])', "absent_over_time((gauge > 100)[5m:1m])",
        "absent(absent(gauge))", 'absent(nothing{device=""})',
    ],
    "labels": [
        'label_replace(gauge, "to", "$1", "device", "(.*)")', 'label_replace(gauge, "to", "${1}x", "device", "(a|b)")',
        'label_replace(gauge, "to", "$1x", "device", "(a|b)")', 'label_replace(gauge, "device", "", "site", "s")',
        'label_replace(gauge, "to", "$$$1-$2", "device", "(.*)")', 'label_replace(gauge, "to", "none", "nope", "")',
        'label_replace(gauge, "to", "none", "nope", "x")',
        'label_replace(gauge, "to", "$name", "device", "(?P<name>.)")',
        'label_replace(gauge, "__name__", "new", "", "")', 'label_replace(gauge, "to", "$1", "device", "a(.*)")',
        'label_replace(state, "state", "", "state", "off") and on(device) gauge{device="b"}',
        'label_join(gauge, "to", "-", "device", "site", "nope")', 'label_join(gauge, "device", "")',
        'label_join(gauge, "to", ",", "device")', 'sum by (to) (label_join(state, "to", "-", "state", "device"))',
    ],
    "histograms": [
        *(f"histogram_quantile({q}, {of})" for q in ("0", "0.1", "0.5", "0.9", "1", "-1", "2", "NaN", "scalar(only)/5")
          for of in ("size_bucket", "rate(size_bucket[5m])", "sum by (le) (size_bucket)", "gauge")),
    ],
}  # fmt: skip

ERRORS = [
    "state + on(device) gauge", "gauge + on(device) state", "gauge + on() gauge", "gauge > on() gauge",
    "state * on(device) group_right() gauge", "gauge * on() group_left() state",
    'sum({__name__=~"gauge|counter"} + 0)', '-{__name__=~"gauge|counter"}', 'abs({__name__=~"gauge|counter"})',
    'rate({__name__=~"gauge|counter"}[5m])', 'label_replace(gauge, "device", "", "device", ".*") + 0',
    'label_replace(state, "state", "", "state", ".*")', 'label_replace(gauge, "a-b", "", "", "")',
    'label_replace(gauge, "to", "", "device", "(")', 'label_join(gauge, "a-b", "", "device")', "topk(NaN, gauge)",
    "topk(1e30, gauge)", "topk(Inf, gauge)", 'count_values("a-b", gauge)', "holt_winters(gauge[5m], 0, 0.5)",
    "holt_winters(gauge[5m], 0.5, 1)", "holt_winters(gauge[5m], 1.5, 0.5)",
    "state + on(device) group_left(state) state", 'state * on(device) group_left(state) state{state="on"}',
]  # fmt: skip
