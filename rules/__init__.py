"""Rule files, PromQL compiled to numpy, the life cycle of alerts. Pure: no I/O, no clock, no threads."""

from rules.alerts import Alert
from rules.engine import Engine
from rules.grid_rules import Recorded
from rules.instant import Answer, query_instant
from rules.promql import ExpressionError, parse, parse_any
from rules.query import Stored, is_selector, looked_at, on_grid, query_range, select
from rules.rule_file import Record, Rule, RuleGroup, load_rules
from rules.samples import GONE, STALE, STALENESS
from rules.syntax import Expression

__all__ = [
    "GONE",
    "STALE",
    "STALENESS",
    "Alert",
    "Answer",
    "Engine",
    "Expression",
    "ExpressionError",
    "Record",
    "Recorded",
    "Rule",
    "RuleGroup",
    "Stored",
    "is_selector",
    "load_rules",
    "looked_at",
    "on_grid",
    "parse",
    "parse_any",
    "query_instant",
    "query_range",
    "select",
]
