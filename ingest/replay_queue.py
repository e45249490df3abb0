"""Which dead letters are to go through once more, and what became of each; kept in the file of the dead letters.

Any process may ask for a replay; the one that writes the journal does it. Messages are appended to the journal again,
as they were received first, and a letter is deleted only when that is durable. Not here: who drives it, and what takes
the points that a sink has refused (`tocsin.replay`).

A crash between journal and deletion is settled at the next start by looking into the journal: each letter notes, before
it is appended, from which offset on it will be found there. So none is lost, and none is appended twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Protocol

from ingest.block import DUP, QOS_SHIFT, REPLAYED, RETAIN, SAMPLES, Records
from ingest.dead_letters import COLUMNS, Connection, DeadLetter, DeadLetters, Selection, storable
from telemetry import Message
from telemetry.crash_points import reached

_MAX_MESSAGES = 200
_MAX_BYTES = 4 << 20
_MAX_OUTCOMES = 100_000
_QOS = 3


class Log(Protocol):
    """What the queue needs of the journal."""

    @property
    def end(self) -> int: ...
    def read(self, offset: int, limit: int = ..., /) -> Records: ...
    def append_replayed(self, messages: Sequence[Message], *, samples: bool) -> int: ...


class State(StrEnum):
    """What became of a letter that was replayed."""

    APPENDED = "appended"
    """It is in the journal again, and not decoded yet."""
    DECODED = "decoded"
    WRITTEN = "written"
    """The sink has taken the point."""
    REFUSED = "refused"
    """It is a dead letter again, or still."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one letter."""

    letter: int
    state: State
    offset: int
    """Where it is in the journal by now; 0 if it was not appended."""
    reason: str = ""
    detail: str = ""
    again: int = 0
    """The dead letter that it is now, if it was refused."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a replay stands."""

    waiting: Mapping[str, int]
    """Letters not tried yet, by sink; those of no sink are messages."""
    states: Mapping[State, int]

    @property
    def is_done(self) -> bool:
        return not self.waiting and not self.states.get(State.APPENDED)


@dataclass(frozen=True, slots=True)
class Appended:
    """What was written to the journal."""

    messages: int
    samples: int
    """Records of recorded samples."""


class ReplayQueue:
    """For any thread. All methods raise RetryLater when the file cannot be written, and have done nothing then."""

    def __init__(self, letters: DeadLetters) -> None:
        self._letters = letters

    # --- for those who ask ---

    def request(self, selection: Selection, *, now: int) -> tuple[int, int]:
        """Asks for a replay, durably; `now` by our clock, ns. Returns its id, and how many letters it has.

        A message is decoded as a whole, so all its letters come along. Letters that come later are not meant.
        """
        where, values = selection.where()
        with self._letters.transaction() as db:
            id_ = db.execute("INSERT INTO replays (requested) VALUES (?)", (now,)).lastrowid
            db.execute(f"UPDATE dead_letters SET replay = ? WHERE {where}", (id_, *values))  # noqa: S608  # ours
            db.execute(
                "UPDATE dead_letters SET replay = ?1 WHERE sink = '' AND (received, offset) IN "
                "(SELECT received, offset FROM dead_letters WHERE replay = ?1 AND sink = '')",
                (id_,),
            )
            [[letters]] = db.execute("SELECT count(*) FROM dead_letters WHERE replay = ?", (id_,)).fetchall()
            db.execute(
                "DELETE FROM outcomes WHERE state != ? AND replay <= (SELECT replay FROM outcomes "
                "ORDER BY replay DESC LIMIT 1 OFFSET ?)",
                (State.APPENDED, _MAX_OUTCOMES),
            )
        return int(id_ or 0), int(letters)

    def progress(self, replay: int) -> Progress:
        waiting = self._letters.rows("SELECT sink, count(*) FROM dead_letters WHERE replay = ? GROUP BY sink", replay)
        states = self._letters.rows("SELECT state, count(*) FROM outcomes WHERE replay = ? GROUP BY state", replay)
        return Progress(dict(waiting), {State(state): n for state, n in states})

    def outcomes(self, replay: int) -> Sequence[Outcome]:
        """By letter."""
        query = "SELECT letter, state, offset, reason, detail, again FROM outcomes WHERE replay = ? ORDER BY letter"
        return [Outcome(letter, State(state), *rest) for letter, state, *rest in self._letters.rows(query, replay)]

    # --- for the writer of the journal ---

    def append(self, log: Log) -> Appended | None:
        """Writes the next messages to the journal, the oldest first; None when no more are asked for.

        Raises JournalError, too; then these are tried again by the next call.
        """
        with self._letters.held():  # a letter that is refused again must find its place free
            self.settle(log)
            chunk = self._next_messages()
            if not chunk:
                return None
            chunk, messages = self._whole(chunk, log)
            if not messages:
                return Appended(0, 0)
            samples = bool(chunk[0][0].flags & SAMPLES)
            ids = [letter.id for letter in chain.from_iterable(chunk)]
            with self._letters.transaction() as db:
                db.executemany("UPDATE dead_letters SET tried_from = ? WHERE id = ?", [(log.end, id_) for id_ in ids])
            first = log.append_replayed(messages, samples=samples)
            reached("dead_letter.replayed")
            with self._letters.transaction() as db:
                for i, letters in enumerate(chunk):
                    _appended(db, letters, first + i)
            return Appended(0, len(messages)) if samples else Appended(len(messages), 0)

    def settle(self, log: Log) -> None:
        """Finds out what an `append` that was interrupted has done. Raises JournalError, too."""
        query = f"SELECT {COLUMNS} FROM dead_letters WHERE tried_from IS NOT NULL ORDER BY received, offset, id"  # noqa: S608  # ours
        tried = list(_by_message(DeadLetter(*row) for row in self._letters.rows(query)))
        if not tried:
            return
        [[since]] = self._letters.rows("SELECT min(tried_from) FROM dead_letters")
        found = _replayed(log, int(since))
        with self._letters.transaction() as db:
            for letters in tried:
                message = _message(letters[0], log)
                places = found.get(_key(message, letters[0].flags)) if message else None
                if places:
                    _appended(db, letters, places.pop(0))
                else:
                    db.executemany("UPDATE dead_letters SET tried_from = NULL WHERE id = ?", [(x.id,) for x in letters])

    def judge(self, decoded_to: int) -> bool:
        """Notes what became of the messages that were decoded: all before that offset. Whether all are known by now."""
        query = "SELECT letter, offset FROM outcomes WHERE state = 'appended' AND offset < ?"
        decoded = self._letters.rows(query, decoded_to)
        if decoded:
            with self._letters.transaction() as db:
                for letter, offset in decoded:
                    query = (
                        "SELECT reason, detail, id FROM dead_letters "
                        "WHERE offset = ? AND id > ? AND sink = '' ORDER BY id LIMIT 1"
                    )
                    refused = db.execute(query, (offset, letter)).fetchone()
                    state = State.REFUSED if refused else State.DECODED
                    db.execute(
                        "UPDATE outcomes SET state = ?, reason = ?, detail = ?, again = ? WHERE letter = ?",
                        (state, *(refused or ("", "", 0)), letter),
                    )
        return not self._letters.rows("SELECT 1 FROM outcomes WHERE state = 'appended' LIMIT 1")

    def sinks(self) -> Sequence[str]:
        """Those that have points to be tried again."""
        return [
            name
            for (name,) in self._letters.rows("SELECT DISTINCT sink FROM dead_letters WHERE replay > 0 AND sink != ''")
        ]

    def points(self, sink: str, *, limit: int = 5_000) -> Sequence[DeadLetter]:
        """The next points that the sink is to be given, the oldest first."""
        query = (
            f"SELECT {COLUMNS} FROM dead_letters WHERE replay > 0 AND sink = ? "  # noqa: S608  # ours
            "ORDER BY received, offset, id LIMIT ?"
        )
        return [DeadLetter(*row) for row in self._letters.rows(query, sink, limit)]

    def written(self, letters: Iterable[int]) -> None:
        """The sink has taken these points."""
        with self._letters.transaction() as db:
            for id_ in letters:
                db.execute(_OUTCOME, (State.WRITTEN, 0, "", "", 0, id_))
                db.execute("DELETE FROM dead_letters WHERE id = ?", (id_,))

    def refused(self, letters: Mapping[int, str], reason: str = "") -> None:
        """These stay as they are, with what is wrong with each; `reason` where it is another one than before."""
        with self._letters.transaction() as db:
            for id_, detail in letters.items():
                _refused(db, id_, reason, detail)
                if not reason:
                    db.execute("UPDATE dead_letters SET detail = ? WHERE id = ?", (storable(detail), id_))

    def _next_messages(self) -> list[list[DeadLetter]]:
        """The letters of each of the next messages, which are all of a kind."""
        query = (
            f"SELECT {COLUMNS} FROM dead_letters WHERE replay > 0 AND sink = '' ORDER BY received, offset, id LIMIT ?"  # noqa: S608  # ours
        )
        rows = self._letters.rows(query, _MAX_MESSAGES + 1)
        messages = list(_by_message(DeadLetter(*row) for row in rows))
        if len(rows) > _MAX_MESSAGES and len(messages) > 1:
            messages.pop()  # it may have more letters
        size = 0
        chunk: list[list[DeadLetter]] = []
        for letters in messages:
            size += letters[0].size
            if chunk and (size > _MAX_BYTES or (letters[0].flags ^ chunk[0][0].flags) & SAMPLES):
                break
            chunk.append(letters)
        return chunk

    def _whole(self, chunk: list[list[DeadLetter]], log: Log) -> tuple[list[list[DeadLetter]], list[Message]]:
        """Without those of which only a part was kept and the journal has no more either: they stay dead letters."""
        whole, messages = [], []
        for letters in chunk:
            message = _message(letters[0], log)
            if message is not None:
                whole.append(letters)
                messages.append(message)
                continue
            detail = (
                f"only {len(letters[0].payload):,} of its {letters[0].size:,} bytes were kept, and the journal has "
                "it no more: it cannot be replayed"
            )
            self.refused({letter.id: detail for letter in letters}, "incomplete")
        return whole, messages


_OUTCOME = (
    "INSERT OR REPLACE INTO outcomes (letter, replay, state, offset, reason, detail, again) "
    "SELECT id, replay, ?, ?, ?, ?, ? FROM dead_letters WHERE id = ?"
)


def _appended(db: Connection, letters: Sequence[DeadLetter], offset: int) -> None:
    for letter in letters:
        db.execute(_OUTCOME, (State.APPENDED, offset, "", "", 0, letter.id))
        db.execute("DELETE FROM dead_letters WHERE id = ?", (letter.id,))


def _refused(db: Connection, id_: int, reason: str, detail: str) -> None:
    [found] = db.execute("SELECT reason FROM dead_letters WHERE id = ?", (id_,)).fetchall() or [("",)]
    db.execute(_OUTCOME, (State.REFUSED, 0, reason or found[0], storable(detail), id_, id_))
    db.execute("UPDATE dead_letters SET replay = 0, tried_from = NULL WHERE id = ?", (id_,))


def _by_message(letters: Iterable[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """The letters of each message, which stand together."""
    group: list[DeadLetter] = []
    for letter in letters:
        if group and (letter.received, letter.offset) != (group[0].received, group[0].offset):
            yield group
            group = []
        group.append(letter)
    if group:
        yield group


def _message(letter: DeadLetter, log: Log) -> Message | None:
    """The message as it was received, if it is known whole."""
    payload: bytes | None = letter.payload
    if letter.size > len(letter.payload):
        payload = _kept(log.read(letter.offset, 1), letter)
    if payload is None:
        return None
    flags = letter.flags
    return Message(
        letter.topic,
        payload,
        qos=flags >> QOS_SHIFT & _QOS,
        retain=bool(flags & RETAIN),
        dup=bool(flags & DUP),
        received=letter.received,
    )


def _kept(records: Records, letter: DeadLetter) -> bytes | None:
    """The payload of the letter's record, if it is that."""
    if not len(records) or records.first != letter.offset or int(records.received[0]) != letter.received:
        return None
    payload = records.payloads[0]
    return payload if len(payload) == letter.size and payload.startswith(letter.payload) else None


def _key(message: Message, flags: int) -> tuple[int, int, str, bytes]:
    return message.received, flags, message.topic, message.payload


def _replayed(log: Log, offset: int) -> dict[tuple[int, int, str, bytes], list[int]]:
    """Where the journal has replayed messages from that offset on."""
    found: defaultdict[tuple[int, int, str, bytes], list[int]] = defaultdict(list)
    while offset < log.end:
        records = log.read(offset)
        for i, flags in enumerate(records.flags.tolist()):
            if flags & REPLAYED:
                key = int(records.received[i]), flags & ~REPLAYED, records.topics[i], records.payloads[i]
                found[key].append(records.first + i)
        offset = max(records.next, offset + 1)
    return found
