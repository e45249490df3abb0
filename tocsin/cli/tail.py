"""`tocsin tail`: readings and alerts as they come, beside a running pipeline."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

import rules
from ingest.decode import Decoder
from ingest.journal import TICK, Journal
from ingest.topics import TopicPattern
from sinks.alert_history import AlertHistory
from telemetry import (
    HISTORICAL,
    RECORDED,
    RETAINED,
    Clock,
    Counters,
    ReadingBatch,
    SeriesTable,
    SystemClock,
    TocsinError,
)
from tocsin.cli.alerts import as_object, event_line
from tocsin.cli.opening import chosen_data, json_number, labels_of
from tocsin.cli.options import command, data_options, json_option, wants_colour
from tocsin.data_dir import DataDir
from tocsin.stream_record import load_streams
from tocsin.words import iso, local, number, printable

_POLL_SECONDS = 0.2
_LOOK_BACK = 1_000
_MARKS = {RETAINED: "retained", HISTORICAL: "historical", RECORDED: "recorded"}


@command(
    "tocsin tail",
    "tocsin tail -s 'temperature{device=\"d1\"}'",
    "tocsin tail --topic 'sensors/north/#' --last 100",
    "tocsin tail --alerts --json",
)
@click.option("--topic", help="Only messages on these topics: an MQTT filter with + and #.")
@click.option("-s", "--selector", help="Only these series: a Prometheus selector.")
@click.option("--alerts", "only_alerts", is_flag=True, help="Only alerts, no readings.")
@click.option(
    "-n",
    "--last",
    type=click.IntRange(0),
    help="Begin with the last N messages.  [default: 10 with --no-follow, else 0]",
)
@click.option("--no-follow", is_flag=True, help="Stop at the end, instead of waiting for more.")
@data_options
@json_option("Print one JSON object a line.")
def tail(
    topic: str | None,
    selector: str | None,
    only_alerts: bool,
    last: int | None,
    no_follow: bool,
    config_file: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Follow readings and alerts as they come.

    Until Ctrl-C. Readings are shown as they are received, before it is known whether they are late or duplicates.
    """
    data = chosen_data(config_file, data_dir)
    clock = SystemClock()
    if last is None:
        last = 10 if no_follow else 0
    readings = None if only_alerts else _Readings(data, topic, selector, last=last, as_json=as_json)
    events = _Alerts(data, clock, as_json=as_json) if only_alerts or not (topic or selector) else None
    never = threading.Event()
    while True:
        lines = [*(readings.lines() if readings else ()), *(events.lines() if events else ())]
        for line in lines:
            click.echo(line, color=wants_colour())
        if not lines:
            if no_follow:
                return
            clock.sleep(_POLL_SECONDS, never)


class _Readings:
    """Decodes the journal for itself, with series of its own: it neither waits for the pipeline nor harms it."""

    def __init__(self, data: DataDir, topic: str | None, selector: str | None, *, last: int, as_json: bool) -> None:
        streams, limits = load_streams(data)
        self._pattern = _filter(topic) if topic else None
        self._selector, self._as_json = selector, as_json
        self._table = SeriesTable()
        if selector:
            rules.select(selector, self._table)  # a mistake in it is told at once
        self._decoder = Decoder(streams, limits, self._table, counters=Counters())
        self._journal = Journal(data.require(data.journal, "messages"), read_only=True)
        self._offset = self._before_last(last)

    def _before_last(self, messages: int) -> int:
        """The offset before the last messages; ticks are none."""
        offset, missing = self._journal.end, messages
        while missing > 0 and offset > self._journal.start:
            first = max(self._journal.start, offset - _LOOK_BACK)
            records = self._journal.read(first, offset - first)
            found = np.flatnonzero((records.flags & TICK) == 0)[-missing:]
            missing -= len(found)
            offset = first if missing else records.first + int(found[0])
        return offset

    def lines(self) -> Iterator[str]:
        self._journal.refresh()
        records = self._journal.read(self._offset)
        self._offset = records.next
        batch = self._decoder.decode(records).batch
        chosen = self._chosen(batch, records.topics, records.first)
        for i in np.flatnonzero(chosen).tolist():
            yield self._line(batch, i)

    def _chosen(self, batch: ReadingBatch, topics: list[str], first: int) -> NDArray[np.bool_]:
        chosen = np.ones(len(batch), np.bool_)
        if self._pattern is not None:
            matches = np.array([self._pattern.match(topic.split("/")) is not None for topic in topics], np.bool_)
            chosen &= matches[batch.offset - first]
        if self._selector is not None:
            chosen &= np.isin(batch.series, rules.select(self._selector, self._table))
        return chosen

    def _line(self, batch: ReadingBatch, i: int) -> str:
        series, time, value = self._table[int(batch.series[i])], int(batch.time[i]), float(batch.value[i])
        marks = [word for bit, word in _MARKS.items() if batch.flags[i] & bit]
        if self._as_json:
            reading = {"series": labels_of(series), "time": iso(time), "value": json_number(value), "flags": marks}
            return json.dumps(reading, ensure_ascii=False)
        return (
            f"{local(time):%H:%M:%S.%f}"[:-3]
            + f"  {printable(str(series))} {number(value)}"
            + "".join(f" ({m})" for m in marks)
        )


class _Alerts:
    """What is newly published; the file may come later than we do."""

    def __init__(self, data: DataDir, clock: Clock, *, as_json: bool) -> None:
        self._path, self._as_json = data.alerts, as_json
        self._since = clock.now()
        self._shown: set[str] = set()
        self._history: AlertHistory | None = None

    def lines(self) -> Iterator[str]:
        if self._history is None:
            if not self._path.exists():
                return
            self._history = AlertHistory(self._path)
        events = [event for event in self._history.recent(self._since) if event.id not in self._shown]
        for event in events:
            yield json.dumps(as_object(event), ensure_ascii=False) if self._as_json else event_line(event)
        if events:
            newest = max(event.detected_at for event in events)
            self._shown = {event.id for event in events if event.detected_at == newest} | (
                self._shown if newest == self._since else set()
            )
            self._since = newest


def _filter(text: str) -> TopicPattern:
    try:
        return TopicPattern.parse(text)
    except ValueError as error:
        raise TocsinError(str(error)) from error
