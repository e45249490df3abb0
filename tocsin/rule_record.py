"""The alerting rules that a pipeline runs with, as text, kept beside its data for those who explain its alerts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from rules import Rule, RuleGroup
from telemetry import format_duration
from telemetry.atomic_file import replace_file
from tocsin.data_dir import DataDir


@dataclass(frozen=True, slots=True)
class RuleText:
    """What a rule says."""

    expr: str
    hold: str
    """`for`; empty if it has none."""


def save_rules(directory: DataDir, groups: Iterable[RuleGroup]) -> None:
    """For `load_rule` of any process; replaces what was there."""
    said = {
        rule.id: {"expr": rule.expr, "for": format_duration(rule.hold) if rule.hold else ""}
        for group in groups
        for rule in group.rules
        if isinstance(rule, Rule)
    }
    replace_file(directory.rules, (json.dumps(said, ensure_ascii=False, indent=1) + "\n").encode())


def load_rule(directory: DataDir, id_: str) -> RuleText | None:
    """What the rule says, as of the last start; None if it is not known, or not any more."""
    try:
        said = json.loads(directory.rules.read_text())[id_]
        return RuleText(str(said["expr"]), str(said["for"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
