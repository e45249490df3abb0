"""The law of shapes: messages that are decoded at once give what they give one by one, to the bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest import decode
from ingest.block import Records
from ingest.decode import Decoder
from ingest.shapes import Shapes
from ingest.streams import LimitsConfig, StreamConfig
from telemetry import Counters, SeriesTable

NOW = 1_700_000_000_000_000_000
MS = NOW // 10**6
STREAM = StreamConfig.model_validate(
    {"name": "s", "topic": "t/{device}", "fields": {"exclude": ["note"]}, "time": {"field": ["ts", "at"]}}
)
LIMITS = LimitsConfig.model_validate({"max_digits": 20, "max_past": "1h"})


@pytest.fixture(scope="module", autouse=True)
def _learning_early() -> Iterator[None]:
    """What a large batch does after a thousand messages, small ones do after three."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "_LEARN_FROM", 3)
        yield


class _NoShapes(Shapes):
    def read(self, *_: Any) -> list[Any]:
        return []


def records(messages: list[tuple[str, bytes]], first: int = 0) -> Records:
    n = len(messages)
    return Records(
        first,
        NOW + np.arange(first, first + n) * 10**6,
        np.zeros(n, np.uint8),
        [topic for topic, _ in messages],
        [payload for _, payload in messages],
        np.zeros(n, np.uint16),
    )


class Subject:
    def __init__(self, *, shapes: bool) -> None:
        self.counters, self.table = Counters(), SeriesTable()
        self.decoder = Decoder([STREAM], LIMITS, self.table, counters=self.counters)
        if not shapes:
            self.decoder._shapes = _NoShapes(earliest=0, latest=0, integer_bound=1, max_bytes=1)

    def rows(self, parts: list[Records]) -> list[tuple[Any, ...]]:
        """All that comes out, values to the bit."""
        found: list[tuple[Any, ...]] = []
        for part in parts:
            decoded = self.decoder.decode(part)
            batch = decoded.batch
            columns = (batch.offset, batch.series, batch.time, batch.value.view(np.int64), batch.received, batch.flags)
            found += zip(*(column.tolist() for column in columns), strict=True)
            found += [(r.offset, r.reason, r.detail) for r in decoded.rejections]
        return found


NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([10**19, -(10**20), 2**53 + 1, 2**64, -0.0, 0.0, 1e300, 0.1]),
)
ODD = st.sampled_from([True, None, "ON", "21.5", [1], {}, {"z": 1}])
DEVICE_KEYS = {"a": ["v", "w"], "b": ["w", "v"], "c": ["v", "in"], "d": ["ts", "v", "note"]}


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, bytes]:
    """Mostly what the device always sends; sometimes something else."""
    device = draw(st.sampled_from(sorted(DEVICE_KEYS)))
    document: dict[str, Any] = {}
    for key in DEVICE_KEYS[device]:
        document[key] = {"x": draw(NUMBERS), "y": draw(NUMBERS)} if key == "in" else draw(NUMBERS)
    if "ts" in document:
        document["ts"] = MS + draw(st.integers(-5, 5))
        document["note"] = draw(st.sampled_from([1, "n", None, 2.5, True]))
    if draw(st.integers(0, 5)) == 0:
        change = draw(st.sampled_from([*document, "new", "at", "ts", "note"]))
        document[change] = draw(
            ODD | NUMBERS | st.sampled_from([MS, MS - 10**9, 2**70, -5, 1.5, "2023-11-14T22:13:20Z"])
        )
    if draw(st.integers(0, 7)) == 0:
        document.pop(draw(st.sampled_from(sorted(document))))
    text = json.dumps(document)
    text = draw(
        st.sampled_from([text] * 8 + [text.replace("v", "\\u0076"), " " + text, text[:-1], text + "x", "-0", ""])
    )
    text = text.replace("-0.0", draw(st.sampled_from(["-0.0", "-0", "0"])))
    return f"t/{device}", text.encode()


@given(st.lists(documents(), min_size=1, max_size=40), st.integers(1, 12))
@settings(deadline=None, max_examples=400)
@example([("t/a", b'{"v": 1, "w": 2}'), ("t/a", b'{"v": -0, "w": -0.0}'), ("t/a", b'{"w": 1, "v": 2}')], 1)
@example([("t/d", b'{"ts": null, "at": 1700000000000, "v": 1}'), ("t/d", b'{"ts": 1700000000001, "at": 1, "v": 2}')], 1)
def test_a_message_gives_the_same_rows_whether_or_not_it_is_decoded_with_others(
    messages: list[tuple[str, bytes]], cut: int
):
    parts = [records(messages[i : i + cut], i) for i in range(0, len(messages), cut)]
    subject, plain = Subject(shapes=True), Subject(shapes=False)

    assert subject.rows(parts) == plain.rows(parts)
    assert subject.counters.snapshot() == plain.counters.snapshot()
    assert [str(series) for series in subject.table] == [str(series) for series in plain.table]


def test_what_the_first_messages_of_a_batch_have_taught_counts_for_the_others(monkeypatch: pytest.MonkeyPatch):
    one_by_one: list[int] = []
    message = Decoder._message
    monkeypatch.setattr(Decoder, "_message", lambda self, i, *rest: one_by_one.append(i) or message(self, i, *rest))
    topics = ["t/a", "t/a", "t/b", "t/a", "t/c", "t/b", "t/c", "t/c", "t/a", "t/b", "t/c"]
    subject = Subject(shapes=True)

    found = subject.rows([records([(topic, b'{"v": %d}' % i) for i, topic in enumerate(topics)])])

    assert one_by_one == [0, 1, 2, 4, 5, 6], "a topic is learnt with its second message"
    assert [row[0] for row in found] == list(range(11))
    assert subject.counters.get("ingest.of_stream", "s") == subject.counters.get("ingest.messages_decoded") == 11


def known(*payloads: bytes, device: str = "a") -> Subject:
    subject = Subject(shapes=True)
    for i, payload in enumerate(payloads):
        subject.rows([records([(f"t/{device}", payload)], i)])
    return subject


def taken(subject: Subject, *payloads: bytes, device: str = "a") -> list[int]:
    """Which messages are decoded at once."""
    part = records([(f"t/{device}", payload) for payload in payloads], 1_000)
    found = subject.decoder._shapes.read(part.topics, part.payloads, part.received)
    return sorted(i for each in found for i in each.message.tolist())


def test_what_a_device_always_sends_is_decoded_at_once():
    """Otherwise the law above would hold of shapes that nothing has."""
    payload = b'{"ts": 1700000000000, "v": 1.5, "in": {"x": 1, "y": 2}, "note": "n"}'

    assert taken(known(payload, payload, payload), payload, payload) == [0, 1]


@pytest.mark.parametrize(
    "other",
    [b'{"v": 1}', b'{"v": 1, "w": 2, "x": 3}', b'{"v": true, "w": 1}', b'{"v": 1, "w": 1' + b"0" * 21 + b"}", b"{"],
    ids=["a key less", "a key more", "a boolean", "too many digits", "broken"],
)
def test_a_message_of_another_shape_does_not_keep_the_others_from_it(other: bytes):
    payload = b'{"v": 1, "w": 2}'

    assert taken(known(payload, payload), payload, other, payload) == [0, 2]


def test_a_topic_whose_messages_seldom_have_their_shape_loses_it():
    payload, other = b'{"v": 1, "w": 2}', b'{"v": 1}'
    subject = known(payload, payload)

    for _ in range(5):
        taken(subject, *[other] * 30)

    assert taken(subject, payload) == []


def test_a_topic_that_has_its_shape_most_of_the_time_keeps_it():
    payload, other = b'{"v": 1, "w": 2}', b'{"v": 1}'
    subject = known(payload, payload)

    for _ in range(20):
        taken(subject, *[other] * 10, *[payload] * 30)

    assert taken(subject, payload) == [0]


def test_topics_of_one_shape_share_its_decoder():
    subject = Subject(shapes=True)
    for i, device in enumerate("abcdefgh" * 3):
        subject.rows([records([(f"t/{device}", b'{"v": 1, "w": 2}')], i)])

    assert len(subject.decoder._shapes._shapes) == 1
