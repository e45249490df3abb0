"""Laws of small files that are replaced: after a loss of power or damage there is an older state, never another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry import Cursor
from tests.power_loss import Disk, EndError
from tests.tocsin.evaluation_rig import Rig, until
from tocsin import evaluation
from tocsin.snapshot_file import Snapshots, snapshot_offsets, state_before

END = 2**60


def state(offset: int) -> dict[str, np.ndarray]:
    return {"feed.offset": np.array([offset]), "engine.x": np.arange(offset % 50)}


def saved(directory: Path, *offsets: int, rules: str = "r") -> Snapshots:
    snapshots = Snapshots(directory, rules=rules)
    for offset in offsets:
        snapshots.save(offset, state(offset))
    return snapshots


def loaded(directory: Path, *, rules: str = "r", end: int = END) -> int | None:
    """The offset of what is loaded, whole."""
    arrays = Snapshots(directory, rules=rules).load(end=end)
    if arrays is None:
        return None
    offset = int(arrays["feed.offset"][0])
    assert {name: array.tolist() for name, array in arrays.items()} == {
        name: array.tolist() for name, array in state(offset).items()
    }
    return offset


def test_the_last_two_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, rules="r")
    needed = []
    for offset in (5, 9, 9, 20):
        snapshots.save(offset, state(offset))
        needed.append(snapshots.needed)
    assert needed == [0, 5, 5, 9]
    assert snapshot_offsets(tmp_path) == [9, 20]
    assert loaded(tmp_path) == 20


def test_one_that_is_written_twice_needs_no_second(tmp_path: Path) -> None:
    """With a journal that is full nothing comes any more; the only snapshot must not keep all of it for ever."""
    snapshots = Snapshots(tmp_path, rules="r")
    snapshots.save(10, {"a": np.arange(3)})
    assert snapshots.needed == 0
    snapshots.save(10, {"a": np.arange(3)})
    assert snapshots.needed == 10
    snapshots.save(20, {"a": np.arange(3)})
    assert snapshots.needed == 10


def test_after_a_restart_the_journal_is_kept_for_the_older_one(tmp_path: Path) -> None:
    saved(tmp_path, 5, 9, 20)
    snapshots = Snapshots(tmp_path, rules="r")
    assert snapshots.needed == 0
    assert snapshots.load(end=END) is not None
    assert snapshots.needed == 9


def test_those_beyond_the_end_of_the_journal_are_passed_over_and_go(tmp_path: Path) -> None:
    saved(tmp_path, 5, 900)
    assert loaded(tmp_path, end=10) == 5
    snapshots = Snapshots(tmp_path, rules="r")
    snapshots.load(end=10)
    snapshots.save(12, state(12))
    assert snapshot_offsets(tmp_path) == [5, 12]
    assert loaded(tmp_path, end=END) == 12


def test_who_only_looks_gets_the_newest_whole_state_before_an_offset_of_whatever_rules(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20)

    def offset(before: int) -> int | None:
        arrays = state_before(tmp_path, before)
        return None if arrays is None else int(arrays["feed.offset"][0])

    assert [offset(before) for before in (9, 10, 19, 20, END)] == [None, 10, 10, 20, 20]
    path = tmp_path / f"{20:020d}.snapshot"
    path.write_bytes(path.read_bytes()[:-1])
    assert offset(END) == 10


def test_those_of_other_rules_are_of_no_use_and_go(tmp_path: Path) -> None:
    saved(tmp_path, 5, 9)
    assert loaded(tmp_path, rules="others") is None
    saved(tmp_path, 12, rules="others")
    assert snapshot_offsets(tmp_path) == [12]


def test_damage_to_any_byte_leaves_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved(tmp_path, 5, 9)
    newest = max(tmp_path.iterdir())
    whole, random = newest.read_bytes(), Random(1)
    for at in range(len(whole)):
        newest.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << random.randrange(8)]) + whole[at + 1 :])
        assert loaded(tmp_path) == 5
        newest.write_bytes(whole[:at])
        assert loaded(tmp_path) == 5
    assert "is damaged: taking an older one" in caplog.text
    newest.write_bytes(whole)
    assert loaded(tmp_path) == 9
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    assert loaded(tmp_path) is None


def test_damage_to_any_byte_of_a_cursor_never_skips_anything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.json"
    Cursor(path).save(123_456)
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            assert Cursor(path).offset in (0, 123_456)
        path.write_bytes(whole[:at])
        assert Cursor(path).offset == 0
    assert "c.json is damaged: going through the journal again from its start" in caplog.text


def through_power_losses(directory: Path, script: list[int], seed: int, save: Callable[[Path, int], None]) -> None:
    """Saves 1, 2, 3 …; the power goes at each of the calls that `script` names, counted from the one before.

    `save` may raise if it does not find the last one that was saved, or that was being saved when the power went.
    """
    random = Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        place = directory / "0"
        place.mkdir()
        disk, n = Disk(place, patch), 0
        for boot, calls in enumerate(script, 1):
            disk.cut_at = disk.calls + calls
            try:
                while True:
                    n += 1
                    save(disk.root, n)
            except EndError:
                disk.end_process()
                place = directory / str(boot)
                disk.lose_power(random, place)
                disk = Disk(place, patch)


calls = st.lists(st.integers(1, 25), max_size=6)


@settings(max_examples=40, deadline=None)
@given(calls, st.integers(0, 2**32))
def test_a_snapshot_that_was_saved_survives_any_loss_of_power(
    tmp_path_factory: pytest.TempPathFactory, script: list[int], seed: int
) -> None:
    done = [0]

    def save(directory: Path, n: int) -> None:
        found = loaded(directory) or 0
        assert found in (done[0], n - 1)
        done[0] = found
        saved_now = Snapshots(directory, rules="r")
        saved_now.load(end=END)
        saved_now.save(n, state(n))
        done[0] = n

    through_power_losses(tmp_path_factory.mktemp("disk"), script, seed, save)


@settings(max_examples=40, deadline=None)
@given(calls, st.integers(0, 2**32))
def test_a_cursor_that_was_saved_survives_any_loss_of_power(
    tmp_path_factory: pytest.TempPathFactory, script: list[int], seed: int
) -> None:
    done = [0]

    def save(directory: Path, n: int) -> None:
        cursor = Cursor(directory / "c.json")
        assert cursor.offset in (done[0], n - 1)
        done[0] = cursor.offset
        cursor.save(n)
        done[0] = n

    through_power_losses(tmp_path_factory.mktemp("disk"), script, seed, save)


RULES = [{"alert": "Hot", "expr": "temperature > 50", "for": "2s"}]


@pytest.mark.parametrize("damaged", [0, 1, 2])
def test_evaluation_goes_on_from_the_newest_snapshot_that_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: int
) -> None:
    monkeypatch.setattr(evaluation, "_RETRY_SECONDS", 0.02)
    clock = None
    for values in ((60,), (60, 60)):
        rig = Rig(tmp_path, RULES, clock=clock)
        rig.cursor.full, clock = False, rig.clock
        for value in values:
            rig.receive(value)
        until(lambda rig=rig: rig.feed.offset == rig.journal.end)
        rig.stop()
    assert snapshot_offsets(rig.data.snapshots) == [1, 3]
    for path in sorted(rig.data.snapshots.iterdir(), reverse=True)[:damaged]:
        path.write_bytes(b"damaged")

    rig = Rig(tmp_path, RULES, clock=clock, start=False)
    assert rig.feed.offset == (3, 1, 0)[damaged]
    assert rig.evaluation.snapshot_offset == (1, 0, 0)[damaged]
    rig.cursor.full = False
    rig.evaluation.start()
    rig.receive(40)
    until(lambda: [line.split()[0] for line in rig.published] == ["firing", "resolved"])
    rig.stop()
