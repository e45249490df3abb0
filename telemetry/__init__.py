"""The nouns that every room shares. Imports numpy and the standard library only, and nothing else of tocsin."""

from telemetry.alert import AlertEvent, AlertState, fingerprint
from telemetry.batch import DUPLICATE, HISTORICAL, LATE, LIVE, RECORDED, RETAINED, ReadingBatch
from telemetry.clock import Clock, ManualClock, SystemClock
from telemetry.counters import Counters
from telemetry.cursor import Cursor, read_cursor
from telemetry.duration import format_duration, parse_duration
from telemetry.errors import ConfigError, Problem, Rejected, RetryLater, TocsinError
from telemetry.message import Message, Tick
from telemetry.series import Series, SeriesTable

__all__ = [
    "DUPLICATE",
    "HISTORICAL",
    "LATE",
    "LIVE",
    "RECORDED",
    "RETAINED",
    "AlertEvent",
    "AlertState",
    "Clock",
    "ConfigError",
    "Counters",
    "Cursor",
    "ManualClock",
    "Message",
    "Problem",
    "ReadingBatch",
    "Rejected",
    "RetryLater",
    "Series",
    "SeriesTable",
    "SystemClock",
    "Tick",
    "TocsinError",
    "fingerprint",
    "format_duration",
    "parse_duration",
    "read_cursor",
]
