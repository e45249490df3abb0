"""Laws of `tocsin trace`: what the files of a pipeline tell of single messages and alerts, beside it."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ingest.arrivals import Arrivals
from ingest.config import JournalConfig
from ingest.dead_letters import DeadLetters, Selection
from ingest.journal import Journal
from ingest.rejection import Rejection
from ingest.streams import LimitsConfig, StreamConfig
from sinks.outbox import Outbox
from sinks.store import Store
from telemetry import (
    DUPLICATE,
    LATE,
    LIVE,
    RETAINED,
    AlertEvent,
    AlertState,
    Counters,
    Cursor,
    Message,
    ReadingBatch,
    TocsinError,
)
from tests.readme import block
from tests.tocsin.pipeline_rig import prepare, running, until
from tocsin import retracing
from tocsin.cli import main
from tocsin.config import load_config
from tocsin.data_dir import DataDir
from tocsin.pipeline import Pipeline
from tocsin.points import parking
from tocsin.stream_record import save_streams
from tocsin.trace import Kept, MessageTrace, Tracer
from tocsin.words import iso

SECOND = 10**9
INFLUX = {"type": "influx", "name": "far", "url": "http://127.0.0.1:1", "bucket": "b"}


class Plant:
    """A pipeline that has received some messages; each has a name."""

    def __init__(self, directory: Path) -> None:
        self.pipeline = prepare(directory, streams=[{"name": "s", "topic": "plant/{device}"}], sinks=[INFLUX])
        self.data = self.pipeline.data
        self.begin = self.pipeline.clock.now() - 100 * SECOND
        self.offsets: dict[str, int] = {}

    def send(self, name: str, at: int, payload: Any, *, device: str = "d1", retain: bool = False) -> None:
        """`payload`: fields, or bytes; `at`: s since the beginning, its event time."""
        if isinstance(payload, dict):
            payload = json.dumps({"time": self.begin + at * SECOND, **payload}).encode()
        message = Message(f"plant/{device}", payload, received=self.pipeline.clock.now(), qos=1, retain=retain, mid=7)
        self.pipeline.counters.add("ingest.arrived")
        before = self.pipeline.journal.end
        assert self.pipeline.receiver._inbox.put(Arrivals.of(message, 1), timeout=10)
        until(lambda: self.pipeline.feed.offset > before and self.pipeline.receiver.waiting == 0)
        with closing(Journal(self.data.journal, read_only=True)) as journal:
            records = journal.read(before, 100)
        [self.offsets[name]] = [before + i for i, p in enumerate(records.payloads) if p == payload]

    def passed(self) -> bool:
        """Whether rules and store have saved that they have passed everything."""
        last = max(self.offsets.values())
        return all(json.loads(self.data.cursor(n).read_text())["offset"] > last for n in ("rules", "store"))


def fill(plant: Plant) -> None:
    plant.send("warm", 10, {"temperature": 20})
    plant.send("hot", 20, {"temperature": 82.5, "humidity": 40})
    plant.send("again", 20, {"humidity": 40, "temperature": 82.5})
    plant.send("late", 5, {"temperature": 99})
    plant.send("corrected", 10, {"temperature": 21})
    plant.send("retained", 30, {"temperature": 98}, retain=True)
    plant.send("broken", 0, b'{"temperature": ')
    plant.send("cool", 40, {"temperature": 30})
    plant.send("other", 40, {"temperature": 30}, device="d2")
    plant.send("partly", 50, {"temperature": 30, "no\tname": 1e999, "": "x" * 500})


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """It keeps running."""
    plant = Plant(tmp_path_factory.mktemp("plant"))
    with running(plant.pipeline) as pipeline:
        fill(plant)
        until(lambda: pipeline.outbox.pending("log") == 0 and len(pipeline.outbox.recent()) == 2)
        until(lambda: all(plant.data.cursor(name).exists() for name in ("rules", "store")) and plant.passed())
        yield plant


@pytest.fixture
def tracer(plant: Plant) -> Iterator[Tracer]:
    with closing(Tracer(plant.data)) as tracer:
        yield tracer


def of(tracer: Tracer, plant: Plant, name: str) -> MessageTrace:
    return tracer.message(plant.offsets[name])


def told(tracer: Tracer, plant: Plant, name: str) -> list[tuple[str, float, int, str, float | None]]:
    rows = of(tracer, plant, name).rows
    return [(row.series.metric, row.value, row.flags, row.kept, row.stored) for row in rows]


def test_a_message_is_told_with_what_was_received(tracer, plant):
    found = of(tracer, plant, "hot")

    assert (found.records.topics, found.qos, found.marks, found.looked_back) == (["plant/d1"], 1, [], None)
    assert of(tracer, plant, "retained").marks == ["retained"]


def test_readings_are_told_with_their_flags_and_what_is_stored_of_them(tracer, plant):
    assert told(tracer, plant, "hot") == [
        ("temperature", 82.5, LIVE, Kept.STORED, 82.5),
        ("humidity", 40, LIVE, Kept.STORED, 40),
    ]
    assert told(tracer, plant, "again") == [
        ("temperature", 82.5, DUPLICATE, Kept.STORED, 82.5),
        ("humidity", 40, DUPLICATE, Kept.STORED, 40),
    ]
    assert told(tracer, plant, "late") == [("temperature", 99, LATE, Kept.STORED, 99)]
    assert told(tracer, plant, "retained") == [("temperature", 98, RETAINED, Kept.STORED, 98)]
    assert [row.time for row in of(tracer, plant, "late").rows] == [plant.begin + 5 * SECOND]


def test_a_reading_that_was_corrected_since_is_told_with_the_value_that_counts(tracer, plant):
    assert told(tracer, plant, "warm") == [("temperature", 20, LIVE, Kept.OTHER, 21)]
    assert told(tracer, plant, "corrected") == [("temperature", 21, LATE, Kept.STORED, 21)]


def test_what_could_not_be_decoded_is_told_with_its_dead_letter(tracer, plant):
    found = of(tracer, plant, "broken")

    with closing(DeadLetters(plant.data.dead_letters, read_only=True)) as letters:
        [letter] = letters.list(Selection(offset=plant.offsets["broken"]))
    assert [(r.reason, r.letter, r.readings) for r in found.refusals] == [("bad_json", letter.id, 1)]
    assert found.rows == ()


def test_of_a_message_that_was_refused_in_part_both_parts_are_told(tracer, plant):
    found = of(tracer, plant, "partly")

    assert [row.series.metric for row in found.rows] == ["temperature"]
    assert found.refusals
    assert all(refusal.letter for refusal in found.refusals)


def test_every_consumer_is_told_by_its_cursor(tracer, plant):
    found = of(tracer, plant, "hot")

    assert (found.rules.name, found.rules.passed) == ("rules", True)
    assert [(sink.name, sink.passed) for sink in found.sinks] == [("store", True), ("far", False)]


def test_a_consumer_that_lags_is_told_with_how_far_it_has_to_go(tracer, plant):
    Cursor(plant.data.cursor("slow")).save(plant.offsets["late"])
    first = tracer._journal.end
    before, at = of(tracer, plant, "again"), of(tracer, plant, "late")
    plant.data.cursor("slow").unlink()
    [passed], [lags] = ([s for s in found.sinks if s.name == "slow"] for found in (before, at))
    assert (passed.passed, lags.passed) == (True, False)
    assert first <= plant.offsets["late"] + lags.lag <= tracer._journal.end


def test_a_refused_point_is_told_with_the_words_of_the_sink(plant):
    row = ReadingBatch.of(
        [0], [plant.begin], [1.0], received=[_received(plant, "other")], offset=[plant.offsets["other"]]
    )
    parking(plant.pipeline.dead_letters, plant.pipeline.table, "store")(row, "field type conflict")

    with closing(Tracer(plant.data)) as tracer:
        found, another = of(tracer, plant, "other"), of(tracer, plant, "cool")
    assert [letter.detail for sink in found.sinks for letter in sink.parked] == ["field type conflict"]
    assert not any(sink.parked for sink in another.sinks)
    assert found.refusals == ()


def _received(plant: Plant, name: str) -> int:
    with closing(Journal(plant.data.journal, read_only=True)) as journal:
        return int(journal.read(plant.offsets[name], 1).received[0])


def test_the_alerts_that_a_message_brought_about_are_told_with_their_receipts(tracer, plant):
    hot, cool = of(tracer, plant, "hot"), of(tracer, plant, "cool")

    [firing], [resolved] = hot.alerts, cool.alerts
    assert (firing.event.state, resolved.event.state) == ("firing", "resolved")
    [receipt] = firing.receipts
    assert (receipt.receiver, receipt.state, receipt.attempts) == ("log", "sent", 1)
    assert receipt.sent_at >= firing.event.detected_at
    assert [later.event.id for later in hot.later] == [resolved.event.id]


@pytest.mark.parametrize("name", ["warm", "again", "late", "retained", "broken", "other"])
def test_a_message_that_changed_nothing_has_brought_about_no_alert(tracer, plant, name):
    assert of(tracer, plant, name).alerts == ()


def test_what_the_store_does_not_have_is_gone_or_still_to_come(tmp_path):
    plant = Plant(tmp_path)
    with running(plant.pipeline):
        plant.send("warm", 10, {"temperature": 20})
    with Store(plant.data.store) as store:
        store.retain(plant.begin + 15 * SECOND)

    with closing(Tracer(plant.data)) as tracer:
        assert told(tracer, plant, "warm") == [("temperature", 20, LIVE, Kept.MISSING, None)]
        Cursor(plant.data.cursor("store")).save(0)
        assert told(tracer, plant, "warm") == [("temperature", 20, LIVE, Kept.WAITING, None)]


def test_of_events_of_the_same_instant_those_are_told_that_the_message_can_have_brought_about(tmp_path):
    """None, if all its readings are late; none of other devices; none of tocsin itself."""
    plant = Plant(tmp_path)
    with running(plant.pipeline) as pipeline:
        plant.send("warm", 10, {"temperature": 20})
        plant.send("late", 5, {"temperature": 20})
        for name, device, offset in (("late", "d1", 9), ("warm", "d2", 9), ("warm", "d1", 0)):
            labels = (("alertname", "A"), ("device", device))
            at = _received(plant, name)
            event = AlertEvent(f"g/{name}{offset}", labels, AlertState.FIRING, 1.0, at, 0, at)
            pipeline.outbox.publish([event], offset=offset)

        with closing(Tracer(plant.data)) as tracer:
            assert [of(tracer, plant, name).alerts for name in ("late", "warm")] == [(), ()]
            found = [tracer.alert(event.id) for event in pipeline.outbox.recent()]
    assert [one.sources for one in found] == [(None,)] * 3
    assert [one.by_tick for one in found] == [(False,)] * 3


def test_each_firing_of_an_alert_is_told_with_its_own_resolving(tmp_path):
    plant = Plant(tmp_path)
    with running(plant.pipeline) as pipeline:
        for i, value in enumerate((60, 40, 70, 30)):
            plant.send(str(i), i, {"temperature": value})
        until(lambda: len(pipeline.outbox.recent()) == 4)

        with closing(Tracer(plant.data)) as tracer:
            [second] = of(tracer, plant, "2").alerts
            found = tracer.alert(second.event.id)
    assert found.sources == (plant.offsets["2"], plant.offsets["3"])


def test_an_alert_is_told_from_the_readings_to_the_receipts(tracer, plant):
    [firing] = of(tracer, plant, "hot").alerts
    [resolved] = of(tracer, plant, "cool").alerts

    found = tracer.alert(firing.event.id[:12])

    assert found.asked == firing.event.id
    assert found.events == (firing, resolved)
    assert found.sources == (plant.offsets["hot"], plant.offsets["cool"])
    assert found.by_tick == (False, False)
    assert found.rule is not None
    assert (found.rule.expr, found.rule.hold) == ("temperature > 50", "")
    [readings] = found.readings
    assert str(readings.series) == 'temperature{device="d1"}'
    assert readings.value == (99, 21, 82.5)
    assert tracer.alert(resolved.event.id).events == found.events
    assert tracer.alert(resolved.event.id).readings[0].value == (82.5, 98, 30)


def test_an_id_that_is_unknown_or_of_several_is_refused_with_what_there_is(tracer, plant):
    both = [published.event.id for name in ("hot", "cool") for published in of(tracer, plant, name).alerts]

    with pytest.raises(Exception, match="no alert event 'xyz'"):
        tracer.alert("xyz")
    with pytest.raises(Exception, match="several alert events begin with ''") as error:
        tracer.alert("")
    assert all(id_[:4] in str(error.value) for id_ in both)


def test_the_nearest_messages_of_a_device_are_found_by_the_time_of_their_readings(tracer, plant):
    nearest = tracer.near("d1", plant.begin + 21 * SECOND, 3)

    assert nearest == [plant.offsets[name] for name in ("hot", "again", "retained")]
    assert tracer.near("d2", plant.begin, 5) == [plant.offsets["other"]]
    assert tracer.near("nobody", plant.begin, 5) == []


def test_the_nearest_messages_of_a_device_are_found_by_their_arrival(tracer, plant):
    """Also those that could not be decoded."""
    for name in ("broken", "late", "cool"):
        for beside in (0, 1):
            assert tracer.near("d1", _received(plant, name) + beside, 1) == [plant.offsets[name]]


def test_what_is_not_there_is_said(tracer, plant):
    with pytest.raises(Exception, match="there is no record 10000000 yet"):
        tracer.message(10_000_000)


def test_of_a_record_that_was_trimmed_the_dead_letter_is_named(tmp_path):
    data = DataDir(tmp_path)
    data.create()
    save_streams(data, [StreamConfig(name="s", topic="plant/{device}")], LimitsConfig())
    with closing(Journal(data.journal, config=JournalConfig(segment_bytes=4096))) as journal:
        for i in range(3):
            journal.append([Message("plant/d1", b"x" * 3_000, received=i)])
    with closing(DeadLetters(data.dead_letters)) as letters:
        letters.add([Rejection(0, 0, "plant/d1", b"x", "bad_json", "no", "s")])
        letters.add([Rejection(1, 99, "plant/d1", b"x", "bad_json", "of a record that was lost", "s")])
    next(iter(sorted(data.journal.glob("*.journal")))).unlink()

    with closing(Tracer(data)) as tracer:
        with pytest.raises(TocsinError, match=r"record 0 is gone: the journal was trimmed.*dead-letters show 1"):
            tracer.message(0)
        found = tracer.message(1)
        with pytest.raises(TocsinError, match="there is no record 3 yet"):
            tracer.message(3)
    assert (found.looked_back, [(r.reason, r.letter) for r in found.refusals]) == (0, [("no_metric", None)])
    assert (found.rules.passed, [sink.name for sink in found.sinks]) == (False, ["store"])


def test_what_is_told_of_decoding_anew_is_not_logged_again(plant, caplog):
    with closing(Tracer(plant.data)) as tracer:
        caplog.clear()
        of(tracer, plant, "partly")
        tracer.near("d1", plant.begin, 3)
    assert not [record for record in caplog.records if record.name == "tocsin.ingest" and "refused" in record.message]


def test_the_flags_are_exact_from_a_snapshot_on(plant, tmp_path, monkeypatch):
    monkeypatch.setattr(retracing, "LOOK_BACK", 0)
    late = plant.offsets["late"]
    with closing(Tracer(plant.data)) as tracer:
        blind = tracer.message(late)
    arrays = {"feed." + name: a for name, a in _state_before(plant, late).items()}
    plant.pipeline.evaluation._snapshots.save(late, arrays)

    with closing(Tracer(plant.data)) as tracer:
        found = tracer.message(late)

    plant.data.snapshots.joinpath(f"{late:020d}.snapshot").unlink()
    assert (blind.rows[0].flags, blind.looked_back) == (LIVE, 0)
    assert (found.rows[0].flags, found.looked_back) == (LATE, None)


def _state_before(plant: Plant, offset: int) -> dict[str, Any]:
    """Of a feed that has gone so far."""
    seen = retracing.Retracing(plant.data)
    feed = retracing.Feed(
        seen.journal,
        retracing.Decoder(seen._streams, seen._limits, seen.table, counters=Counters()),
        seen.table,
        dead_letters=retracing._Collected(),
        counters=Counters(),
    )
    while feed.offset < offset:
        feed.poll(0, limit=offset - feed.offset)
    return feed.state()


def test_an_alert_that_a_tick_has_shown_is_told_so(tmp_path):
    rules = {"groups": [{"name": "g", "interval": "1s", "rules": [{"alert": "Any", "expr": "count(temperature) > 0"}]}]}
    pipeline = prepare(tmp_path)
    pipeline.close()
    (tmp_path / "rules.yml").write_text(json.dumps(rules))
    with running(Pipeline(load_config(tmp_path / "tocsin.yaml"))) as pipeline:
        message = Message("d1/temperature", b"1", received=pipeline.clock.now())
        assert pipeline.receiver._inbox.put(Arrivals.of(message, 1), timeout=10)
        until(lambda: bool(pipeline.outbox.firing()))
        with closing(Tracer(pipeline.data)) as tracer:
            found = tracer.alert(pipeline.outbox.firing()[0].id)
            [source] = found.sources
            shown = tracer.message(source)
    assert found.by_tick == (True,)
    assert shown.is_tick
    assert [published.event.id for published in shown.alerts] == [found.asked]


def cli(data: DataDir, *args: str, expect: int = 0) -> str:
    done = CliRunner().invoke(main, ["trace", *args, "--data-dir", str(data.path)])
    assert done.exit_code == expect, done.output
    return done.output


def test_a_message_is_told_in_words(plant):
    output = cli(plant.data, str(plant.offsets["hot"]))

    lines = [line.strip() for line in output.splitlines()]
    assert lines[0] == f"message {plant.offsets['hot']}  plant/d1"
    assert any(
        line.startswith('readings  temperature{device="d1"} 82.5 at ') and line.endswith(": stored") for line in lines
    )
    assert "store     has passed it" in lines
    assert any(line.startswith("alert     ") and "FIRING    Hot" in line for line in lines)
    assert any(line.startswith("log: delivered ") and line.endswith(" after it was detected, 1 try") for line in lines)
    assert "late: stored" in cli(plant.data, str(plant.offsets["late"]))
    assert "refused   bad_json (dead letter " in cli(plant.data, str(plant.offsets["broken"]))
    assert "the store has 21 for this time by now" in cli(plant.data, str(plant.offsets["warm"]))


def test_a_message_is_told_to_machines(plant):
    found = json.loads(cli(plant.data, str(plant.offsets["hot"]), "--json"))

    assert (found["offset"], found["topic"], found["qos"]) == (plant.offsets["hot"], "plant/d1", 1)
    assert [(r["series"]["__name__"], r["value"], r["flags"], r["kept"]) for r in found["readings"]] == [
        ("temperature", 82.5, [], "stored"),
        ("humidity", 40, [], "stored"),
    ]
    assert found["rules"]["passed"]
    assert found["alerts"][0]["labels"]["alertname"] == "Hot"
    assert found["alerts"][0]["receipts"][0]["state"] == "sent"
    assert found["alerts"][0]["receipts"][0]["latency_ms"] >= 0


def test_an_alert_is_told_in_words_and_to_machines(plant):
    id_ = json.loads(cli(plant.data, str(plant.offsets["hot"]), "--json"))["alerts"][0]["id"]

    words, found = cli(plant.data, id_[:10].upper()), json.loads(cli(plant.data, id_[:10], "--json"))

    assert "alert Hot" in words
    assert "g/Hot: temperature > 50" in words
    assert f"by message {plant.offsets['hot']}" in words
    assert [event["state"] for event in found["events"]] == ["firing", "resolved"]
    assert [event["shown_by"] for event in found["events"]] == [plant.offsets["hot"], plant.offsets["cool"]]
    assert [value for _, value in found["readings"][0]["values"]] == [99, 21, 82.5]


def test_the_alert_in_the_readme_is_told_as_it_stands_there(tmp_path):
    plant = Plant(tmp_path)
    with running(plant.pipeline) as pipeline:
        plant.send("warm", 10, {"temperature": 20})
        plant.send("hot", 20, {"temperature": 82.5})
        until(lambda: bool(pipeline.outbox.firing()) and pipeline.outbox.backlog("log").sent == 1)
        [event] = pipeline.outbox.firing()

        assert _shape(cli(plant.data, event.id)) == _shape(block("Trace one message or alert", "text"))


def _shape(text: str) -> str:
    """Without numbers, times and ids."""
    return re.sub(r"\d[\d.,]*( ?[mµ]?s\b)?", "0", re.sub(r"\b[0-9a-f]{32}\b", "ID", text))


def test_a_device_and_a_time_name_the_nearest_message_and_others_are_offered(plant):
    found = json.loads(cli(plant.data, f"d1@{iso(plant.begin + 21 * SECOND)}", "--json"))
    assert found["offset"] == plant.offsets["hot"]
    assert found["others"][0] == plant.offsets["again"]
    assert f"nearby: {plant.offsets['again']}" in cli(plant.data, f"d1@{iso(plant.begin + 21 * SECOND)}")


def test_what_cannot_be_found_is_said_and_wrong_words_are_wrong_usage(plant, tmp_path):
    assert "there is no message of nobody around" in cli(plant.data, "nobody@1m", expect=1)
    assert "there is no alert event 'beef'" in cli(plant.data, "beef", expect=1)
    assert "there is no record 99999999 yet" in cli(plant.data, "99999999", expect=1)
    assert "write a device before the @" in cli(plant.data, "@1m", expect=2)
    assert "neither a duration" in cli(plant.data, "d1@noon", expect=2)
    assert "there is no data directory" in cli(DataDir(tmp_path / "none"), "1", expect=1)


def test_own_alerts_are_told_without_a_message(tmp_path):
    pipeline = prepare(tmp_path)
    pipeline.close()
    event = AlertEvent("tocsin/Own", (("alertname", "Own"),), AlertState.FIRING, 1.0, SECOND, 0, SECOND)
    with closing(Outbox(pipeline.data.alerts, ["log"])) as outbox:
        outbox.publish([event], offset=0)

    assert "by tocsin itself" in cli(pipeline.data, event.id)
