"""The laws of a reception, in this process and in one of its own: whoever uses it cannot tell which it is."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.config import JournalConfig, MqttConfig
from ingest.guarantee import Wanted
from ingest.journal import Journal, JournalError, JournalFull
from ingest.reception import JournalSettings, Reception, SessionSettings
from ingest.remote_reception import FollowedJournal, RemoteReception
from telemetry import ConfigError, Counters, Message, SystemClock, TocsinError

NOBODY = "mqtt://127.0.0.1:1"
Opening = Callable[..., Reception | RemoteReception]
SEGMENT = 1 << 20


@pytest.fixture(params=[Reception, RemoteReception])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opening]:
    opened: list[Reception | RemoteReception] = []

    def open_(**config: object) -> Reception | RemoteReception:
        settings = JournalSettings(tmp_path / "journal", JournalConfig.model_validate(config), 0)
        made: Reception | RemoteReception = request.param(settings, clock=SystemClock(), counters=Counters())
        opened.append(made)
        return made

    yield open_
    for one in opened:
        one.close()


def _append_for_ever(journal: Journal | FollowedJournal, payload: bytes) -> None:
    for _ in range(1_000):
        journal.append_samples([payload], 1)


def session_settings(directory: Path, **mqtt: object) -> SessionSettings:
    config = MqttConfig.model_validate({"url": NOBODY, **mqtt})
    return SessionSettings(config, ("a/+",), (), {"a/+": Wanted()}, directory / "session.json")


def test_what_is_appended_is_read_back_in_order(opening: Opening) -> None:
    journal = opening().journal
    assert (journal.start, journal.end) == (0, 0)
    assert journal.append_samples([b"one", b"two"], 7) == 0
    assert journal.append_replayed([Message("t", b"three", received=8)], samples=False) == 2
    assert journal.wait(2, 10)
    assert not journal.wait(3, 0)
    records = journal.read(0)
    assert (records.payloads, records.next) == ([b"one", b"two", b"three"], 3)
    assert journal.read(1, 1).payloads == [b"two"]
    assert len(journal.read(3)) == 0
    assert journal.size > 0
    assert journal.room(1.0).free is not None


def test_nobody_else_can_write_to_it_until_it_is_closed(opening: Opening, tmp_path: Path) -> None:
    first = opening()
    with pytest.raises(TocsinError, match="another"):
        opening()
    first.close()
    Journal(tmp_path / "journal").close()


def test_a_full_journal_says_so_as_itself(opening: Opening) -> None:
    journal = opening(max_bytes=3 * SEGMENT, segment_bytes=SEGMENT, retention_bytes=SEGMENT).journal
    with pytest.raises(JournalFull, match="max_bytes"):
        _append_for_ever(journal, bytes(SEGMENT // 4))
    end = journal.end
    assert end > 0
    assert journal.trim(end) >= 0
    assert len(journal.read(end - 1)) == 1


def test_a_session_that_cannot_be_made_is_a_mistake_of_the_configuration(opening: Opening, tmp_path: Path) -> None:
    reception = opening()
    with pytest.raises(ConfigError, match="nowhere"):
        reception.open_session(session_settings(tmp_path, username="u", password_file="nowhere"))
    reception.open_session(session_settings(tmp_path))
    assert reception.session.status.state == "stopped"


def test_it_receives_from_start_to_stop_and_writes_ticks(opening: Opening, tmp_path: Path) -> None:
    reception = opening()
    reception.open_session(session_settings(tmp_path))
    reception.receiver.start()
    assert reception.journal.wait(0, 10), "the first tick"
    assert not reception.session.wait_connected(0.05)
    reception.receiver.stop()
    assert reception.receiver.status.state == "stopped"
    assert reception.receiver.waiting == 0
    end = reception.journal.end
    assert reception.journal.append_samples([b"late"], 9) == end, "what was evaluated last is still recorded"


def test_a_process_that_dies_is_told_and_everything_asked_of_it_fails_at_once(tmp_path: Path) -> None:
    settings = JournalSettings(tmp_path / "journal", JournalConfig(), 0)
    reception = RemoteReception(settings, clock=SystemClock(), counters=Counters())
    reception.journal.append_samples([b"x"], 1)
    os.kill(reception._process.pid, signal.SIGKILL)
    with pytest.raises(JournalError, match=r"has ended|does not answer"):
        _append_for_ever(reception.journal, b"y")
    reception.close()
    assert "exit code -9" in reception.failure
    assert reception.journal.read(0, 1).payloads == [b"x"], "what is on disk can still be read"
