"""Random expressions, and what the reference evaluator finds for them."""

from __future__ import annotations

import hypothesis.strategies as st

from rules.promql import parse
from telemetry import SeriesTable
from tests.rules.reference import Reference

SERIES = [
    'x{device="a"}', 'y{device="a"}', 'z{device="a", state="on"}', 'z{device="a", state="off"}', 'x{device="b"}',
    'y{device="b"}', 'z{device="b", state="on"}', 'x{device="c", site="s"}', 'y{device="c", site="t"}',
]  # fmt: skip

_ARITHMETIC = st.sampled_from(["+", "-", "*", "/", "%"])
_COMPARISON = st.sampled_from(["==", "!=", ">", "<", ">=", "<=", "> bool", "== bool", "<= bool"])
_MATCHING = st.sampled_from(["", "on(device)", "ignoring(site)", "ignoring(state, site)", "on(device, site)"])
_CONSTANT = st.sampled_from(["0", "2", "5", "-1", "2.5"])
_SELECTOR = st.sampled_from(
    ["x", "y", "z", 'z{state="on"}', 'x{device=~"a|c"}', 'y{device!="b"}', 'x{site=""}', "age(x)", "age(y)"]
)


def _operations(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    both = st.one_of(_ARITHMETIC, _COMPARISON)
    return st.one_of(
        st.builds("({} {} {})".format, inner, both, _CONSTANT),
        st.builds("({} {} {})".format, _CONSTANT, both, inner),
        st.builds("({} {} {} {})".format, inner, both, _MATCHING, inner),
        st.builds("({} {} {} {})".format, inner, st.sampled_from(["and", "or", "unless"]), _MATCHING, inner),
        st.builds("abs({})".format, inner),
        st.builds("clamp_max({}, 5)".format, inner),
        st.builds("-{}".format, inner),
    )


expressions = st.recursive(_SELECTOR, _operations, max_leaves=5)


def found_by_reference(
    expr: str, table: SeriesTable, newest: dict[int, tuple[int, float]], at: int, staleness: int
) -> list[tuple[dict[str, str], str]]:
    """(labels without `__name__`, value) of the elements that are there at `at`, sorted."""
    reference = Reference([], table, staleness)
    reference.newest = newest
    there = [e for e in reference.evaluate(parse(expr), at) if e.value is not None]
    return nameless((dict(e.labels), float(e.value)) for e in there)


def nameless(elements) -> list[tuple[dict[str, str], str]]:
    """Elements without their metric names, sorted; NaN compares as text."""
    plain = [({n: v for n, v in labels.items() if n != "__name__"}, repr(value)) for labels, value in elements]
    return sorted(plain, key=str)
