"""Laws of recorded samples in the journal: we alone write them, they come back exactly, devices are none of theirs."""

import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.block import SAMPLES, Records
from ingest.decode import Decoded, Decoder
from ingest.feed import Feed
from ingest.journal import Journal
from ingest.recorded import TOPIC, decode_samples, encode_samples
from ingest.rejection import Refused
from ingest.streams import LimitsConfig, StreamConfig
from telemetry import DUPLICATE, LATE, LIVE, RECORDED, Counters, Message, ReadingBatch, Series, SeriesTable

NOW = 1_700_000_000_000_000_000
S = 10**9
SITE = {"__name__": "site:power:sum", "site": "north"}


class Bench:
    def __init__(self, **limits: int) -> None:
        self.table, self.counters = SeriesTable(), Counters()
        streams = [StreamConfig(name="s", topic="{device}/{metric}")]
        self.decoder = Decoder(streams, LimitsConfig(**limits), self.table, counters=self.counters)
        self.refused: list[tuple[str, int]] = []

    def give(self, *payloads: bytes, topic: str = TOPIC, flags: int = SAMPLES, **more: bool) -> Decoded:
        n = len(payloads)
        records = Records(
            0,
            np.full(n, NOW, np.int64),
            np.full(n, flags, np.uint8),
            [topic] * n,
            list(payloads),
            np.zeros(n, np.uint16),
        )
        return self.decoder.decode(records, **more)

    def add(self, rejections) -> None:
        self.refused += [(r.reason, r.rows) for r in rejections]


def rows(batch: ReadingBatch, table: SeriesTable) -> list[tuple[str, int, float, int]]:
    columns = batch.series.tolist(), batch.time.tolist(), batch.value.tolist(), batch.flags.tolist()
    return [(str(table[series]), time, value, flags) for series, time, value, flags in zip(*columns, strict=True)]


@given(
    st.integers(-(2**62), 2**62),
    st.lists(st.tuples(st.dictionaries(st.text(), st.text(), max_size=4), st.floats()), max_size=5),
)
def test_samples_come_back_exactly(time: int, samples: list[tuple[dict[str, str], float]]):
    found = [decode_samples(payload) for payload in encode_samples(time, samples)]
    assert {t for t, _ in found} <= {time}
    back = [sample for _, some in found for sample in some]
    assert [labels for labels, _ in back] == [labels for labels, _ in samples]
    same = [a == b or (math.isnan(a) and math.isnan(b)) for (_, a), (_, b) in zip(back, samples, strict=True)]
    assert all(same)


def test_many_samples_become_records_of_bounded_size():
    samples = [({"__name__": "x", "n": str(i)}, float(i)) for i in range(2_500)]
    payloads = list(encode_samples(NOW, samples))
    assert len(payloads) == 3
    assert [sample for payload in payloads for sample in decode_samples(payload)[1]] == samples


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"time":1}', b'{"time":1,"series":[[1,2]]}', b"[" * 100_000])
def test_a_record_of_another_version_is_refused_whole(payload: bytes):
    with pytest.raises(Refused, match="another version"):
        decode_samples(payload)
    bench = Bench()
    decoded = bench.give(payload)
    assert len(decoded.batch) == 0
    assert [r.reason for r in decoded.rejections] == ["bad_samples"]


def test_recorded_samples_are_rows_of_series_that_need_no_device():
    bench = Bench()
    (payload,) = encode_samples(NOW - S, [(SITE, 12.5), ({"__name__": "all"}, math.inf)])
    decoded = bench.give(payload)
    expected = [('site:power:sum{site="north"}', NOW - S, 12.5, RECORDED), ("all{}", NOW - S, math.inf, RECORDED)]
    assert rows(decoded.batch, bench.table) == expected
    assert decoded.batch.received.tolist() == [NOW, NOW]
    assert decoded.messages == bench.counters.get("ingest.messages") == 0
    assert bench.counters.get("ingest.readings") == 2
    again = bench.give(payload, add_series=False)
    assert rows(again.batch, bench.table) == expected


def test_nobody_can_send_recorded_samples():
    """What makes a record one of samples is a bit that no message has; the topic is only for people."""
    bench = Bench()
    (payload,) = encode_samples(NOW, [(SITE, 12.5)])
    for flags in (0, 1, 2, 3 << 2, 0x3F):
        assert len(bench.give(payload, flags=flags).batch) == 0
    assert bench.counters.get("ingest.messages_ignored") == 5
    assert len(bench.table) == 0


def test_a_journal_marks_what_we_record_and_nothing_that_was_delivered(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.append([Message(TOPIC, b"forged", qos=2, retain=True, dup=True, received=NOW)])
    assert journal.append_samples([b"a", b"b"], NOW + 1) == 1
    journal.close()
    records = Journal(tmp_path, read_only=True).read(0)
    assert (records.flags & SAMPLES).tolist() == [0, SAMPLES, SAMPLES]
    assert records.payloads == [b"forged", b"a", b"b"]
    assert records.received.tolist() == [NOW, NOW + 1, NOW + 1]


def test_the_receiver_and_evaluation_write_to_one_journal(tmp_path: Path):
    journal = Journal(tmp_path)
    firsts: list[int] = []

    def record() -> None:
        firsts.extend(journal.append_samples([b"%d" % i, b"+"], NOW) for i in range(100))

    thread = threading.Thread(target=record)
    thread.start()
    mine = [journal.append([Message("t", b"%d" % i, received=NOW)]) for i in range(100)]
    thread.join()
    records = journal.read(0)
    assert len(records) == 300
    assert (
        [records.payloads[at] for at in mine]
        == [b"%d" % i for i in range(100)]
        == [records.payloads[at] for at in firsts]
    )
    assert not records.flags[mine].any()
    assert all(records.flags[at] == records.flags[at + 1] == SAMPLES for at in firsts)
    journal.close()


def test_one_label_that_cannot_be_kept_costs_its_sample_only():
    bench = Bench()
    labels = [SITE, {**SITE, "text": "x" * 300}, {**SITE, "text": "\x00"}, {"__name__": "no name"}]
    decoded = bench.give(*encode_samples(NOW, [(each, 1.0) for each in labels]))
    assert [row[0] for row in rows(decoded.batch, bench.table)] == ['site:power:sum{site="north"}']
    assert sorted((r.reason, r.rows) for r in decoded.rejections) == [("bad_label", 2), ("bad_name", 1)]
    assert bench.counters.get("ingest.readings") == 4 == 1 + bench.counters.get("ingest.rejected")


def test_recorded_series_count_towards_the_limits_but_are_not_all_one_device():
    bench = Bench(max_series_per_device=2, max_series=5)
    site = [({**SITE, "site": str(i)}, 1.0) for i in range(4)]
    assert len(bench.give(*encode_samples(NOW, site)).batch) == 4
    device = [({"__name__": f"m{i}", "device": "d1"}, 1.0) for i in range(3)]
    decoded = bench.give(*encode_samples(NOW, device))
    assert (len(decoded.batch), [r.reason for r in decoded.rejections]) == (1, ["too_many_series"])


def test_a_recorded_series_of_a_device_s_own_name_makes_none_of_its_readings_late_or_twice(tmp_path: Path):
    """The rules of a user may collide with the device's metrics: what the device says still drives the alerts."""
    bench = Bench()
    journal = Journal(tmp_path)
    feed = Feed(journal, bench.decoder, bench.table, dead_letters=bench, counters=bench.counters)
    subscription = feed.subscribe(0)
    same = {"__name__": "temperature", "device": "d1"}
    reading = Message("d1/temperature", b"5", received=NOW)
    journal.append([reading])
    for _ in range(2):
        journal.append_samples(list(encode_samples(NOW + 60 * S, [(same, 5.0)])), NOW)
    later = Message("d1/temperature", b"5", received=NOW + 30 * S)
    journal.append([later, later])
    (head,) = feed.poll(0)
    assert isinstance(head, ReadingBatch)
    assert head.flags.tolist()[-2:] == [LIVE, DUPLICATE]
    assert (head.flags & (LATE | RECORDED)).tolist() == [0] * len(head)
    step = subscription.read(0)
    assert step is not None
    assert step.batch.flags.tolist() == [*head.flags.tolist()[:-2], RECORDED, RECORDED, LIVE, DUPLICATE]
    assert step.next == journal.end == 5
    journal.close()


def test_a_series_of_no_device_is_for_rules_only():
    assert Series.recorded("all:power:sum", {"empty": ""}) == Series("all:power:sum", ())
    assert Series.recorded("m", {"device": "d"}) == Series.of("m", device="d")
    assert Series.recorded("m", {}).device == ""
    with pytest.raises(ValueError, match="needs the label device"):
        Series.of("m")
    for metric, labels in (("0", {}), ("m", {"__name__": "n"}), ("m", {"a-b": "c"}), ("m", {"a": "x" * 257})):
        with pytest.raises(ValueError):  # one for each thing that is wrong
            Series.recorded(metric, labels)


def test_payloads_are_json_that_people_can_read():
    (payload,) = encode_samples(5, [(SITE, 12.5)])
    assert json.loads(payload) == {"time": 5, "series": [[SITE, 12.5]]}
