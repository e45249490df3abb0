"""Laws of the viewing commands: they show what the files of another process hold, to people and to machines."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ingest.dead_letters import DeadLetters
from ingest.journal import Journal
from ingest.recorded import encode_samples
from ingest.rejection import Rejection
from ingest.streams import LimitsConfig, StreamConfig
from sinks.outbox import Outbox
from sinks.store import Store
from telemetry import AlertEvent, AlertState, Message, Series, SeriesTable, SystemClock
from tocsin.cli import main
from tocsin.cli.tail import _Alerts
from tocsin.data_dir import DataDir
from tocsin.stream_record import save_streams

SECOND = 10**9


def view(data: DataDir, *args: str, expect: int = 0):
    done = CliRunner().invoke(main, [*args, "--data-dir", str(data.path)])
    assert done.exit_code == expect, done.output
    return done


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    directory = DataDir(tmp_path)
    directory.create()
    return directory


@pytest.fixture
def stored(data: DataDir) -> DataDir:
    """Two series: d1 with ten readings of the last ten seconds, d2 with one; a third without any."""
    table = SeriesTable(data.series)
    now = SystemClock().now()
    d1 = table.add(Series.of("temperature", device="d1", site="north"))
    d2 = table.add(Series.of("temperature", device="d2", site='so"uth'))
    table.add(Series.of("humidity", device="d1", site="north"))
    table.sync()
    with Store(data.store) as store:
        times = np.array([now - (10 - i) * SECOND for i in range(10)], np.int64)
        store.append(np.full(10, d1, np.int32), times, np.arange(10) / 4)
        store.append(np.array([d2], np.int32), times[:1], np.array([np.nan]))
    return data


def test_series_are_listed_with_their_newest_readings(stored):
    lines = view(stored, "series").stdout.splitlines()

    assert [line.split("  ")[0] for line in lines] == [
        'humidity{device="d1", site="north"}',
        'temperature{device="d1", site="north"}',
        'temperature{device="d2", site="so\\"uth"}',
    ]
    assert lines[1].split()[-3] == "2.25"
    assert lines[1].endswith(" ago")


def test_series_for_machines_are_an_array(stored):
    found = json.loads(view(stored, "series", 'temperature{device="d1"}', "--json").stdout)

    assert [(one["series"]["__name__"], one["series"]["device"], one["value"]) for one in found] == [
        ("temperature", "d1", 2.25)
    ]


def test_a_plain_selector_gives_the_stored_readings_as_csv(stored):
    rows = list(csv.reader(io.StringIO(view(stored, "query", "temperature", "--csv").stdout)))

    assert rows[0] == ["time", "series", "value"]
    assert [row[2] for row in rows[1:]] == ["0", "0.25", "0.5", "0.75", "1", "1.25", "1.5", "1.75", "2", "2.25", "NaN"]
    assert {row[1] for row in rows[1:11]} == {'temperature{device="d1", site="north"}'}


def test_json_has_the_shape_of_prometheus_range_queries(stored):
    answer = json.loads(view(stored, "query", 'temperature{device="d1"}', "--json").stdout)

    (series,) = answer["data"]["result"]
    assert answer["status"] == "success"
    assert answer["data"]["resultType"] == "matrix"
    assert series["metric"] == {"__name__": "temperature", "device": "d1", "site": "north"}
    assert [value for _, value in series["values"]][-2:] == ["2", "2.25"]
    assert series["values"][1][0] - series["values"][0][0] == pytest.approx(1)


def test_an_expression_is_evaluated_over_the_stored_readings(stored):
    answer = json.loads(view(stored, "query", "temperature * 2 > 3", "--since", "5s", "--step", "1s", "--json").stdout)

    (series,) = answer["data"]["result"]
    assert series["metric"]["device"] == "d1"
    assert {float(value) for _, value in series["values"]} <= {3.5, 4.0, 4.5}


def test_what_cannot_be_parsed_is_one_clear_line(stored):
    done = view(stored, "query", "temperature >", expect=1)

    assert done.stderr.startswith("tocsin: error: ")
    assert done.stderr.count("\n") == 1


def test_the_chart_fits_into_80_columns_without_colours_where_there_is_no_terminal(stored):
    shown = view(stored, "query", 'temperature{device="d1"}', "--since", "20s").stdout

    assert max(map(len, shown.splitlines())) <= 80
    assert len(shown.splitlines()) <= 24
    assert 'temperature{device="d1", site="north"}  2.25' in shown
    assert "\x1b" not in shown


def test_of_many_series_the_chart_names_eight_and_counts_the_others(data):
    table = SeriesTable(data.series)
    ids = np.array([table.add(Series.of("t", device=f"d{i:02}")) for i in range(20)], np.int32)
    table.sync()
    with Store(data.store) as store:
        store.append(ids, np.full(20, SystemClock().now() - SECOND), np.arange(20.0))

    shown = view(data, "query", "t", "--since", "1m").stdout

    assert 't{device="d07"}' in shown
    assert 't{device="d08"}' not in shown
    assert "and 12 more series, not drawn" in shown


def test_nothing_in_the_time_asked_for_is_said(stored):
    done = view(stored, "query", "temperature", "--since", "2001-01-01T00:00:00Z", "--until", "2001-01-02T00:00:00Z")

    assert done.stdout == ""
    assert "nothing in this time for temperature" in done.stderr


def test_the_time_asked_for_must_not_be_empty(stored):
    assert "--since must lie before --until" in view(
        stored, "query", "temperature", "--since", "1h", "--until", "2h", expect=2
    ).stderr  # fmt: skip


def event(device: str, start: int, end: int = 0, summary: str = "hot") -> AlertEvent:
    return AlertEvent(
        rule="g/Hot",
        labels=(("alertname", "Hot"), ("device", device)),
        state=AlertState.RESOLVED if end else AlertState.FIRING,
        value=81.5,
        starts_at=start,
        ends_at=end,
        detected_at=end or start,
        annotations=(("summary", summary),),
    )


@pytest.fixture
def alerted(data: DataDir) -> DataDir:
    """d1 fired and was resolved, d2 fires."""
    now = SystemClock().now()
    outbox = Outbox(data.alerts)
    first = now - 300 * SECOND
    outbox.publish([event("d1", first), event("d2", now - 60 * SECOND), event("d1", first, now)], offset=1)
    outbox.close()
    return data


def test_alerts_lists_what_fires_now(alerted):
    (line,) = view(alerted, "alerts").stdout.splitlines()

    assert "  FIRING    Hot  device=d2  value 81.5  for 1m" in line
    assert line.endswith("hot")


def test_all_alerts_are_every_firing_and_resolving_of_the_time_asked_for(alerted):
    states = [
        (one["state"], one["labels"]["device"]) for one in json.loads(view(alerted, "alerts", "--all", "--json").stdout)
    ]

    assert states == [("firing", "d1"), ("firing", "d2"), ("resolved", "d1")]
    assert len(json.loads(view(alerted, "alerts", "--all", "--since", "30s", "--json").stdout)) == 1


def test_no_alert_is_said_and_is_no_error(data):
    Outbox(data.alerts).close()

    assert view(data, "alerts").stderr == "no alert fires\n"
    assert json.loads(view(data, "alerts", "--json").stdout) == []


def rejection(offset: int, reason: str, payload: bytes) -> Rejection:
    return Rejection(offset, SystemClock().now(), "a/\x1b[2Jd1", payload, reason, "line 1: no brace", "s")


def test_dead_letters_are_listed_newest_last_with_counts_and_cannot_steer_the_terminal(data):
    letters = DeadLetters(data.dead_letters)
    letters.add([rejection(1, "bad_json", b"{\x1b]0;owned"), rejection(2, "unknown_topic", b"\xff")])
    letters.close()

    shown = view(data, "dead-letters", "list")

    assert "\x1b" not in shown.stdout
    assert shown.stdout.index("bad_json") < shown.stdout.index("unknown_topic")
    assert shown.stderr == "in all: 1 bad_json, 1 unknown_topic\n"
    only = json.loads(view(data, "dead-letters", "list", "--reason", "unknown_topic", "--json").stdout)
    assert [letter["payload"] for letter in only["letters"]] == ["\\xff"]
    assert "there are: 1 bad_json, 1 unknown_topic" in view(data, "dead-letters", "list", "--reason", "nope").stderr


@pytest.fixture
def received(data: DataDir) -> DataDir:
    """Three messages in the journal, on two topics; one of them retained."""
    stream = StreamConfig(name="s", topic="sensors/{site}/{device}")
    save_streams(data, [stream], LimitsConfig())
    now = SystemClock().now()
    journal = Journal(data.journal)
    journal.append([Message("sensors/n/d1", b'{"temperature": 1, "humidity": 2}', received=now)])
    journal.append_tick(now)
    journal.append(
        [
            Message("sensors/n/d2", b"not JSON {", received=now),
            Message("sensors/s/d3", b'{"temperature": 3}', received=now, retain=True),
        ]
    )
    journal.close()
    return data


def tailed(data: DataDir, *args: str) -> list[tuple[str, str, float]]:
    lines = view(data, "tail", "--no-follow", "--json", *args).stdout.splitlines()
    found = [json.loads(line) for line in lines]
    return [(one["series"]["__name__"], one["series"]["device"], one["value"]) for one in found]


def test_tail_begins_at_the_end_or_with_the_last_messages(received):
    assert tailed(received, "--last", "0") == []
    assert tailed(received) == tailed(received, "--last", "10")
    assert tailed(received, "--last", "100") == [
        ("temperature", "d1", 1.0), ("humidity", "d1", 2.0), ("temperature", "d3", 3.0),
    ]  # fmt: skip


def test_tail_shows_only_the_topics_or_series_asked_for(received):
    assert tailed(received, "-n", "9", "--topic", "sensors/s/#") == [("temperature", "d3", 3.0)]
    assert tailed(received, "-n", "9", "-s", 'temperature{site="n"}') == [("temperature", "d1", 1.0)]
    assert view(received, "tail", "--topic", "a/#/b", expect=1).stderr.startswith("tocsin: error: ")
    assert view(received, "tail", "-s", "temperature{", expect=1).stderr.startswith("tocsin: error: ")


def test_tail_for_people_is_one_line_a_reading(received):
    lines = view(received, "tail", "--no-follow", "-n", "9").stdout.splitlines()

    assert lines[0].endswith('temperature{device="d1", site="n"} 1')
    assert lines[-1].endswith('temperature{device="d3", site="s"} 3 (retained)')


def test_tail_shows_what_rules_record_and_says_so(received):
    journal = Journal(received.journal)
    journal.append_samples(list(encode_samples(5, [({"__name__": "all:temperature:sum"}, 4.0)])), SystemClock().now())
    journal.close()
    lines = view(received, "tail", "--no-follow", "-n", "1").stdout.splitlines()

    assert [line.partition("  ")[2] for line in lines] == ["all:temperature:sum{} 4 (recorded)"]
    assert tailed(received, "-n", "9", "--topic", "#") == tailed(received, "-n", "9", "-s", '{device!=""}')


def test_tail_follows_alerts_that_come_while_it_runs(data):
    clock = SystemClock()
    follower = _Alerts(data, clock, as_json=True)
    assert list(follower.lines()) == []
    outbox = Outbox(data.alerts)
    now = clock.now()

    outbox.publish([event("d1", now)], offset=1)
    first = [json.loads(line)["labels"]["device"] for line in follower.lines()]
    outbox.publish([event("d2", now), event("d3", now + 1)], offset=2)
    second = [json.loads(line)["labels"]["device"] for line in follower.lines()]

    assert (first, second, list(follower.lines())) == (["d1"], ["d2", "d3"], [])
    outbox.close()
