"""Laws of what the session has lived through: a session that the broker forgot is noticed, also after a restart."""

import json
from pathlib import Path

import pytest

from ingest.arrivals import Arrivals
from ingest.config import MqttConfig
from ingest.guarantee import Announced, SessionLoss
from ingest.session_watch import SessionWatch
from telemetry import Counters, ManualClock, Message

SECOND = 10**9


class Watched:
    """A watch on a session at one broker, and the steps of its life."""

    def __init__(self, file: Path | None, clock: ManualClock, **mqtt: object) -> None:
        self.clock, self.counters = clock, Counters()
        config = MqttConfig(**({"client_id": "us", "keepalive": "10s"} | mqtt))
        self.watch = SessionWatch(config, ["t/#"], {}, file, clock=clock, counters=self.counters)

    def connect(self, *, present: bool, answered: bool = True) -> None:
        self.watch.connected(Announced(), session_present=present)
        if answered:
            self.watch.subscribed({"t/#": 1})

    @property
    def lost(self) -> int:
        return self.counters.get("ingest.sessions_lost")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "session.json"


def test_a_first_session_is_not_a_lost_one(file: Path, clock: ManualClock):
    watched = Watched(file, clock)
    watched.connect(present=False)
    assert (watched.lost, watched.watch.losses) == (0, ())


def test_a_session_that_is_forgotten_while_we_run_is_lost_since_we_last_heard(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
):
    watched = Watched(None, clock)
    watched.connect(present=False)
    clock.advance(5)
    watched.watch.messages(Arrivals.of(Message("t/a", b"", 1, received=clock.now()), 1))
    heard = clock.now()
    clock.advance(3)
    watched.watch.left()
    clock.advance(60)
    watched.connect(present=False)
    assert watched.watch.losses == (SessionLoss(heard, clock.now()),)
    assert watched.lost == 1
    [line] = caplog.messages
    assert line.startswith(
        "the broker has forgotten our session 'us': what it had not delivered by 2023-11-14T22:13:25Z,"
    )
    assert "and what came until 2023-11-14T22:14:28Z, may be lost" in line
    [guarantee] = watched.watch.guarantees
    assert "had forgotten our session" in guarantee.caveats[0]


def test_a_connection_that_lived_bounds_the_loss_by_two_keepalives(clock: ManualClock):
    watched = Watched(None, clock)
    watched.connect(present=False)
    clock.advance(3_600)
    watched.watch.left()
    watched.connect(present=False)
    assert watched.watch.losses == (SessionLoss(clock.now() - 20 * SECOND, clock.now()),)


def test_a_session_that_is_kept_is_not_lost(file: Path, clock: ManualClock):
    for _ in range(2):
        watched = Watched(file, clock)
        watched.connect(present=watched.watch._record.known is not None)
        watched.watch.left()
        watched.connect(present=True)
        assert watched.lost == 0


def test_a_session_that_is_forgotten_while_tocsin_is_stopped_is_noticed(file: Path, clock: ManualClock):
    before = Watched(file, clock)
    before.connect(present=False)
    clock.advance(1)
    before.watch.messages(Arrivals.of(Message("t/a", b"", 1, received=clock.now()), 1))
    before.watch.left()
    stopped = clock.now()
    clock.advance(100)
    after = Watched(file, clock)
    after.connect(present=False)
    assert after.lost == 1
    assert after.watch.losses == (SessionLoss(stopped, clock.now()),)
    assert Watched(file, clock).watch.losses == after.watch.losses, "it is remembered"


def test_killed_without_a_word_the_loss_is_known_to_half_a_minute(file: Path, clock: ManualClock):
    before = Watched(file, clock)
    before.connect(present=False)
    for _ in range(100):
        clock.advance(1)
        before.watch._tended = 0.0
        before.watch.tend()
    killed = clock.now()
    after = Watched(file, clock)
    after.connect(present=False)
    [loss] = after.watch.losses
    assert killed - 50 * SECOND <= loss.since <= killed


def test_a_connection_that_ends_before_the_subscription_does_not_hide_the_loss(clock: ManualClock):
    watched = Watched(None, clock)
    watched.connect(present=False)
    watched.watch.left()
    watched.connect(present=False, answered=False)
    watched.watch.left()
    assert watched.lost == 0
    watched.connect(present=True)
    assert watched.lost == 1


@pytest.mark.parametrize("mqtt", [{"client_id": "other"}, {"url": "mqtt://elsewhere:1883"}, {"session_expiry": "0s"}])
def test_another_session_cannot_be_missed(file: Path, clock: ManualClock, mqtt: dict[str, object]):
    Watched(file, clock).connect(present=False)
    watched = Watched(file, clock, **mqtt)
    watched.connect(present=False)
    assert watched.lost == 0


def test_away_for_longer_than_asked_is_told_as_such(file: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture):
    Watched(file, clock).connect(present=False)
    clock.advance(25 * 3_600)
    Watched(file, clock).connect(present=False)
    [line] = caplog.messages
    assert "since we were away for longer than mqtt.session_expiry (1d)" in line


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"broker": "localhost:1883", "client_id": "us"}', "\x00"])
def test_a_damaged_record_counts_as_none(file: Path, clock: ManualClock, text: str):
    file.write_text(text)
    watched = Watched(file, clock)
    watched.connect(present=False)
    assert watched.lost == 0
    assert json.loads(file.read_text())["client_id"] == "us"


def test_a_record_that_cannot_be_written_is_told_once_and_disturbs_nothing(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
):
    watched = Watched(tmp_path / "missing" / "session.json", clock)
    watched.connect(present=False)
    watched.watch.left()
    watched.connect(present=False)
    assert watched.lost == 1
    assert sum("cannot write" in line for line in caplog.messages) == 1
