"""Rules and alerts, as Prometheus tells them. Not here: their evaluation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Response

from rules import Alert, Record, Rule, RuleGroup
from tocsin.backend import Backend
from tocsin.http.prometheus_answers import ApiError, exponential, rfc3339, success

NEVER = "0001-01-01T00:00:00Z"
"""As Go writes a time that is none."""


class RuleList:
    """Answers /rules and /alerts."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def alerts(self) -> Response:
        """All that are pending or firing."""
        return success({"alerts": [_alert(alert) for alert in self._backend.alerts()]})

    def rules(
        self, type_: str, names: Sequence[str], groups: Sequence[str], files: Sequence[str], *, exclude_alerts: bool
    ) -> Response:
        """Groups that have a rule of this type, with one of these names …; empty: any. Raises ApiError."""
        if type_ not in ("", "alert", "record"):
            raise ApiError("bad_data", f'invalid parameter "type": not supported value "{type_}"')
        kinds = {"": (Rule, Record), "alert": (Rule,), "record": (Record,)}[type_]
        by_rule: defaultdict[str, list[Alert]] = defaultdict(list)
        for alert in self._backend.alerts():
            by_rule[alert.rule].append(alert)
        told = []
        for group in sorted(self._backend.groups, key=lambda group: (group.file, group.name)):
            if (groups and group.name not in groups) or (files and group.file not in files):
                continue
            kept = [r for r in group.rules if isinstance(r, kinds) and (not names or _name(r) in names)]
            if kept:
                told.append(self._group(group, kept, by_rule, exclude_alerts=exclude_alerts))
        return success({"groups": told})

    def _group(
        self,
        group: RuleGroup,
        kept: Sequence[Rule | Record],
        alerts: Mapping[str, list[Alert]],
        *,
        exclude_alerts: bool,
    ) -> dict[str, Any]:
        errors, costs = self._backend.rule_errors(), self._backend.rule_costs()
        return {
            "name": group.name,
            "file": group.file,
            "rules": [
                _recording(rule, self._health(rule, errors, costs))
                if isinstance(rule, Record)
                else _alerting(
                    rule, self._health(rule, errors, costs), alerts.get(rule.id, []), exclude_alerts=exclude_alerts
                )
                for rule in kept
            ],
            "interval": _seconds(group.interval),
            "limit": kept[0].limit,
            "evaluationTime": sum(costs.get(rule.id, 0.0) for rule in group.rules),
            "lastEvaluation": self._last_evaluation,
        }

    def _health(self, rule: Rule | Record, errors: Mapping[str, str], costs: Mapping[str, float]) -> dict[str, Any]:
        """`evaluationTime` is CPU time in each second, of the last ones: readings drive rules at any time."""
        error = errors.get(rule.id, "")
        running = self._backend.live is not None
        return {
            "health": "err" if error else "ok" if running else "unknown",
            **({"lastError": error} if error else {}),
            "evaluationTime": costs.get(rule.id, 0.0),
            "lastEvaluation": self._last_evaluation,
        }

    @property
    def _last_evaluation(self) -> str:
        """While tocsin runs, rules are evaluated all the time."""
        return NEVER if self._backend.live is None else rfc3339(self._backend.clock.now())


def _recording(rule: Record, health: dict[str, Any]) -> dict[str, Any]:
    labels = {"labels": dict(rule.labels)} if rule.labels else {}
    return {"name": rule.record, "query": rule.expr, **labels, **health, "type": "recording"}


def _alerting(rule: Rule, health: dict[str, Any], alerts: Sequence[Alert], *, exclude_alerts: bool) -> dict[str, Any]:
    states = {alert.state for alert in alerts}
    return {
        "state": next((state for state in ("firing", "pending") if state in states), "inactive"),
        "name": rule.alert,
        "query": rule.expr,
        "duration": _seconds(rule.hold),
        "keepFiringFor": _seconds(rule.keep),
        "labels": {name: template.text for name, template in rule.labels},
        "annotations": {name: template.text for name, template in rule.annotations},
        "alerts": [] if exclude_alerts else [_alert(alert) for alert in alerts],
        **health,
        "type": "alerting",
    }


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "state": alert.state,
        "activeAt": rfc3339(alert.active_at),
        "value": exponential(alert.value),
    }


def _name(rule: Rule | Record) -> str:
    return rule.record if isinstance(rule, Record) else rule.alert


def _seconds(ns: int) -> float:
    return ns / 1e9 if ns % 10**9 else ns // 10**9
