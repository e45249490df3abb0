"""What one may mean while typing: metrics, label values, PromQL's words. Pure functions over the table of series.

Bounded: of ten thousand devices some dozens are offered, the best first, and how many more there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rules.functions_known import FUNCTIONS
from telemetry import SeriesTable
from tocsin.console.curves import pieces

MOST_OFFERED = 40
AGGREGATIONS = ("avg", "bottomk", "count", "count_values", "group", "max", "min", "quantile", "stddev", "stdvar", "sum",
                "topk")  # fmt: skip
KEYWORDS = ("and", "by", "bool", "group_left", "group_right", "ignoring", "offset", "on", "or", "unless", "without")
_WORD = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*\Z")
_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\Z")
_VALUE = re.compile(r"""(?P<label>[A-Za-z_][A-Za-z0-9_]*)\s*(?:=~|!~|!=|=)\s*"(?P<typed>[^"\\]*)\Z""")
_METRIC = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)\s*\{[^{}]*\Z")
_DURATION = re.compile(r"\[\s*([0-9a-z]*)\Z")
_DURATIONS = ("1m", "5m", "15m", "1h", "6h", "1d", "7d")


@dataclass(frozen=True, slots=True)
class Choice:
    """Something offered: `text` takes the place of what stands from `start` to `end`."""

    text: str
    note: str = ""
    start: int = 0
    end: int = 0


def metrics(table: SeriesTable) -> list[str]:
    return table.values("__name__")


def label_names(table: SeriesTable, metric: str = "") -> list[str]:
    """Of the series of a metric, or of all; the device first."""
    ids = _ids(table, metric)
    found = {name for id_ in ids for name, _ in table[id_].labels}
    return sorted(found, key=lambda name: (name != "device", name))


def label_values(table: SeriesTable, name: str, metric: str = "", **others: str) -> list[str]:
    """Of the series of a metric with these other labels, d2 before d10."""
    if not metric and not any(others.values()):
        return sorted(table.values(name), key=pieces)
    wanted = [(n, v) for n, v in others.items() if v]
    found = {
        series.label(name)
        for series in (table[id_] for id_ in _ids(table, metric))
        if all(series.label(n) == v for n, v in wanted)
    }
    return sorted(filter(None, found), key=pieces)


def matching(texts: Iterable[str], typed: str, most: int = MOST_OFFERED) -> tuple[list[str], int]:
    """Those that contain what is typed, whatever the case; those that begin with it first. And how many there are."""
    low = typed.casefold()
    found = [text for text in texts if low in text.casefold()]
    found.sort(key=lambda text: not text.casefold().startswith(low))  # stable
    return found[:most], len(found)


def selector(metric: str, **labels: str) -> str:
    """PromQL's text for a metric with these labels; those without a value are left out."""
    inner = ", ".join(f"{name}={quoted(value)}" for name, value in labels.items() if value)
    return f"{metric}{{{inner}}}" if inner else metric


def quoted(value: str) -> str:
    """A string of PromQL."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(c, c if c.isprintable() else f"\\U{ord(c):08x}") for c in value) + '"'


def completions(table: SeriesTable, text: str, caret: int) -> list[Choice]:
    """What could stand at the caret of a PromQL text, best first."""
    before = text[:caret]
    inside = _METRIC.search(before) if before.rfind("{") > before.rfind("}") else None
    metric = inside.group(1) if inside else ""
    if value := _VALUE.search(before):
        found, _ = matching(label_values(table, value["label"], metric), value["typed"])
        start = caret - len(value["typed"])
        return [Choice(quoted(one)[1:-1], value["label"], start, caret) for one in found]
    if duration := _DURATION.search(before):
        return [Choice(d, "", duration.start(1), caret) for d in _DURATIONS if d.startswith(duration[1])]
    word = _WORD.search(before)
    typed, start = (word.group(), word.start()) if word else ("", caret)
    if before.rfind("{") > before.rfind("}") or _LABELS.search(before):
        found, _ = matching(label_names(table, metric), typed)
        return [Choice(one, "label", start, caret) for one in found]
    if not typed and before.strip():
        return []
    offered = list(_words(table, typed, start, caret))
    return [] if len(offered) == 1 and offered[0].text == typed else offered[:MOST_OFFERED]


def _words(table: SeriesTable, typed: str, start: int, caret: int) -> Iterator[Choice]:
    kinds = (("metric", metrics(table)), ("aggregation", AGGREGATIONS), ("function", sorted(FUNCTIONS)))
    for kind, words in (*kinds, ("", KEYWORDS)):
        if kind == "metric" or typed:
            for word in matching(words, typed)[0]:
                yield Choice(word, kind, start, caret)


def _ids(table: SeriesTable, metric: str) -> Iterable[int]:
    return table.with_label("__name__", metric).tolist() if metric else range(len(table))
