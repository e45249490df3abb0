"""Laws of what is promised: which facts make which level, in which words, and how a step down is told."""

import logging

import pytest

from ingest.arrivals import Arrivals
from ingest.config import MqttConfig
from ingest.guarantee import Announced, Guarantee, Guarantees, SessionFacts, SessionLoss, Wanted, judge
from ingest.traffic import Heard, Traffic
from telemetry import Message

SECOND = 10**9
HOUR = 3_600 * SECOND
NOW = 1_700_000_000 * SECOND


def config(**fields: object) -> MqttConfig:
    return MqttConfig(client_id="us", **fields)


def facts(**changes: object) -> SessionFacts:
    """Connected for a minute, everything granted."""
    plain = {"now": NOW, "granted": {"t/#": 1}, "announced": Announced(), "away_since": None}
    return SessionFacts(**(plain | {"connected_since": NOW - 60 * SECOND} | changes))


def judged(
    given: SessionFacts | None = None, heard: Heard | None = None, wanted: Wanted | None = None, **mqtt: object
) -> Guarantee:
    return judge(config(**mqtt), "t/#", given or facts(), heard or Heard(), wanted or Wanted())


def test_qos_1_and_a_lasting_session_are_g2_without_a_caveat():
    found = judged()
    assert (found.level, found.caveats) == ("G2", ())
    assert found.reasons == ("the broker granted QoS 1 and keeps our session while we are away",)
    assert found.meaning == "in the journal before it is acknowledged"


@pytest.mark.parametrize(
    ("found", "level", "reason"),
    [
        (judged(facts(granted={})), "none", "not connected yet"),
        (judged(facts(granted={"other": 1})), "none", "the broker has not answered yet"),
        (judged(facts(granted={"t/#": 0x87})), "none", "the broker refuses the subscription to 't/#'"),
        (judged(facts(granted={"t/#": 0})), "G0", "the broker granted only QoS 0 for 't/#'"),
        (judged(facts(announced=Announced(maximum_qos=0))), "G0", "the broker takes no messages with QoS 1"),
        (judged(session_expiry="0s"), "G0", "mqtt.session_expiry is 0"),
        (judged(facts(announced=Announced(session_expiry=0))), "G0", "the broker keeps no session for us"),
        (judged(heard=Heard(qos0=NOW)), "G0", "its devices publish with QoS 0"),
        (judged(heard=Heard(qos0=NOW, qos1=NOW - 2 * HOUR)), "G0", "its devices publish with QoS 0"),
        (judged(facts(away_since=NOW - 25 * HOUR)), "none", "and the broker keeps our session only for 1d"),
        (
            judged(facts(away_since=NOW - 2 * HOUR, announced=Announced(session_expiry=HOUR))),
            "none",
            "and the broker keeps our session only for 1h",
        ),
    ],
)
def test_what_is_missing_lowers_the_level_and_is_the_reason(found: Guarantee, level: str, reason: str):
    assert found.level == level
    [only] = found.reasons
    assert reason in only


@pytest.mark.parametrize(
    ("found", "caveat"),
    [
        (judged(protocol="3.1.1"), "MQTT 3.1.1: the broker does not say how long it keeps our session"),
        (judged(facts(announced=Announced(session_expiry=HOUR))), "the broker keeps our session for 1h, not 1d"),
        (judged(facts(announced=Announced(client_id="x"))), "the broker calls us 'x', not 'us'"),
        (judged(facts(away_since=NOW - HOUR)), "not connected since 2023-11-14T21:13:20Z: messages wait"),
        (judged(heard=Heard(qos0=NOW, qos1=NOW - SECOND)), "some messages come with QoS 0 (the last at 2023-11-14T22"),
        (judged(facts(announced=Announced(retain_available=False))), "the broker keeps no retained messages"),
        (
            judged(facts(announced=Announced(max_packet_bytes=9_999)), wanted=Wanted(max_payload_bytes=10_000)),
            "the broker takes no packets above 9,999 bytes, and limits.max_payload_bytes is 10,000",
        ),
        (
            judged(facts(losses=[SessionLoss(NOW - HOUR, NOW - SECOND)])),
            "what it had not delivered by 2023-11-14T21:13:20Z, and what came until 2023-11-14T22:13:19Z, may be lost",
        ),
        (
            judged(wanted=Wanted(silent_after=59 * SECOND)),
            "connected, but no message since 2023-11-14T22:12:20Z: do its devices publish",
        ),
    ],
)
def test_what_may_be_lost_all_the_same_is_a_caveat(found: Guarantee, caveat: str):
    assert found.level == "G2"
    [only] = found.caveats
    assert caveat in only


@pytest.mark.parametrize(
    "found",
    [
        judged(facts(announced=Announced(session_expiry=48 * HOUR))),
        judged(facts(announced=Announced(max_packet_bytes=10_000)), wanted=Wanted(max_payload_bytes=10_000)),
        judged(facts(losses=[SessionLoss(NOW - 49 * HOUR, NOW - 25 * HOUR)])),
        judged(heard=Heard(qos0=NOW - 2 * HOUR, qos1=NOW)),
        judged(wanted=Wanted(silent_after=60 * SECOND)),
    ],
)
def test_what_is_well_or_long_ago_is_no_caveat(found: Guarantee):
    assert (found.level, found.caveats) == ("G2", ())


def test_with_mqtt_3_only_the_broker_knows_when_the_session_ends():
    assert judged(facts(away_since=NOW - 100 * HOUR), protocol="3.1.1").level == "G2"


def test_a_stream_is_silent_after_twice_its_longest_gap_and_never_while_we_are_away():
    wanted = Wanted(silent_after=10 * SECOND)
    long_ago = facts(connected_since=0)
    slow = Heard(qos1=NOW - 30 * SECOND, longest_gap=15 * SECOND)
    assert not judged(long_ago, slow, wanted).silent
    assert judged(long_ago, Heard(qos1=NOW - 31 * SECOND, longest_gap=15 * SECOND), wanted).silent
    assert not judged(facts(away_since=NOW - HOUR), Heard(qos1=1), wanted).silent
    assert not judged(long_ago, Heard(qos1=1), Wanted()).silent


def test_a_step_down_is_told_once_and_the_way_up_too(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "tocsin.ingest")
    watched = Guarantees(config(), ["t/#"], {}, now=NOW - HOUR)
    watched.update(facts(granted={}), {})
    watched.update(facts(), {})
    assert caplog.messages == [], "coming up is what everyone expects"
    for second in range(3):
        watched.update(facts(granted={"t/#": 0}, now=NOW + second * SECOND), {})
    [line] = caplog.messages
    assert line.startswith("t/#: only G0 now (from tocsin's socket on): the broker granted only QoS 0 for 't/#'")
    assert watched.current[0].since == NOW, "the first of them"
    watched.update(facts(granted={"t/#": 0}, away_since=NOW), {})
    assert len(caplog.messages) == 1, "the session tells by itself that the connection is lost"
    watched.update(facts(), {})
    assert caplog.messages[1:] == ["t/#: G2 again (in the journal before it is acknowledged)"]


def test_what_begins_low_is_told_once(caplog: pytest.LogCaptureFixture):
    watched = Guarantees(config(), ["t/#", "u"], {}, now=NOW)
    for _ in range(2):
        watched.update(facts(granted={"t/#": 0x87, "u": 0}), {})
    assert [line.split(": the broker")[0] for line in caplog.messages] == [
        "t/#: nothing arrives",
        "u: only G0 now (from tocsin's socket on)",
    ]


def test_silence_is_told_once(caplog: pytest.LogCaptureFixture):
    watched = Guarantees(config(), ["t/#"], {"t/#": Wanted(silent_after=SECOND)}, now=NOW)
    for _ in range(2):
        watched.update(facts(), {"t/#": Heard()})
    [line] = caplog.messages
    assert line.startswith("t/#: connected, but no message since")
    watched.update(facts(), {"t/#": Heard(qos1=NOW)})
    watched.update(facts(), {"t/#": Heard()})
    assert len(caplog.messages) == 2


def said(topic: str, qos: int, received: int, *, retain: bool = False) -> Arrivals:
    return Arrivals.of(Message(topic, b"", qos, retain, received=received), 1)


def test_of_messages_that_came_together_each_counts_as_what_it_is():
    traffic, together = Traffic(["a", "b", "c"]), Arrivals(1, 10)
    for topic, qos, retained in (("a", 0, False), ("b", 1, False), ("a", 1, False), ("c", 1, True)):
        one = said(topic, qos, 10, retain=retained)
        together.topics += one.topics
        together.payloads += one.payloads
        together.flags += one.flags
        together.mids += one.mids

    traffic.note(together)

    assert traffic.heard == {"a": Heard(10, 10, 0), "b": Heard(0, 10, 0), "c": Heard()}


def test_traffic_counts_for_every_filter_that_matches():
    traffic = Traffic(["a/#", "a/+/c", "+/b/c"])
    traffic.note(said("a/b/c", 1, 10))
    traffic.note(said("a", 0, 20))
    traffic.note(said("a/b/c", 1, 50))
    traffic.note(said("z", 0, 60))
    assert traffic.heard == {"a/#": Heard(20, 50, 30), "a/+/c": Heard(0, 50, 40), "+/b/c": Heard(0, 50, 40)}
