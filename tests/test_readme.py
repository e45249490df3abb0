"""README.md is true: what it says of configurations, streams, sinks and scenarios. Rules and commands: beside it."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from ingest.mqtt import SessionStatus
from ingest.streams import LimitsConfig
from rules import load_rules
from simulators.scenario import Fault
from sinks.consumer import ConsumerState, ConsumerStatus
from sinks.line_protocol import LineEncoder
from sinks.webhook import payload as webhook_payload
from telemetry import AlertEvent, AlertState, ReadingBatch, Series, SeriesTable, parse_duration
from tests.offline import EPOCH, SECOND, Arrived, run
from tests.readme import BLOCKS, PROSE, README, ROOT, Block, block, loaded, section, yaml_blocks
from tests.tocsin.fake_backend import FakeBackend
from tocsin.data_dir import DataDir
from tocsin.http import prometheus
from tocsin.http.metrics import Metrics
from tocsin.own_alerts import imbalance, journal_unwritable, rule_error, session_down, sink_down
from tocsin.scenario_file import load_scenario
from tocsin.status import JournalRow, SessionRow, Snapshot

NOON = EPOCH + 12 * 3_600 * SECOND


def test_every_yaml_block_is_of_a_kind_that_is_checked_here():
    keys = ("streams", "mqtt", "sinks", "receivers", "journal", "http", "tracing", "groups", "tests", "fleets")
    checked = [b for key in keys for b in yaml_blocks(key)]
    assert len(checked) == len([b for b in BLOCKS if b.language == "yaml"]) >= 9
    assert {b.language for b in BLOCKS} == {"yaml", "json", "text", "sh"}


@pytest.mark.parametrize(
    "b",
    [b for k in ("streams", "mqtt", "sinks", "receivers", "journal", "http", "tracing") for b in yaml_blocks(k)],
    ids=str,
)
def test_configurations_pass_the_check(b: Block, tmp_path: Path):
    assert loaded(b.text, tmp_path).config.streams


MESSAGES = [b for b in BLOCKS if b.language == "text" and re.match(r"\S+/\S+  ", b.text)]


@pytest.mark.parametrize("b", MESSAGES, ids=str)
def test_messages_become_the_readings_that_stand_below_them(b: Block, tmp_path: Path):
    streams = loaded(block(b.heading, "yaml"), tmp_path).config.streams
    expected: list[str] = []
    sent: list[Arrived] = []
    for line in b.text.splitlines():
        if line.startswith("  "):
            expected.append(line.strip())
        else:
            topic, _, text = line.partition("  ")
            sent.append(Arrived(EPOCH + (2 + len(sent)) * SECOND, topic, text.encode()))
    outcome = run(sent, streams)
    refused = [f"✗ {rejection.reason}" for rejection in outcome.rejections]

    assert [*outcome.readings, *refused] == expected


def test_there_are_messages_for_each_way_of_sending_them():
    assert len(MESSAGES) == 3


def test_the_event_time_is_found_as_the_text_says(tmp_path: Path):
    config = loaded(block("Time", "yaml"), tmp_path).config
    payload = b'{"power": 3, "meta": {"measured_at": "2026-01-01T01:00:00"}}'
    local = run([Arrived(EPOCH + SECOND, "meters/m1", payload)], config.streams)
    assert local.times == [EPOCH]  # Berlin is an hour ahead of UTC in winter
    assert config.streams[0].staleness == 45 * 60 * SECOND

    streams = loaded(block("JSON objects", "yaml"), tmp_path).config.streams
    for field in ("ts", "timestamp", "time"):
        for number in (1767225600, 1767225600000, 1767225600000000, 1767225600000000000):
            text = json.dumps({field: number, "v": 1}).encode()
            outcome = run([Arrived(EPOCH + SECOND, "sensors/a/d1/telemetry", text)], streams)
            assert outcome.times == [EPOCH]
    without = run([Arrived(EPOCH + SECOND, "sensors/a/d1/telemetry", b'{"v": 1}')], streams)
    assert without.times == [EPOCH + SECOND]


def test_late_readings_and_duplicates_are_stored_or_not_as_the_text_says(tmp_path: Path):
    streams = loaded(block("JSON objects", "yaml"), tmp_path).config.streams
    texts = [f'{{"ts": {1767225600000 + 1000 * n}, "v": {n}}}' for n in (5, 3, 5)]
    sent = [Arrived(EPOCH + 9 * SECOND, "sensors/a/d1/telemetry", text.encode()) for text in texts]
    groups = load_rules({"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "v == 3"}]}]})[0]
    outcome = run(sent, streams, groups)
    assert outcome.flags == ["", "late", "duplicate"]
    assert outcome.events == []


def test_limits_have_these_defaults_and_reasons():
    sources = "".join(path.read_text() for path in (ROOT / "ingest").glob("*.py"))
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| `(\w+)` \|$", section("Limits and dead letters"), re.MULTILINE)
    fields = LimitsConfig.model_fields
    assert [name for name, *_ in rows] == list(fields)
    for name, default, reason in rows:
        value = getattr(LimitsConfig(), name)
        assert value == (int(default) if default.isdecimal() else parse_duration(default)), name
        assert f'"{reason}"' in sources


def test_the_dead_letter_in_the_text_is_what_the_decoder_says(tmp_path: Path):
    streams = loaded(block("JSON objects", "yaml"), tmp_path).config.streams
    first, detail, text = block("Limits and dead letters", "text").splitlines()
    when, _, reason, topic = first.split("  ")
    received = int(datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()) * SECOND
    (rejection,) = run([Arrived(received, topic, text.strip().encode())], streams).rejections
    assert (rejection.reason, rejection.detail) == (reason, detail.strip())


def test_a_line_of_influxdb_is_as_shown():
    shown = block("Sinks and receivers", "text")
    table = SeriesTable()
    id_ = table.add(Series.of("temperature", device="d1", site="north"))
    batch = ReadingBatch.of([id_], [1767225600123000000], [21.5])
    assert LineEncoder(table).encode(batch).decode() == shown


def test_the_webhook_body_is_as_shown():
    shown = json.loads(block("Sinks and receivers", "json"))
    (alert,) = shown["alerts"]
    event = AlertEvent(
        alert["x_rule"],
        tuple(sorted(alert["labels"].items())),
        AlertState.FIRING,
        alert["x_value"],
        NOON + 60 * SECOND,
        0,
        NOON + 60 * SECOND + SECOND // 2,
        tuple(alert["annotations"].items()),
        id=alert["x_id"],
    )
    assert webhook_payload([event], receiver="webhook") == shown


def test_the_scenario_is_valid_and_names_every_fault(tmp_path: Path):
    (tmp_path / "scenario.yaml").write_text(block("Simulate", "yaml"))
    assert load_scenario(tmp_path / "scenario.yaml").fleets
    listed = re.search(r"^Faults: (.*?)\. ", section("Simulate"), re.MULTILINE | re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) == set(get_args(Fault.model_fields["kind"].annotation))


def test_the_files_of_the_data_directory_are_all_listed(tmp_path: Path):
    data = DataDir(tmp_path)
    named = {line.split()[0].rstrip("/") for line in block("Data directory", "text").splitlines()}
    properties = {getattr(data, name).name for name, p in vars(DataDir).items() if isinstance(p, property)}
    assert named == properties | {data.cursor("x").parent.name}


def test_the_words_of_the_accounting_are_those_of_the_summary():
    formulas = block("Accounting", "text")
    accounts = (ROOT / "tocsin/accounts.py").read_text()
    for word in set(re.findall(r"[a-z]+(?: [a-z]+)?(?= \+|\n)", formulas)) - {"messages", "readings"}:
        assert f'"{word}"' in accounts, word


def test_the_metrics_are_all_listed_and_there_are_no_others():
    journal = JournalRow(start=0, end=1, bytes=1, free_bytes=1, seconds_to_full=1.0)
    session = SessionRow(url="", state="connected", since=1, last_message=1)
    told = Metrics(lambda: Snapshot(time=1, started=1, session=session, journal=journal)).text("")[0].decode()
    shown = re.findall(r"`(tocsin_\w+)`", section("Metrics"))
    assert sorted(shown) == sorted(re.findall(r"^# TYPE (tocsin_\w+) ", told, re.MULTILINE))


def test_the_paths_in_prometheus_shape_are_all_listed(tmp_path: Path):
    routes = {getattr(route, "path", "") for route in prometheus.router(FakeBackend(tmp_path, Snapshot)).routes}
    listed = re.findall(r"`(/api/v1/[\w/]+)`", section("In Prometheus' shape"))
    assert sorted(listed) == sorted(path.replace("{name}", "NAME") for path in routes)


def test_alerts_about_tocsin_are_listed_with_severity_and_patience():
    table = section("Alerts about tocsin itself")
    shown = re.findall(r"^\| `(Tocsin\w+)` \| (\w+) \| .*?(?:(\d+) (s|min))? \|$", table, re.MULTILINE)
    sink, session = ConsumerStatus("s", ConsumerState.RETRYING, 0, 0), SessionStatus("connecting", 0)
    sound = imbalance("store", 1, ""), journal_unwritable(""), session_down("", session)
    every = [*sound, sink_down(sink), rule_error("r", "")]
    for trouble, (name, severity, number, unit) in zip(every, shown, strict=True):
        patience = int(number or 0) * (60 if unit == "min" else 1) * SECOND
        assert (trouble.name, trouble.severity, trouble.hold) == (name, severity, patience)


def test_links_within_the_repository_lead_somewhere():
    for target in re.findall(r"\]\(([^) ]+)[^)]*\)", README):
        if target.startswith("#"):
            anchors = {
                re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-")
                for h in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
            }
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def test_lines_of_text_are_not_too_long():
    assert [line for line in PROSE.splitlines() if len(line) > 120 and not line.startswith("|")] == []


def test_the_sums_of_the_shown_demo_are_right():
    shown = json.loads(block("See it", "json"))
    parts = ("stored", "late", "duplicates", "rejected", "in_flight")
    assert shown["readings"] == sum(shown[part] for part in parts)
    assert shown["rows_in_store"] == shown["stored"] + shown["late"]
