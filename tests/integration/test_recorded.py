"""Recorded series of `tocsin run`: in the store, in InfluxDB and in every command, exactly what the rules make."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter

import numpy as np
import pytest

from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.journal import Journal
from rules import Engine
from rules.samples import is_marker
from telemetry import RECORDED, AlertEvent, Counters, Cursor, ReadingBatch, Series, SeriesTable, Tick
from tests.integration.brokers import Mosquitto
from tests.integration.databases import InfluxDB
from tests.integration.servers import wait_until
from tests.integration.test_kill import Flood, Nowhere
from tests.integration.tocsin_process import Stored, Tocsin, tocsin
from tocsin.config import load_config

TocsinFactory = Callable[..., Tocsin]
RULES = """
groups:
  - name: plant
    interval: 1s
    rules:
      - {record: "all:temperature:sum", expr: sum(temperature)}
      - {record: "all:temperature:twice", expr: "all:temperature:sum * 2", labels: {unit: C}}
      - {record: "device:temperature:max", expr: "max by (device) (temperature) > 50"}
      - {alert: Together, expr: "all:temperature:sum > 900"}
"""
KILLS = 6
RECORDS = 400
"""How much must have been received in each life, at least."""
Samples = Counter[tuple[str, int, float]]


def report(broker: Mosquitto, device: str, temperature: float) -> None:
    broker.publish_lines(f"sensors/s1/{device}/telemetry", [json.dumps({"temperature": temperature})])


def values(program: Tocsin, expr: str) -> dict[str, set[str]]:
    """What `tocsin query` finds: labels → values."""
    found = program.view("query", expr, "--since", "1m")["data"]["result"]
    return {json.dumps(one["metric"], sort_keys=True): {value for _, value in one["values"]} for one in found}


def in_influx(server: InfluxDB) -> Stored:
    found = server.query("plant", "SELECT value FROM /.*/ GROUP BY *")
    return {str(Series.recorded(one["name"], one.get("tags", {}))): dict(map(tuple, one["values"])) for one in found}


def test_what_a_rule_records_is_found_like_what_a_device_reports(
    mosquitto: Mosquitto, influxdb: InfluxDB, tocsin_factory: TocsinFactory
) -> None:
    influxdb.create_database("plant")
    sink = {"type": "influx", "name": "influx", "url": influxdb.url, "api": "v1", "database": "plant"}
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}, "sinks": [sink]}, rules=RULES)
    program.start()
    report(mosquitto, "d1", 21.7)
    report(mosquitto, "d2", 60.1)
    program.wait_stored(2)
    total, twice = {"__name__": "all:temperature:sum"}, {"__name__": "all:temperature:twice", "unit": "C"}
    wait_until(
        lambda: str(21.7 + 60.1) in values(program, "all:temperature:sum").get(json.dumps(total), ()),
        what="the sum is stored",
    )
    assert str((21.7 + 60.1) * 2) in values(program, "all:temperature:twice")[json.dumps(twice)]
    assert values(program, "device:temperature:max") == {
        json.dumps({"__name__": "device:temperature:max", "device": "d2"}): {"60.1"}
    }
    listed = {json.dumps(one["series"], sort_keys=True) for one in program.view("series")}
    assert {json.dumps(total), json.dumps(twice)} < listed
    assert len(listed) == 5

    tailed = tocsin("tail", "-s", "all:temperature:sum", "--last", "50", "--no-follow", "--json", "-c", program.config)
    lines = [json.loads(line) for line in tailed.stdout.splitlines()]
    assert {json.dumps(line["series"]) for line in lines} == {json.dumps(total)}
    assert lines[-1]["value"] == 21.7 + 60.1
    assert all(line["flags"] == ["recorded"] for line in lines)

    stored = program.stored()
    assert len(stored) == 5
    wait_until(
        lambda: all(rows.items() <= in_influx(influxdb).get(name, {}).items() for name, rows in stored.items()),
        what="InfluxDB has it, too",
    )
    program.stop()


def test_a_rule_in_error_is_told_of_in_the_log_and_at_the_end(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory
) -> None:
    one = '{record: "one", expr: temperature, labels: {device: all}}'
    rules = f"{{groups: [{{name: g, interval: 1s, limit: 5, rules: [{one}]}}]}}"
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}}, rules=rules)
    program.start()
    for device in ("d1", "d2"):
        report(mosquitto, device, 1)
    wait_until(lambda: program.says("rule g/one cannot be evaluated: two elements"), what="the log tells of it")
    program.stop()
    assert "rule g/one: two elements have the same labels" in program.output.read_text()
    assert program.said().count("rule g/one cannot be evaluated") == 1


def evaluated_at_once(program: Tocsin) -> tuple[list[AlertEvent], Samples]:
    """What the rules make of the part of the journal that the program has evaluated, in one go."""
    loaded = load_config(program.config)
    table, counters = SeriesTable(), Counters()
    decoder = Decoder(loaded.config.streams, loaded.config.limits, table, counters=counters)
    journal = Journal(program.data.journal, read_only=True)
    feed = Feed(journal, decoder, table, dead_letters=Nowhere(), counters=counters)
    engine = Engine([rule for group in loaded.groups for rule in group.rules], table)
    end = Cursor(program.data.cursor("rules")).offset
    events: list[AlertEvent] = []
    samples: Samples = Counter()
    while feed.offset < end:
        for item in feed.poll(0, limit=min(10_000, end - feed.offset)):
            events += engine.tick(item) if isinstance(item, Tick) else engine.apply(item)
            for labels, time, value in engine.take_recorded():
                own = dict(labels)
                if not is_marker(np.array([value])).any():
                    samples[str(Series.recorded(own.pop("__name__"), own)), time, value] += 1
    return events, samples


def recorded(program: Tocsin, *, before: int | None = None) -> Samples:
    """What is recorded in the journal, up to an offset."""
    loaded, table = load_config(program.config), SeriesTable()
    decoder = Decoder(loaded.config.streams, loaded.config.limits, table, counters=Counters())
    journal = Journal(program.data.journal, read_only=True)
    samples: Samples = Counter()
    for batch in _batches(journal, decoder):
        chosen = batch.select((batch.flags == RECORDED) & (batch.offset < (before or journal.end)))
        for series, time, value in zip(*(c.tolist() for c in (chosen.series, chosen.time, chosen.value)), strict=True):
            samples[str(table[series]), time, value] += 1
    return samples


def _batches(journal: Journal, decoder: Decoder) -> Iterator[ReadingBatch]:
    offset = journal.start
    while len(records := journal.read(offset)):
        yield decoder.decode(records).batch
        offset = records.next


@pytest.mark.slow
def test_no_kill_loses_a_recorded_sample_or_makes_one_up(mosquitto: Mosquitto, tocsin_factory: TocsinFactory) -> None:
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}}, rules=RULES)
    program.start()
    flood = Flood(mosquitto, "5")
    try:
        for kill in range(1, KILLS + 1):
            follower = Journal(program.data.journal, read_only=True)
            goal = follower.end + RECORDS * (1 + kill % 3)
            wait_until(partial(follower.wait, goal, 0.1), what="the journal grows")
            if kill == 2:
                program.stop()  # those behind it find a snapshot
                program.start()
            program.kill()
            program.start(until="running with")
    finally:
        report = flood.stop()
    assert report.complete
    wait_until(lambda: program.count() > report.stats.messages, what="most of it is stored")
    program.stop()

    events, expected = evaluated_at_once(program)
    assert len({time for _, time, _ in expected}) > KILLS
    assert {name.partition("{")[0] for name, _, _ in expected} == {
        "all:temperature:sum",
        "all:temperature:twice",
        "device:temperature:max",
    }
    assert recorded(program) == expected, "each sample is in the journal, and once"
    assert sorted(program.alerts(), key=attrgetter("id")) == sorted(events, key=attrgetter("id"))
    stored: Samples = Counter(
        (name, time, value)
        for name, rows in program.stored().items()
        for time, value in rows.items()
        if ":" in name.partition("{")[0]
    )
    assert stored == recorded(program, before=Cursor(program.data.cursor("store")).offset)
