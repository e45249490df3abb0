"""Rule files, PromQL compiled to numpy, the life cycle of alerts. Pure: no I/O, no clock, no threads."""

from rules.alerting import Alert
from rules.engine import STALENESS, Engine
from rules.promql import ExpressionError
from rules.query import is_selector, query_range, select
from rules.rule_file import Rule, RuleGroup, load_rules

__all__ = [
    "STALENESS",
    "Alert",
    "Engine",
    "ExpressionError",
    "Rule",
    "RuleGroup",
    "is_selector",
    "load_rules",
    "query_range",
    "select",
]
