"""Rule files, PromQL compiled to numpy, the life cycle of alerts. Pure: no I/O, no clock, no threads."""

from rules.alerts import Alert
from rules.engine import Engine
from rules.grid_rules import Recorded
from rules.promql import ExpressionError
from rules.query import is_selector, looked_at, query_range, select
from rules.rule_file import Record, Rule, RuleGroup, load_rules
from rules.samples import GONE, STALE, STALENESS

__all__ = [
    "GONE",
    "STALE",
    "STALENESS",
    "Alert",
    "Engine",
    "ExpressionError",
    "Record",
    "Recorded",
    "Rule",
    "RuleGroup",
    "is_selector",
    "load_rules",
    "looked_at",
    "query_range",
    "select",
]
