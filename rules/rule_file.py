"""Rule files: Prometheus rule groups, with optional extra keys → RuleGroups. The file was read elsewhere.

Every problem is found, not only the first, each with the path to its place in the document.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rules.promql import Expression, ExpressionError, is_scalar, parse
from rules.template import Template, TemplateError, parse_template
from telemetry import Problem, parse_duration
from telemetry.series import LABEL_NAME

DEFAULT_INTERVAL = 15 * 10**9
"""ns; how often groups are evaluated that are not evaluated per reading."""

GROUP_KEYS = ("name", "interval", "limit", "query_offset", "labels", "rules")
RULE_KEYS = ("alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations", "no_data")
NOT_YET = {"limit": "limits", "query_offset": "query offsets", "record": "recording rules"}


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


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules that stand together in a file."""

    name: str
    file: str
    interval: int
    """ns"""
    rules: tuple[Rule, ...]


def load_rules(data: Any, *, file: str = "") -> tuple[list[RuleGroup], list[Problem]]:
    """The groups of one rule file's document, and all that is wrong with it. Broken rules are left out."""
    reader = _Reader(file)
    groups = reader.groups(data)
    return groups, reader.problems


class _Reader:
    def __init__(self, file: str) -> None:
        self._file = file
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
        interval = self._duration(group, "interval", loc) or DEFAULT_INTERVAL
        common = self._labels(group, loc)
        rules = group.get("rules")
        if rules is None:
            rules = []
        if not isinstance(rules, list):
            self._problem("rules is a list of rules", (*loc, "rules"))
            rules = []
        names: dict[str, int] = {}
        loaded = [self._rule(rule, (*loc, "rules", i), name, common, names) for i, rule in enumerate(rules)]
        return RuleGroup(name, self._file, interval, tuple(rule for rule in loaded if rule is not None))

    def _rule(
        self,
        rule: Any,
        loc: tuple[str | int, ...],
        group: str,
        common: dict[str, Template],
        names: dict[str, int],
    ) -> Rule | None:
        before = len(self.problems)
        if not isinstance(rule, Mapping):
            self._problem("a rule is a mapping with alert and expr", loc)
            return None
        self._unknown_keys(rule, RULE_KEYS, loc)
        alert, expr = rule.get("alert"), rule.get("expr")
        if not isinstance(alert, str) or not alert:
            if "record" not in rule:
                self._problem("a rule needs a name: alert: HighTemperature", loc)
            alert = ""
        expression = self._expression(expr, (*loc, "expr") if "expr" in rule else loc)
        labels = common | self._labels(rule, loc)
        annotations = self._templates(rule, "annotations", loc)
        hold, keep = self._duration(rule, "for", loc), self._duration(rule, "keep_firing_for", loc)
        no_data = self._no_data(rule, loc)
        if len(self.problems) > before or expression is None:
            return None
        names[alert] = names.get(alert, 0) + 1
        ident = f"{group}/{alert}" + (f"#{names[alert]}" if names[alert] > 1 else "")
        return Rule(
            ident, alert, str(expr), expression, hold, keep,
            tuple(sorted(labels.items())), tuple(sorted(annotations.items())), no_data,
        )  # fmt: skip

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
        if is_scalar(expression):
            self._problem("the expression is a number, so it has no series: write for example temperature > 30", loc)
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

    def _no_data(self, rule: Mapping[str, Any], loc: tuple[str | int, ...]) -> NoData:
        try:
            return NoData(rule.get("no_data", NoData.KEEP))
        except ValueError:
            self._problem("no_data is one of keep, resolve, fire", (*loc, "no_data"))
            return NoData.KEEP

    def _unknown_keys(self, owner: Mapping[str, Any], known: tuple[str, ...], loc: tuple[str | int, ...]) -> None:
        for key in owner:
            if key in NOT_YET:
                self._problem(f"{NOT_YET[key]} ({key}) are not supported yet", (*loc, key))
            elif key not in known:
                close = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                self._problem(f"unknown key {key!r}: {hint}", (*loc, key))

    def _problem(self, message: str, loc: tuple[str | int, ...]) -> None:
        self.problems.append(Problem(message, loc, 0, self._file))


def _written(value: Any) -> str:
    """A YAML scalar as text; the reader of files gives text anyway."""
    return str(value).lower() if isinstance(value, bool) else str(value)
