"""What the page of rules lists: each rule with its state, its health and how it is evaluated. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rules import Record, Rule, RuleGroup
from rules.compile import is_pointwise
from rules.syntax import is_scalar
from telemetry import format_duration
from tocsin.backend import Backend
from tocsin.console.filtering import Filter

_ORDER = {"error": 0, "firing": 1, "pending": 2, "recording": 3, "inactive": 4}


@dataclass(frozen=True, slots=True)
class RuleItem:
    """One rule."""

    id: str
    name: str
    kind: str
    """alert or record"""
    expr: str
    evaluation: str
    """When it is evaluated, in words."""
    extra: tuple[str, ...]
    """What else it says, in words: for, keep firing for, labels …"""
    firing: int
    pending: int
    error: str
    """Why it cannot be evaluated; empty if it can."""
    cost: str
    """Of its evaluation, lately; empty if it is not known."""

    @property
    def state(self) -> str:
        """error, firing, pending, inactive; of a recording rule, recording."""
        if self.error:
            return "error"
        if self.kind == "record":
            return "recording"
        return "firing" if self.firing else "pending" if self.pending else "inactive"

    @property
    def fields(self) -> dict[str, str]:
        """What can be filtered by."""
        return {"rule": self.id, "name": self.name, "expr": self.expr, "state": self.state, "error": self.error}


@dataclass(frozen=True, slots=True)
class GroupItem:
    """One group of a rule file."""

    name: str
    file: str
    interval: str
    rules: tuple[RuleItem, ...]


def groups_of(backend: Backend, wanted: Filter) -> list[GroupItem]:
    """The groups with the rules that pass the filter; groups without any are left out."""
    states = Counter((alert.rule, alert.state) for alert in backend.alerts())
    errors, costs = backend.rule_errors(), backend.rule_costs()
    recorded = {rule.record for group in backend.groups for rule in group.rules if isinstance(rule, Record)}
    found = []
    for group in backend.groups:
        items = [
            _item(
                rule,
                recorded,
                firing=states[rule.id, "firing"],
                pending=states[rule.id, "pending"],
                error=errors.get(rule.id, ""),
                cost=costs.get(rule.id),
            )
            for rule in group.rules
        ]
        passing = tuple(item for item in items if wanted.matches(item.fields | {"group": group.name}))
        if passing:
            found.append(GroupItem(group.name, group.file, format_duration(group.interval), passing))
    return found


def counted(groups: Sequence[GroupItem]) -> dict[str, int]:
    """Rules by state, the most urgent first."""
    counts = Counter(item.state for group in groups for item in group.rules)
    return {state: counts[state] for state in sorted(counts, key=lambda state: _ORDER[state])}


def evaluation_of(rule: Rule | Record, recorded: set[str]) -> str:
    """When the engine evaluates it. `recorded`: metrics that recording rules make."""
    grid = f"every {format_duration(rule.interval)}"
    if isinstance(rule, Record) or rule.wants_grid:
        return grid
    if is_scalar(rule.expression) or not is_pointwise(rule.expression, recorded):
        return f"{grid}: it looks at several devices, or at the clock"
    return "at every reading"


def _item(
    rule: Rule | Record, recorded: set[str], *, firing: int, pending: int, error: str, cost: float | None
) -> RuleItem:
    is_alert = isinstance(rule, Rule)
    return RuleItem(
        id=rule.id,
        name=rule.alert if isinstance(rule, Rule) else rule.record,
        kind="alert" if is_alert else "record",
        expr=rule.expr,
        evaluation=evaluation_of(rule, recorded),
        extra=tuple(_extra(rule)),
        firing=firing,
        pending=pending,
        error=error,
        cost="" if cost is None else cost_text(cost),
    )


def cost_text(seconds: float) -> str:
    """Of one processor second, to one digit, so that it seldom changes."""
    percent = seconds * 100
    return "costs < 0.1 % of a core" if percent < 0.1 else f"costs {float(f'{percent:.1g}'):g} % of a core"


def _extra(rule: Rule | Record) -> list[str]:
    said = []
    if isinstance(rule, Rule):
        said += [f"for {format_duration(rule.hold)}"] if rule.hold else []
        said += [f"keep firing for {format_duration(rule.keep)}"] if rule.keep else []
        said += [f"no data: {rule.no_data}"] if rule.no_data != "keep" else []
        said += [f"{name}={template.text}" for name, template in rule.labels]
    else:
        said += [f"{name}={text}" for name, text in rule.labels]
    said += [f"at most {rule.limit}"] if rule.limit else []
    said += [f"{format_duration(rule.query_offset)} ago"] if rule.query_offset else []
    return said + (["as Prometheus"] if rule.compat else [])


def rules_in(groups: Sequence[RuleGroup]) -> int:
    """How many there are."""
    return sum(len(group.rules) for group in groups)
