"""Rule files: Prometheus rule groups, with optional extra keys → RuleGroups. The file was read elsewhere.

Every problem is found, not only the first, each with the path to its place in the document.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from rules.promql import ExpressionError, parse
from rules.syntax import Expression, Selector, Subquery, operands
from rules.template import Template, TemplateError, parse_template
from telemetry import Problem, parse_duration
from telemetry.series import LABEL_NAME, METRIC_NAME

DEFAULT_INTERVAL = 15 * 10**9
"""ns; how often groups are evaluated that are not evaluated per reading."""

GROUP_KEYS = ("name", "interval", "limit", "query_offset", "labels", "rules", "compat")
RULE_KEYS = ("alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations", "no_data")


class NoData(StrEnum):
    """What becomes of an alert whose data has vanished."""

    KEEP = "keep"
    """It stays as it is, and its timers stand still (default)."""
    RESOLVE = "resolve"
    """It counts as false, as in Prometheus."""
    FIRE = "fire"
    """It counts as true."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One alerting rule."""

    id: str
    """`<group>/<alert>`, with `#2` … for later rules of the same name in the group."""
    alert: str
    expr: str
    expression: Expression
    hold: int
    """`for`, ns"""
    keep: int
    """`keep_firing_for`, ns"""
    labels: tuple[tuple[str, Template], ...]
    annotations: tuple[tuple[str, Template], ...]
    no_data: NoData
    interval: int = DEFAULT_INTERVAL
    """ns; of the group, as the following"""
    limit: int = 0
    """Alerts of the rule at most; 0: any number"""
    query_offset: int = 0
    """ns; how long before the grid's instants the expression is evaluated"""
    compat: bool = False
    """Everything as in Prometheus: on the grid, by our clock, and what is not there is false"""

    @property
    def wants_grid(self) -> bool:
        """Whether it is evaluated on its group's grid even if readings could drive it."""
        return self.compat or self.limit > 0 or self.query_offset > 0


@dataclass(frozen=True, slots=True)
class Record:
    """One recording rule."""

    id: str
    """`<group>/<record>`, with `#2` … for later rules of the same name in the group."""
    record: str
    """Metric of the series that it makes"""
    expr: str
    expression: Expression
    labels: tuple[tuple[str, str], ...]
    interval: int = DEFAULT_INTERVAL
    limit: int = 0
    query_offset: int = 0
    compat: bool = False


@dataclass(frozen=True, slots=True)
class _Options:
    """What the rules of a group have in common."""

    name: str
    labels: dict[str, Template]
    interval: int
    limit: int
    query_offset: int
    compat: bool


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that stand together in a file."""

    name: str
    file: str
    interval: int
    """ns"""
    rules: tuple[Rule | Record, ...]


def load_rules(data: Any, *, file: str = "", compat: bool = False) -> tuple[list[RuleGroup], list[Problem]]:
    """The groups of one rule file's document, and all that is wrong with it. Broken rules are left out.

    compat: take every group as one with `compat: prometheus`, whatever its rules say of no_data.
    """
    reader = _Reader(file, compat=compat)
    groups = reader.groups(data)
    return groups, reader.problems


class _Reader:
    def __init__(self, file: str, *, compat: bool) -> None:
        self._file, self._compat = file, compat
        self.problems: list[Problem] = []

    def groups(self, data: Any) -> list[RuleGroup]:
        if not isinstance(data, Mapping) or not isinstance(data.get("groups"), list):
            self._problem("a rule file has the key groups with a list, as in: groups: [{name: …, rules: [...]}]", ())
            return []
        self._unknown_keys(data, ("groups",), ())
        found: list[RuleGroup] = []
        for i, group in enumerate(data["groups"]):
            loc = ("groups", i)
            if not isinstance(group, Mapping):
                self._problem("a group is a mapping with name and rules", loc)
                continue
            if any(g.name == group.get("name") for g in found):
                self._problem(f"the group name {group['name']!r} is used twice in this file", (*loc, "name"))
                continue
            found.append(self._group(group, loc))
        return found

    def _group(self, group: Mapping[str, Any], loc: tuple[str | int, ...]) -> RuleGroup:
        self._unknown_keys(group, GROUP_KEYS, loc)
        name = group.get("name")
        if not isinstance(name, str) or not name:
            self._problem("a group needs a name", (*loc, "name"))
            name = "?"
        options = _Options(
            name,
            self._labels(group, loc),
            self._duration(group, "interval", loc) or DEFAULT_INTERVAL,
            self._limit(group, loc),
            self._duration(group, "query_offset", loc),
            self._is_compat(group, loc),
        )
        rules = group.get("rules")
        if rules is None:
            rules = []
        if not isinstance(rules, list):
            self._problem("rules is a list of rules", (*loc, "rules"))
            rules = []
        names: dict[str, int] = {}
        loaded = [self._rule(rule, (*loc, "rules", i), options, names) for i, rule in enumerate(rules)]
        return RuleGroup(name, self._file, options.interval, tuple(rule for rule in loaded if rule is not None))

    def _rule(
        self, rule: Any, loc: tuple[str | int, ...], group: _Options, names: dict[str, int]
    ) -> Rule | Record | None:
        if not isinstance(rule, Mapping):
            self._problem("a rule is a mapping with alert (or record) and expr", loc)
            return None
        before = len(self.problems)
        expression = self._expression(rule.get("expr"), (*loc, "expr") if "expr" in rule else loc)
        kind = self._recording if "record" in rule and "alert" not in rule else self._alerting
        loaded = kind(rule, loc, group, expression)
        if len(self.problems) > before or loaded is None:
            return None
        name = loaded.record if isinstance(loaded, Record) else loaded.alert
        names[name] = names.get(name, 0) + 1
        ident = f"{group.name}/{name}" + (f"#{names[name]}" if names[name] > 1 else "")
        return replace(loaded, id=ident)

    def _alerting(
        self, rule: Mapping[str, Any], loc: tuple[str | int, ...], group: _Options, expression: Expression | None
    ) -> Rule | None:
        self._unknown_keys(rule, RULE_KEYS, loc)
        alert = rule.get("alert")
        if "record" in rule:
            self._problem("a rule has either alert or record", (*loc, "record"))
        elif not isinstance(alert, str) or not alert:
            self._problem("a rule needs a name: alert: HighTemperature", loc)
        labels = group.labels | self._labels(rule, loc)
        annotations = self._templates(rule, "annotations", loc)
        hold, keep = self._duration(rule, "for", loc), self._duration(rule, "keep_firing_for", loc)
        no_data = self._no_data(rule, loc, group)
        if expression is None:
            return None
        return Rule(
            "", str(alert), str(rule["expr"]), expression, hold, keep,
            tuple(sorted(labels.items())), tuple(sorted(annotations.items())), no_data,
            group.interval, group.limit, group.query_offset, group.compat,
        )  # fmt: skip

    def _recording(
        self, rule: Mapping[str, Any], loc: tuple[str | int, ...], group: _Options, expression: Expression | None
    ) -> Record | None:
        self._unknown_keys(rule, RULE_KEYS, loc)
        for key in ("for", "keep_firing_for", "annotations", "no_data"):
            if key in rule:
                self._problem(f"{key} is for alerts: a recording rule has record, expr and labels", (*loc, key))
        record = rule.get("record")
        if not isinstance(record, str) or not METRIC_NAME.fullmatch(record):
            self._problem(f"{record!r} is not a metric name: use letters, digits, _ and :", (*loc, "record"))
        labels = group.labels | self._labels(rule, loc)
        if expression is None:
            return None
        return Record(
            "", str(record), str(rule["expr"]), expression,
            tuple(sorted((name, template.text) for name, template in labels.items())),
            group.interval, group.limit, group.query_offset, group.compat,
        )  # fmt: skip

    def _limit(self, group: Mapping[str, Any], loc: tuple[str | int, ...]) -> int:
        text = str(group.get("limit") or 0)
        if not text.isdecimal() or len(text) > 9:
            self._problem(
                "limit is a number: how many alerts, or recorded series, a rule may have at most", (*loc, "limit")
            )
            return 0
        return int(text)

    def _is_compat(self, group: Mapping[str, Any], loc: tuple[str | int, ...]) -> bool:
        if group.get("compat") not in (None, "prometheus"):
            self._problem("compat can only be prometheus", (*loc, "compat"))
        return self._compat or group.get("compat") == "prometheus"

    def _expression(self, expr: Any, loc: tuple[str | int, ...]) -> Expression | None:
        if isinstance(expr, int | float):
            expr = str(expr)
        if not isinstance(expr, str):
            self._problem("a rule needs an expression: expr: temperature > 30", loc)
            return None
        try:
            expression = parse(expr)
        except ExpressionError as error:
            self.problems.append(Problem(str(error), loc, error.offset, self._file))
            return None
        if _looks_at_fixed_instant(expression):
            advice = "a rule looks at what is new; use offset, e.g. x offset 1d"
            self._problem(f"@ with a time, and any @ in a subquery, is for queries: {advice}", loc)
            return None
        return expression

    def _labels(self, owner: Mapping[str, Any], loc: tuple[str | int, ...]) -> dict[str, Template]:
        labels = self._templates(owner, "labels", loc)
        for name, template in labels.items():
            if template.uses_value:
                why = "every new value would be a new alert; put it into an annotation"
                self._problem(f"the label {name} must not depend on the value: {why}", (*loc, "labels", name))
            if not LABEL_NAME.fullmatch(name) or name in ("__name__", "alertname"):
                self._problem(f"{name!r} cannot be a label here", (*loc, "labels", name))
        return labels

    def _templates(self, owner: Mapping[str, Any], key: str, loc: tuple[str | int, ...]) -> dict[str, Template]:
        texts = owner.get(key)
        if texts is None:
            return {}
        if not isinstance(texts, Mapping):
            self._problem(f"{key} is a mapping of names to texts", (*loc, key))
            return {}
        found: dict[str, Template] = {}
        for name, text in texts.items():
            if not isinstance(name, str) or isinstance(text, Mapping | list) or text is None:
                self._problem(f"{key} is a mapping of names to texts", (*loc, key, name))
                continue
            try:
                found[name] = parse_template(_written(text))
            except TemplateError as error:
                self.problems.append(Problem(str(error), (*loc, key, name), error.offset, self._file))
        return found

    def _duration(self, owner: Mapping[str, Any], key: str, loc: tuple[str | int, ...]) -> int:
        if owner.get(key) is None:
            return 0
        try:
            return parse_duration(owner[key])
        except ValueError as error:
            self._problem(str(error), (*loc, key))
            return 0

    def _no_data(self, rule: Mapping[str, Any], loc: tuple[str | int, ...], group: _Options) -> NoData:
        if group.compat and not self._compat and "no_data" in rule:
            self._problem("no_data has no place in a group with compat: prometheus", (*loc, "no_data"))
            return NoData.RESOLVE
        try:
            no_data = NoData(rule.get("no_data", NoData.KEEP))
        except ValueError:
            self._problem("no_data is one of keep, resolve, fire", (*loc, "no_data"))
            return NoData.KEEP
        return NoData.RESOLVE if group.compat else no_data

    def _unknown_keys(self, owner: Mapping[str, Any], known: tuple[str, ...], loc: tuple[str | int, ...]) -> None:
        for key in owner:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                self._problem(f"unknown key {key!r}: {hint}", (*loc, key))

    def _problem(self, message: str, loc: tuple[str | int, ...]) -> None:
        self.problems.append(Problem(message, loc, 0, self._file))


def _written(value: Any) -> str:
    """A YAML scalar as text; the reader of files gives text anyway."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _looks_at_fixed_instant(node: Expression, *, inside: bool = False) -> bool:
    """Whether a selector or subquery has `@` with a time, or, `inside` a subquery, any."""
    at = node.instant.at if isinstance(node, Selector | Subquery) else None
    if isinstance(at, int) or (inside and at is not None):
        return True
    inside = inside or isinstance(node, Subquery)
    return any(_looks_at_fixed_instant(operand, inside=inside) for operand in operands(node))
