"""A plant of two devices, a and b, that both measure x and y: streams in seconds, and rules over them."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable
from typing import Any

import hypothesis.strategies as st

from rules import GONE, STALE, Engine, Recorded
from telemetry import AlertEvent, Tick
from tests.rules.notation import T0, S, Said, batches, rules_of, run, table_of, written

HOUR = 3600
SERIES = ['x{device="a"}', 'y{device="a"}', 'x{device="b"}', 'y{device="b"}']
XA, YA, XB, YB = range(4)
Stream = list[Said | Tick]
Sample = tuple[str, float, float | str]
"""Of a recorded series: its name, second, and value, `gone` or `stale`"""
F, R = "firing", "resolved"
EVERY_10S = {"interval": "10s"}
"""A grid that T0 is on."""


def engine(*rules: dict[str, Any], staleness: int = 60 * S, series: Iterable[str] = SERIES, **group: Any) -> Engine:
    """Of the rules of one group, whose options `group` has."""
    return Engine(rules_of(*rules, **group), table_of(*series), staleness=lambda _: staleness)


def rule(expr: str, **more: Any) -> dict[str, Any]:
    return {"alert": "A", "expr": expr, **more}


def seconds(at: float) -> int:
    return T0 + round(at * S)


def said(received: float, *rows: tuple[int, float], at: float | None = None) -> Said:
    """One message at `received` seconds: readings (series, value), all of the instant `at` or of that itself."""
    time = seconds(received if at is None else at)
    return Said(tuple((series, time, value) for series, value in rows), seconds(received))


def record(name: str, expr: str, **more: Any) -> dict[str, Any]:
    return {"record": name, "expr": expr, **more}


def in_order(*parts: Stream) -> Stream:
    """All parts, by when they came."""
    return sorted(itertools.chain(*parts), key=moment)


def steadily(value: float, start: int, end: int, *series: int, ahead: float = 0) -> Stream:
    """A reading of each series every 2 s from `start` to before `end`; `ahead`: by which the device's clock is off."""
    return [said(at, *((s, value) for s in series), at=at + ahead) for at in range(start, end, 2)]


def shown(subject: Engine) -> list[tuple[str, str]]:
    """Device and state of the active alerts."""
    return sorted((dict(alert.labels).get("device", ""), alert.state) for alert in subject.active())


def ticks(start: float, end: float) -> Stream:
    """A tick every second, start <= t < end."""
    return [Tick(seconds(start + i)) for i in range(int(end - start))]


def told(events: Iterable[AlertEvent]) -> list[tuple[str, str, float]]:
    """Device (empty if it is of none), what happened, and when in seconds."""
    return [(dict(e.labels).get("device", ""), str(e.state), ((e.ends_at or e.starts_at) - T0) / S) for e in events]


def happened(stream: Stream, *rules: dict[str, Any], **more: Any) -> list[tuple[str, str, float]]:
    return told(run(engine(*rules, **more), batches(stream)))


messages = st.lists(
    st.tuples(st.sampled_from([100, 700, 1000, 2500, 4900]), st.integers(0, 3), st.integers(0, 1)),
    min_size=2,
    max_size=15,
)
"""(ms since the last, series, value)"""
RULES = [
    rule("x > 0", **{"for": "3s"}),
    rule("x > 0 and on(device) y > 0", keep_firing_for="2s"),
    rule("age(y) > 4"),
    rule("x > 0", no_data="resolve"),
]


def stream_of(drawn: list[tuple[int, int, int]], *, ahead: dict[int, int] | None = None) -> Stream:
    """The messages, and a tick soon after each; `ahead`: seconds by which the clock of a series is off."""
    stream, now = Stream(), 0.0
    for gap, series, value in drawn:
        now += gap / 1000
        stream.append(said(now, (series, value), at=now + (ahead or {}).get(series, 0)))
        stream.append(Tick(seconds(now + 0.0005)))
    return stream + ticks(now + 1, now + 12)


def moment(item: Said | Tick) -> int:
    return item.time if isinstance(item, Tick) else item.received


def taken(subject: Engine) -> list[Sample]:
    """What was recorded since the last call: series, second, and value, `gone` or `stale`."""
    return [(written(dict(r.labels)), (r.time - T0) / S, value_of(r)) for r in subject.take_recorded()]


def value_of(sample: Recorded) -> float | str:
    markers = {struct.pack("d", GONE): "gone", struct.pack("d", STALE): "stale"}
    return markers.get(struct.pack("d", sample.value), sample.value)


def recorded(stream: Stream, *rules: dict[str, Any], **more: Any) -> list[Sample]:
    subject = engine(*rules, **(EVERY_10S | more))
    run(subject, batches(stream))
    return taken(subject)
