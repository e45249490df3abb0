"""Cases of a test: what is expected beside what there is. Here: promtool's comparisons, and ours where it has none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rules import Alert, ExpressionError, query_range
from telemetry import AlertEvent, format_duration
from tocsin.rule_tests.notation import parse_metric
from tocsin.rule_tests.outcome import Element
from tocsin.rule_tests.playback import SampleStore
from tocsin.rule_tests.test_file import AlertCase, ExpectedNotifications, ExprCase
from tocsin.words import exact
from tocsin.yaml_source import Loc

_NAN = "NaN equals nothing, for promtool too: let the expression compare, as in count(x != x)"
_LAST_DIGITS = "only the last digits differ: round in the expression, or see whether fuzzy_compare: true is enough"


@dataclass(frozen=True)
class Case:
    """One expectation, and what became of it."""

    loc: Loc
    """Within the test"""
    what: str
    ok: bool
    expected: tuple[Element, ...] = ()
    got: tuple[Element, ...] = ()
    problem: str = ""
    """Why nothing could be compared"""
    offset: int = 0
    notes: tuple[str, ...] = ()


def alert_case(case: AlertCase, loc: Loc, alerts: Iterable[Alert], start: int) -> Case:
    """Compare alerts of one name in the state that is asked for; `alerts`: all of that time, `start`: ns."""
    default = case.exp_state or "firing"
    states = {default} | {alert.exp_state for alert in case.exp_alerts or () if alert.exp_state}
    named = [alert for alert in alerts if dict(alert.labels).get("alertname") == case.alertname]
    others = tuple(_other(alert, start) for alert in named if alert.state not in states)[:3]
    shown = len(states) > 1
    got = tuple(
        Element(dict(alert.labels), alert.state if shown else "", dict(alert.annotations))
        for alert in named
        if alert.state in states
    )
    what = f"{' and '.join(sorted(states))} alerts {case.alertname} at {format_duration(case.eval_time)}"
    if case.exp_alerts is None and case.exp_state is not None:
        some = Element({"alertname": case.alertname}, "at least one")
        return Case(loc, what, bool(got), (some,), got, notes=() if got else others)
    expected = tuple(
        Element(
            alert.exp_labels | {"alertname": case.alertname},
            (alert.exp_state or default) if shown else "",
            alert.exp_annotations,
        )
        for alert in case.exp_alerts or ()
    )
    ok = sorted(map(_key, expected)) == sorted(map(_key, got))
    return Case(loc, what, ok, expected, got, notes=() if ok else others)


def expr_case(case: ExprCase, loc: Loc, store: SampleStore, *, start: int, step: int, fuzzy: bool) -> Case:
    """Evaluate the expression and compare; `start` of the test and `step` of subqueries that have none: ns."""
    what = f"{' '.join(case.expr.split())} at {format_duration(case.eval_time)}"
    wanted = [(parse_metric(sample.labels), sample.value) for sample in case.exp_samples]
    expected = tuple(Element(label, exact(value)) for label, value in wanted)
    at = start + case.eval_time
    try:
        found = query_range(case.expr, store.table, store.read, at, at, 10**9, substep=step)
    except ExpressionError as error:
        return Case((*loc, "expr"), what, ok=False, problem=str(error), offset=error.offset)
    there = [({n: v for n, v in label.items() if v}, float(value[0])) for label, _, value in found]
    got = tuple(Element(label, exact(value)) for label, value in there)
    pairs = list(_pairs(wanted, there))
    ok = len(pairs) == len(wanted) == len(there) and all(_same(a, b, fuzzy=fuzzy) for a, b in pairs)
    notes = []
    if not ok and len(pairs) == len(wanted) == len(there):
        if any(math.isnan(a) and math.isnan(b) for a, b in pairs):
            notes.append(_NAN)
        elif all(math.isclose(a, b, rel_tol=1e-12) or a == b for a, b in pairs):
            notes.append(_LAST_DIGITS)
    return Case(loc, what, ok, expected, got, notes=tuple(notes))


def notifications_case(case: ExpectedNotifications, loc: Loc, events: Iterable[AlertEvent]) -> Case:
    """Count what receivers are told during a test."""
    names = [dict(event.labels).get("alertname") for event in events if event.state == case.state]
    n = sum(case.alertname in (None, name) for name in names)
    what = f"{case.state} notifications" + (f" of {case.alertname}" if case.alertname else "") + " during the test"
    expected, got = (Element({}, f"{count}") for count in (case.count, n))
    return Case(loc, what, n == case.count, (expected,), (got,))


def _pairs(
    wanted: Sequence[tuple[Mapping[str, str], float]], got: Sequence[tuple[Mapping[str, str], float]]
) -> Iterator[tuple[float, float]]:
    """The values of elements whose labels are the same."""
    values = {tuple(sorted(labels.items())): value for labels, value in got}
    for labels, value in wanted:
        found = values.pop(tuple(sorted(labels.items())), None)
        if found is not None:
            yield value, found


def _same(a: float, b: float, *, fuzzy: bool) -> bool:
    """As promtool: exactly equal, or, with fuzzy_compare, neighbours."""
    return a == b or (fuzzy and b in (math.nextafter(a, -math.inf), math.nextafter(a, math.inf)))


def _key(element: Element) -> tuple[list[tuple[str, str]], str, list[tuple[str, str]]]:
    return sorted(element.labels.items()), element.text, sorted(element.annotations.items())


def _other(alert: Alert, start: int) -> str:
    labels = ", ".join(f'{name}="{value}"' for name, value in alert.labels if name != "alertname")
    return f"{{{labels}}} is {alert.state} since {format_duration(alert.active_at - start)}"
