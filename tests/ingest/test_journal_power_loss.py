"""The law of power loss: what was committed is there, in order; of the rest whole blocks or nothing; none invented."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import block
from ingest.config import JournalConfig
from ingest.journal import Journal, JournalError
from telemetry import Message
from tests.power_loss import Disk, EndError

SMALL = JournalConfig(segment_bytes=4096, retention_bytes=0)
PER_BLOCK = 3
Row = tuple[int, str, bytes]
Step = tuple[str, int, int]

steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 8), st.integers(0, 700)),
        st.tuples(st.just("tick"), st.just(0), st.just(0)),
        st.tuples(st.just("fail"), st.integers(1, 8), st.integers(0, 700)),
        st.tuples(st.just("trim"), st.integers(0, 100), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
        st.tuples(st.sampled_from(["power loss in", "kill in"]), st.integers(1, 12), st.just(0)),
    ),
    max_size=30,
)


class Machine:
    """A journal in a process that is killed, on a machine that loses power; what must be in it, and what may."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch, random: Random) -> None:
        self._directory, self._patch, self._random = directory, patch, random
        self._boots = 0
        self._end_is_power_loss = True
        self.committed: dict[int, Row] = {}
        """What was ever committed or seen, by offset."""
        self.next = 0
        """Behind all that was ever committed or seen."""
        self.kept_from = 0
        self.tried: list[dict[int, Row]] = []
        """Blocks since the last start that were not committed."""
        self.disk = Disk(directory, patch)
        self.journal = Journal(directory / "journal", config=SMALL)

    def do(self, what: str, n: int, size: int) -> None:
        match what:
            case "append":
                self.append(n, size)
            case "tick":
                self.tried.append({self.next: (0, "", b"")})
                assert self.journal.append_tick(0) == self.next
                self.commit(1)
            case "fail":
                self.disk.cut_at = None
                self.disk.failing_syncs = 1
                with pytest.raises(JournalError):
                    self.append(n, size)
            case "trim":
                self.kept_from = max(self.kept_from, self.next * n // 100)
                self.journal.trim(self.kept_from)
            case "reopen":
                self.journal.close()
                self.open(self.journal._directory)
            case "power loss in" | "kill in":
                self._end_is_power_loss = what == "power loss in"
                self.disk.cut_at = self.disk.calls + n

    def append(self, n: int, size: int) -> None:
        texts = [self._random.randbytes(size) for _ in range(n)]
        rows = {self.next + i: (i, f"t/{self.next + i}", text) for i, text in enumerate(texts)}
        blocks = [dict(list(rows.items())[i : i + PER_BLOCK]) for i in range(0, n, PER_BLOCK)]
        self.tried += blocks
        messages = [Message(topic, payload, received=received) for received, topic, payload in rows.values()]
        assert self.journal.append(messages) == self.next
        self.commit(len(blocks))

    def commit(self, blocks: int) -> None:
        for rows in self.tried[-blocks:]:
            self.committed |= rows
            self.next = max(rows) + 1
        del self.tried[-blocks:]

    def end(self) -> None:
        """The process ends as it stands, and with it the machine, perhaps; then all starts again."""
        self.disk.end_process()
        place = self.journal._directory
        if self._end_is_power_loss:
            self._boots += 1
            place = self._directory / str(self._boots) / "journal"
            self.disk.lose_power(self._random, place.parent)
            self.disk = Disk(place.parent, self._patch)
        self.open(place)

    def open(self, place: Path) -> None:
        """What is there is what must be, and then at most whole blocks that were tried; all of it counts as seen."""
        self.journal = Journal(place, config=SMALL)
        found = dict(self.rows())
        first = self.journal.start
        assert first <= self.kept_from
        known = {offset: row for offset, row in self.committed.items() if offset >= first}
        assert {offset: row for offset, row in found.items() if offset in known} == known
        rest = {offset: row for offset, row in found.items() if offset not in known}
        whole = [rows for rows in self.tried if rows.items() <= rest.items()]
        assert rest == {offset: row for rows in whole for offset, row in rows.items()}
        assert min(rest, default=self.next) >= self.next
        before = set(range(first, self.next)) - set(self.committed)
        lost = {offset for gap in self.journal.recovered.gaps for offset in range(gap.first, gap.next)}
        assert lost <= before | set(range(self.next, max(rest, default=0)))
        assert self.journal.recovered.records == len(found)
        self.committed |= rest
        self.tried = []
        assert self.journal.end == max(self.next, max(rest, default=-1) + 1)
        self.next = self.journal.end

    def rows(self) -> Iterator[tuple[int, Row]]:
        offset = self.journal.start
        while len(records := self.journal.read(offset, 7)):
            assert records.first >= offset
            columns = (records.received.tolist(), records.topics, records.payloads)
            yield from enumerate(zip(*columns, strict=True), records.first)
            offset = records.next


def run(directory: Path, script: list[Step], seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block, "_MOST_MESSAGES", PER_BLOCK)
        machine = Machine(directory, patch, Random(seed))
        for step in [*script, ("power loss in", 1, 0), ("append", 3, 500)]:
            try:
                machine.do(*step)
            except EndError:
                machine.end()
        machine.journal.close()


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(0, 2**32))
def test_what_was_committed_survives_any_loss_of_power_and_nothing_is_invented(
    tmp_path_factory: pytest.TempPathFactory, script: list[Step], seed: int
) -> None:
    run(tmp_path_factory.mktemp("machine"), script, seed)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["power loss in", "kill in"])
def test_an_end_at_any_system_call_of_a_life_with_many_files_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, end: str
) -> None:
    for call in range(1, 80):
        life = [(end, call, 0), *[("append", 7, 400)] * 5, ("trim", 90, 0), ("reopen", 0, 0), ("append", 4, 10)]
        run(tmp_path_factory.mktemp("machine"), life, seed=call)


def test_files_that_were_trimmed_and_come_back_leave_no_hole(tmp_path_factory: pytest.TempPathFactory) -> None:
    for seed in range(20):
        run(tmp_path_factory.mktemp("machine"), [*[("append", 7, 400)] * 6, ("trim", 100, 0)], seed)


def test_what_a_killed_process_wrote_and_the_next_one_saw_outlives_a_loss_of_power(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    life = [("append", 3, 10), ("kill in", 2, 0), ("append", 3, 10)]
    for seed in range(20):
        run(tmp_path_factory.mktemp("machine"), life, seed)
