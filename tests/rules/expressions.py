"""Random expressions, type-correct by construction, and what the reference evaluator finds for them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import hypothesis.strategies as st

from rules.promql import parse
from telemetry import Series, SeriesTable
from tests.rules.promql_reference import Track, World, evaluate

SERIES = [
    'x{device="a"}', 'y{device="a"}', 'z{device="a", state="on"}', 'z{device="a", state="off"}', 'x{device="b"}',
    'y{device="b"}', 'z{device="b", state="on"}', 'x{device="c", site="s"}', 'y{device="c", site="t"}',
]  # fmt: skip

# Templates: <name> stands for one of CHOICES, <e> for another expression; numbers there are multiples of the unit.

_OVER_TIME = ("avg", "min", "max", "sum", "count", "stddev", "stdvar", "last", "first", "present", "mad")
_OF_RANGES = ("delta", "idelta", "rate", "increase", "irate", "deriv", "changes", "resets")
_FUNCTIONS = (
    "abs",
    "ceil",
    "floor",
    "round",
    "sqrt",
    "ln",
    "log2",
    "log10",
    "sgn",
    "sin",
    "atan",
    "asin",
    "tanh",
    "rad",
)
_WINDOWS = [
    *(f"{name}_over_time(%s)" for name in _OVER_TIME), *(f"{name}(%s)" for name in _OF_RANGES),
    "quantile_over_time(0.3, %s)", "quantile_over_time(1, %s)", "predict_linear(%s, 4)",
    "double_exponential_smoothing(%s, 0.5, 0.25)",
]  # fmt: skip
_OPERATIONS = [
    ["(<e> <op> <constant>)", "(<constant> <op> <e>)"],
    ["(<e> <op> <same> <e>)", "(<e> <op> <many> <e>)"],
    ["(<e> <set> <same> <e>)"],
    [
        "-<e>", *(f"{name}(<e>)" for name in _FUNCTIONS), "round(<e>, 2)", "clamp(<e>, 1, 6)", "clamp(<e>, 6, 1)",
        "clamp_max(<e>, 5)", "clamp_min(<e>, 2)", "exp(clamp_max(<e>, 5))", "sort(<e>)", "sort_desc(<e>)",
        "minute(<e> * 60)", "hour(<e> * 3600)", "day_of_week(<e> * 86400)", "day_of_month(<e> * 86400)",
        "day_of_year(<e> * 86400)", "days_in_month(<e> * 86400)", "month(<e> * 1e6)", "year(<e> * 1e7)",
    ],
    [
        'label_replace(<e>, "site", "in-$1", "device", "(.*)")',
        'label_replace(<e>, "half", "${1}x$2", "state", "(o)(.).*")',
        'label_replace(<e>, "state", "", "state", "off")',
        'label_join(<e>, "both", "-", "device", "site")',
    ],
]  # fmt: skip
TEMPLATES: dict[str, list[list[str]]] = {
    "pointwise": [
        ["<selector>", "age(<selector>)", "<selector> offset <ago>"],
        [window % "<selector>[<window>]" for window in _WINDOWS],
        [window % "<selector>[<window>] offset <ago>" for window in _WINDOWS],
    ],
    "pointwise of": _OPERATIONS,
    "any": [
        ["<selector>"],
        ["<selector> <at>", "<selector> <at> offset <ago>", "<selector> offset -<ago>"],
        ["topk(2, <selector>)", "bottomk by (site) (1, <selector>)", 'topk(scalar(x{device="a"}), <selector>)'],
        ["vector(3)", "vector(time() % 11)", "hour()", "minute()", "day_of_week()", "vector(pi())"],
        ['absent(x{device="a"})', 'absent(y{device="q", site=~"s"})', "absent_over_time(<selector>[<ago>])"],
        [window % "<selector>[<window>]" for window in _WINDOWS],
        [window % "<selector>[<window>] <at>" for window in _WINDOWS],
    ],
    "any of": [
        *_OPERATIONS,
        ["(<e> <op> <any> <e>)", "(<e> <set> <wide> <e>)"],
        [
            "sum(<e>)", "sum by (device) (<e>)", "avg by (site) (<e>)", "avg without (device) (<e>)", "min(<e>)",
            "max by (device, state) (<e>)", "count(<e>)", "count by (site) (<e>)", "group without (state) (<e>)",
            "stddev by (device) (<e>)", "stdvar(<e>)", "quantile(0.4, <e>)", "quantile by (device) (0.9, <e>)",
            'count_values("v", round(<e>))', 'count_values by (device) ("v", round(<e>))',
            'count_values without (device) ("v", round(<e>))',
        ],
        [window % "<e>[<window>:<step>]" for window in _WINDOWS],
        [window % "<e>[<window>:<step>] offset <ago>" for window in _WINDOWS],
        [window % "<e>[<window>:<step>] <at>" for window in _WINDOWS],
        ["(x - scalar(<e>))", "(x > scalar(<e>))", "(x - (time() - <e>))", "vector(scalar(<e>))"],
        ["absent(<e>)", "timestamp(<e>)", "timestamp(<selector>)", "absent_over_time(<e>[<ago>:<step>])"],
    ],
}  # fmt: skip
"""Groups of templates. topk is of selectors only, as it is for the order of elements which of equal values it keeps."""
CHOICES: dict[str, Sequence[str | int]] = {
    "selector": ["x", "y", "z", 'z{state="on"}', 'x{device=~"a|c"}', 'y{device!="b"}', 'x{site=""}', 'y{site!~"t|u"}'],
    "constant": ["0", "2", "5", "-1", "2.5"],
    "op": ["+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<", ">=", "<=", "> bool", "== bool", "<= bool"],
    "set": ["and", "or", "unless"],
    "same": ["", "on(device)", "ignoring(site)", "ignoring(state, site)", "on(device, site)"],
    "many": [
        "on(device) group_left()", "on(device) group_left(site)", "on(device) group_right()",
        "on(device) group_right(state)", "ignoring(state) group_left()", "on(device, site) group_left(state)",
    ],
    "wide": ["on()", "on(site)", "ignoring(device, state)"],
    "any": ["on()", "on(site)", "ignoring(device, state)", "on(site) group_left()", "on(state) group_right(device)"],
    "at": ["@ start()", "@ end()", "@ <nine>", "@ <twenty>"],
    "window": [2, 3, 5, 8, 20], "step": [0, 1, 2, 3], "ago": [1, 2, 5],
}  # fmt: skip


@st.composite
def _written(draw: st.DrawFn, kind: str, unit: int, origin: int, inner: st.SearchStrategy[str] | None = None) -> str:
    def fill(name: re.Match[str]) -> str:
        if name[1] == "e":
            assert inner is not None
            return draw(inner)
        choice = draw(st.sampled_from(CHOICES[name[1]]))
        return choice if isinstance(choice, str) else f"{choice * unit}s" if choice else ""

    template = draw(st.sampled_from(draw(st.sampled_from(TEMPLATES[kind]))))
    text = re.sub(r"<(\w+)>", fill, template)
    return text.replace("<nine>", str(origin + 9 * unit)).replace("<twenty>", str(origin + 20 * unit))


def pointwise(unit: int = 1) -> st.SearchStrategy[str]:
    """Expressions whose elements depend on one device each; `unit`: seconds, of which all durations are multiples."""
    return st.recursive(
        _written("pointwise", unit, 0), lambda inner: _written("pointwise of", unit, 0, inner), max_leaves=5
    )


def anything(unit: int = 1, *, origin: int = 0) -> st.SearchStrategy[str]:
    """Expressions of all of PromQL; `origin`: unix seconds, soon after which `@` looks."""
    leaf = st.one_of(_written("pointwise", unit, origin), _written("any", unit, origin))
    return st.recursive(leaf, lambda inner: _written("any of", unit, origin, inner), max_leaves=5)


expressions = pointwise()
any_expressions = anything(origin=1_700_000_000)


def track_of(series: Series, samples: Iterable[tuple[int, float]], **more: int) -> Track:
    """What the reference evaluator is told of a series; samples: (ns, value)."""
    return Track(tuple(sorted((("__name__", series.metric), *series.labels))), tuple(samples), **more)


def found_by_reference(
    expr: str, table: SeriesTable, newest: Mapping[int, tuple[int, float]], at: int, staleness: int
) -> list[tuple[dict[str, str], str]]:
    """(labels without `__name__`, value) of the elements that are there at `at`, sorted. Raises EvaluationError."""
    world = World([track_of(table[i], [newest[i]], staleness=staleness) for i in sorted(newest)])
    return nameless((dict(e.labels), e.value) for e in evaluate(parse(expr), at, world) if e.value is not None)


def nameless(elements: Iterable[tuple[Mapping[str, str], float]]) -> list[tuple[dict[str, str], str]]:
    """Elements without their metric names, sorted; values as text, to nine digits, so that NaN compares."""
    plain = [({n: v for n, v in labels.items() if n != "__name__"}, about(value)) for labels, value in elements]
    return sorted(plain, key=str)


def about(value: float) -> str:
    """The number to nine digits; what is nothing but a rounding error is 0."""
    return "0" if math.isfinite(value) and abs(value) < 1e-9 else f"{value:.9g}"
