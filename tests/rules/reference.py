"""A slow, obvious evaluator: one reading, one rule, one instance at a time, with dictionaries.

The engine must equal it. It shares with the engine only the parsed rule (syntax tree, durations, templates) and the
event type.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from typing import Any

from rules.promql import Binary, Call, Labels, Number, Selector
from rules.rule_file import NoData
from telemetry import AlertEvent, AlertState

NEVER = -(1 << 62)
MAX_GAP = 5 * 10**9


@dataclass
class Element:
    """One element of an expression at one instant. value None: not there; vanished: only because data went stale."""

    labels: Labels
    value: float | None
    vanished: bool
    operands: set[int]


@dataclass
class Instance:
    firing: bool = False
    condition: bool = False
    since: int = NEVER
    fired_at: int = 0
    value: float = math.nan
    unknown_since: int | None = None
    clock: int | None = None
    anchor: int = 0
    labels: Labels = ()
    events: list[AlertEvent] = field(default_factory=list)


class Reference:
    def __init__(self, rules, table, staleness):
        self.rules, self.table, self.staleness = rules, table, staleness
        self.newest: dict[int, tuple[int, float]] = {}
        self.anchors: dict[int, int] = {}
        self.instances: list[dict[Labels, Instance]] = [{} for _ in rules]
        self.uptime, self.last = 0, None
        self.out: list[AlertEvent] = []

    # ---- the stream
    def message(self, rows, received):
        """rows: (series, time, value) of one message, live ones, in order of time."""
        self.pass_time(received)
        for time in sorted({t for _, t, _ in rows}):
            readings = {s: (t, v) for s, t, v in rows if t == time}
            self.anchors |= {s: t - self.uptime for s, (t, _) in readings.items()}
            previous, self.newest = self.newest, self.newest | readings
            found = []
            for i, rule in enumerate(self.rules):
                for labels, operands in self.potential(rule):
                    if operands & set(readings):
                        instance = self.instances[i].setdefault(labels, Instance(labels=labels))
                        self.reading(rule, instance, operands, previous, time, received)
                        found += [(i, e) for e in self.drain(instance)]
            self.emit(found)

    def tick(self, now):
        self.pass_time(now)
        found = []
        for i, rule in enumerate(self.rules):
            for instance in self.instances[i].values():
                if instance.clock is not None:
                    instance.clock = self.until(rule, instance, instance.anchor + self.uptime, now)
                found += [(i, e) for e in self.drain(instance)]
        self.emit(found)

    def pass_time(self, now):
        if self.last is not None:
            self.uptime += min(max(now - self.last, 0), MAX_GAP)
        self.last = now

    def drain(self, instance):
        events, instance.events = instance.events, []
        return events

    def emit(self, found):
        found.sort(key=lambda e: (e[0], e[1].labels, e[1].ends_at or e[1].starts_at))
        self.out += [e for _, e in found]

    # ---- one instance
    def reading(self, rule, instance, operands, previous, time, received):
        saw = [self.newest[s][0] for s in operands]
        time = max(time, instance.clock if instance.clock is not None else NEVER, *saw)
        if instance.clock is not None:
            newest, self.newest = self.newest, previous
            self.until(rule, instance, time, received)
            self.newest = newest
        self.outcome(rule, instance, time, received)
        instance.clock = time
        instance.anchor = max(self.anchors[s] for s in operands)

    def until(self, rule, instance, end, detected):
        """Everything that happens strictly before `end` without a reading → the last instant at which it did."""
        operands: set[int] = next((o for labels, o in self.potential(rule) if labels == instance.labels), set())
        last = done = instance.clock
        for at in sorted(self.change_instants(rule.expression, operands)):
            if done < at < end:
                active = instance.firing or instance.condition
                self.outcome(rule, instance, at, detected)
                done = at
                if active or instance.condition:  # else nothing can be seen of it
                    last = at
        before = len(instance.events)
        self.deadlines(rule, instance, end, detected)
        times = [e.ends_at or e.starts_at for e in instance.events[before:]]
        return max([last, *times])

    def change_instants(self, node, operands):
        """Instants at which the outcome may change by itself: a sample goes stale, an age passes its limit."""
        if isinstance(node, Selector):
            for s in operands:
                if s in self.newest and node.matches(self.table[s]):
                    yield self.newest[s][0] + self.staleness
        elif is_age_comparison(node):
            limit = round(node.rhs.value * 1e9)
            first = {">": [1], "<=": [1], ">=": [0], "<": [0], "==": [0, 1], "!=": [0, 1]}[node.op]
            for s in operands:
                if s in self.newest and node.lhs.argument.matches(self.table[s]):
                    yield from (self.newest[s][0] + limit + more for more in first)
        elif not isinstance(node, Number):
            for child in (getattr(node, n, None) for n in ("lhs", "rhs", "argument")):
                if child is not None:
                    yield from self.change_instants(child, operands)

    def outcome(self, rule, instance, at, detected):
        there = [e for e in self.evaluate(rule.expression, at) if self.final(rule, e.labels) == instance.labels]
        values = [e.value for e in there if e.value is not None]
        if len(values) == 1:
            self.step(rule, instance, at, "T", values[0], detected)
        elif any(e.vanished for e in there):
            letter = {NoData.KEEP: "U", NoData.RESOLVE: "F", NoData.FIRE: "T"}[rule.no_data]
            self.step(rule, instance, at, letter, math.nan, detected)
        else:
            self.step(rule, instance, at, "F", math.nan, detected)

    def step(self, rule, instance, at, outcome, value, detected):
        """Prometheus' state machine, one evaluation."""
        self.deadlines(rule, instance, at, detected)
        if instance.unknown_since is not None:
            instance.since += at - instance.unknown_since
            instance.unknown_since = None
        if outcome == "U":
            instance.unknown_since = at
            return
        condition = outcome == "T"
        if condition != instance.condition:
            instance.condition, instance.since = condition, at
        if condition:
            instance.value = value
        self.due(rule, instance, at, detected)

    def deadlines(self, rule, instance, before, detected):
        """Timers that pass strictly before `before`."""
        if instance.unknown_since is None:
            wait = rule.hold if instance.condition else rule.keep
            if instance.firing != instance.condition and instance.since + wait < before:
                self.turn(rule, instance, instance.since + wait, detected)

    def due(self, rule, instance, at, detected):
        wait = rule.hold if instance.condition else rule.keep
        if instance.firing != instance.condition and instance.since + wait <= at:
            self.turn(rule, instance, instance.since + wait, detected)

    def turn(self, rule, instance, at, detected):
        instance.firing = not instance.firing
        if instance.firing:
            instance.fired_at = at
        labels = dict(instance.labels)
        annotations = tuple((n, t.expand(labels, instance.value)) for n, t in rule.annotations)
        instance.events.append(
            AlertEvent(
                rule.id,
                instance.labels,
                AlertState.FIRING if instance.firing else AlertState.RESOLVED,
                instance.value,
                instance.fired_at,
                0 if instance.firing else at,
                detected,
                annotations,
            )
        )

    # ---- expressions
    def final(self, rule, labels):
        given = {n: v for n, v in labels if n != "__name__"}
        own = {n: t.expand(given, math.nan) for n, t in rule.labels}
        return tuple(sorted((n, v) for n, v in (given | own | {"alertname": rule.alert}).items() if v))

    def potential(self, rule):
        """(final labels, series) of each instance that the series seen so far can give."""
        merged: dict[Labels, set[int]] = {}
        for e in self.evaluate(rule.expression, None):
            merged.setdefault(self.final(rule, e.labels), set()).update(e.operands)
        return list(merged.items())

    def evaluate(self, node, at):
        """All elements; at None: those that can ever be, regardless of values and time."""
        match node:
            case Selector():
                return [self.look(node, s, at, age=False) for s in sorted(self.newest) if node.matches(self.table[s])]
            case Call(function="age", argument=Selector() as selector):
                found = [s for s in sorted(self.newest) if selector.matches(self.table[s])]
                return [self.look(selector, s, at, age=True) for s in found]
            case Call():
                return [self.mapped(e, lambda v: scalar_call(node, v)) for e in self.evaluate(node.argument, at)]
            case Binary(op="and" | "or" | "unless"):
                return self.set_operation(node, at)
            case Binary(lhs=Number() as n):
                return [self.compared(node, e, lambda v: (n.value, v), at) for e in self.evaluate(node.rhs, at)]
            case Binary(rhs=Number() as n):
                return [self.compared(node, e, lambda v: (v, n.value), at) for e in self.evaluate(node.lhs, at)]
        return self.matched(node, at)

    def look(self, selector, s, at, *, age):
        series = self.table[s]
        labels = series.labels if age else tuple(sorted((("__name__", series.metric), *series.labels)))
        if at is None:
            return Element(labels, 0.0, False, {s})
        time, value = self.newest[s]
        if age:
            return Element(labels, (at - time) / 1e9, False, {s})
        fresh = at < time + self.staleness
        return Element(labels, value if fresh else None, not fresh, {s})

    def mapped(self, e, f):
        labels = tuple(p for p in e.labels if p[0] != "__name__")
        return Element(labels, None if e.value is None else f(e.value), e.vanished, e.operands)

    def compared(self, node, e, pair, at):
        if node.op in ("==", "!=", ">", "<", ">=", "<=") and not node.return_bool:
            keep = e.value is not None and (at is None or scalar(node.op, *pair(e.value)))
            return Element(e.labels, e.value if keep else None, e.vanished, e.operands)
        return self.mapped(e, lambda v: float(scalar(node.op, *pair(v))))

    def matched(self, node, at):
        lhs, rhs = self.evaluate(node.lhs, at), self.evaluate(node.rhs, at)
        out = []
        keys = {node.matching.key(e.labels) for e in lhs} & {node.matching.key(e.labels) for e in rhs}
        for key in sorted(keys):
            left = [e for e in lhs if node.matching.key(e.labels) == key]
            right = [e for e in rhs if node.matching.key(e.labels) == key]
            operands = set().union(*(e.operands for e in left + right))
            a, b = one_of(left), one_of(right)
            if at is None:
                out.append(Element(key, 0.0, False, operands))
            elif a.value is not None and b.value is not None:
                result = scalar(node.op, a.value, b.value)
                filters = node.op in ("==", "!=", ">", "<", ">=", "<=") and not node.return_bool
                value = (a.value if result else None) if filters else float(result)
                out.append(Element(key, value, False, operands))
            else:
                possible = (a.value is not None or a.vanished) and (b.value is not None or b.vanished)
                out.append(Element(key, None, possible, operands))
        return out

    def set_operation(self, node, at):
        lhs, rhs = self.evaluate(node.lhs, at), self.evaluate(node.rhs, at)
        key = node.matching.key
        out = []
        for e in lhs:
            other = [r for r in rhs if key(r.labels) == key(e.labels)]
            operands = e.operands.union(*(r.operands for r in other)) if node.op != "or" else e.operands
            there = any(r.value is not None for r in other)
            maybe = there or any(r.vanished for r in other)
            if at is None or node.op == "or":
                out.append(Element(e.labels, e.value, e.vanished, operands))
            elif node.op == "and":
                value = e.value if there else None
                out.append(
                    Element(e.labels, value, value is None and maybe and (e.value is not None or e.vanished), operands)
                )
            else:
                out.append(Element(e.labels, None if there else e.value, e.vanished and not there, operands))
        if node.op == "or":
            for e in rhs:
                other = [r for r in lhs if key(r.labels) == key(e.labels)]
                hidden = any(r.value is not None for r in other) and at is not None
                operands = e.operands.union(*(r.operands for r in other))
                out.append(Element(e.labels, None if hidden else e.value, e.vanished and not hidden, operands))
        return out


def one_of(elements):
    """The one that is there; two at once count as none."""
    there = [e for e in elements if e.value is not None]
    if len(there) == 1:
        return there[0]
    return Element((), None, not there and any(e.vanished for e in elements), set())


def is_age_comparison(node: Any) -> bool:
    return isinstance(node, Binary) and isinstance(node.lhs, Call) and node.lhs.function == "age"


def scalar(op, a, b):
    return SCALAR[op](a, b)


def divided(a, b):
    if b == 0:
        return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


SCALAR = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": divided,
    "%": lambda a, b: math.nan if b == 0 or math.isinf(a) else math.fmod(a, b),
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


def scalar_call(node, v):
    if math.isnan(v):
        return v
    match node.function:
        case "abs":
            return abs(v)
        case "clamp_max":
            return min(v, node.parameters[0])
        case "clamp_min":
            return max(v, node.parameters[0])
        case "ceil":
            return v if math.isinf(v) else float(math.ceil(v))
    raise AssertionError(node.function)
