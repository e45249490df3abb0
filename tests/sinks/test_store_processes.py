"""The embedded store against the world: other processes, kill -9, full disks, files that are no store."""

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from sinks.compaction import Layout
from sinks.store import Store
from telemetry import RetryLater, TocsinError

WRITER = """
    import sys, threading
    from pathlib import Path
    import numpy as np
    from sinks.compaction import Layout
    from sinks.store import Store

    path, start = Path(sys.argv[1]), int(sys.argv[2])
    store = Store(path, layout=Layout(block_rows=32, hot_rows=200, fan=2))

    def compact():
        while True:
            store.compact()

    threading.Thread(target=compact, daemon=True).start()
    series = np.arange(20, dtype=np.int32)
    i = start
    while True:
        store.append(series, np.full(20, i), np.full(20, i / 10))
        print(i, flush=True)
        i += 1
"""


def start_writer(path: Path, start: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(start)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill(writer: subprocess.Popen[str]) -> int:
    """Kill -9; the last acknowledged number, or -1."""
    writer.send_signal(signal.SIGKILL)
    out, _ = writer.communicate()
    complete = [line for line in out.splitlines(keepends=True) if line.endswith("\n")]
    return int(complete[-1]) if complete else -1


def one_row(store: Store, time: int = 1) -> None:
    store.append(np.array([1], np.int32), np.array([time]), np.array([0.5]))


def noise(store: Store, start: int, n: int = 4000) -> None:
    rng = np.random.default_rng(start)
    store.append(np.arange(n, dtype=np.int32) % 50, start + np.arange(n), rng.random(n))


def settle(store: Store) -> None:
    while store.compact(flush=True):
        pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.mark.slow
def test_kill_9_loses_nothing_acknowledged_and_doubles_nothing(path: Path):
    rng = random.Random(0)
    start = 0
    for _ in range(6):
        writer = start_writer(path, start)
        assert writer.stdout
        for _ in range(rng.randrange(5, 60)):
            writer.stdout.readline()
        time.sleep(rng.random() * 0.02)  # any moment between two acknowledgements
        acknowledged = kill(writer)

        with Store(path, read_only=True) as viewer:
            times = viewer.read(7)[0]
            assert times.tolist() == list(range(len(times)))
            assert len(times) - 1 in (acknowledged, acknowledged + 1) or acknowledged == -1
            assert {len(t) for t, _ in viewer.read_many(range(20)).values()} == {len(times)}
            assert viewer.count() == viewer.stats().rows == 20 * len(times)
        start = len(times)

    with Store(path, layout=Layout(block_rows=32, fan=2)) as store:
        settle(store)
        assert store.stats().rows == store.count() == 20 * start
        with store._file.snapshot() as db:
            assert db.execute("select count(*) from run where level < 0").fetchone() == (0,)
            assert db.execute("select count(*) from block where run not in (select id from run)").fetchone() == (0,)


@pytest.mark.slow
def test_another_process_reads_whole_appends_while_they_are_written(path: Path):
    writer = start_writer(path)
    assert writer.stdout
    first = int(writer.stdout.readline())
    try:
        with Store(path, read_only=True) as viewer:
            seen = []
            for _ in range(30):
                acknowledged = int(writer.stdout.readline())
                got = viewer.read_many(range(20))
                (n,) = {len(t) for t, _ in got.values()}
                assert n > acknowledged
                assert viewer.latest([3])[0][0] >= acknowledged
                seen.append(n)
    finally:
        kill(writer)
    assert seen == sorted(seen)
    assert seen[-1] > first + 1


def test_a_second_writer_is_refused_and_told_who_has_the_store(path: Path):
    writer = start_writer(path)
    assert writer.stdout
    writer.stdout.readline()
    try:
        with pytest.raises(TocsinError, match=f"in use by process {writer.pid}: stop it or choose another data_dir"):
            Store(path)
    finally:
        kill(writer)

    Store(path).close()  # the dead hold nothing


def test_a_second_writer_in_the_same_process_is_refused_too(path: Path):
    with Store(path), pytest.raises(TocsinError, match=f"in use by process {os.getpid()}"):
        Store(path)


def fill(store: Store, start: int) -> int:
    """Append until the disk is full; the number of rows written."""
    rows = 0
    while rows < 1_000_000:
        try:
            noise(store, start + rows)
        except RetryLater as error:
            assert re.search("disk of the store .* is full: free some space or shorten", str(error))  # noqa: PT017  # loop
            return rows
        rows += 4000
    pytest.fail("the disk never got full")


def test_a_full_database_is_retried_and_takes_up_again(path: Path):
    with Store(path) as store:
        noise(store, 0)
        store._file._writer.execute("pragma max_page_count = 40")
        rows = 4000 + fill(store, 4000)
        assert store.count() == rows

        store._file._writer.execute("pragma max_page_count = 1000000")
        noise(store, rows)

        assert store.count() == rows + 4000


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_space(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], check=False).returncode:
        pytest.skip("this container may not mount a file system")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(1 << 20))
        with Store(disk / "store.db", layout=Layout(hot_rows=20_000, fan=2)) as store:
            rows = fill(store, 0)
            assert store.count() == rows
            with pytest.raises(RetryLater, match="is full"):
                settle(store)
            assert store.count() == rows

            ballast.unlink()
            noise(store, rows)
            assert store.count() == rows + 4000
        with Store(disk / "store.db") as store:
            assert store.count() == rows + 4000
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_file_that_is_no_database_is_left_alone(path: Path):
    path.write_bytes(b"device,temperature\n" * 1000)
    for read_only in (False, True):
        with pytest.raises(TocsinError, match=r"is no store of tocsin or is damaged.*move it away"):
            Store(path, read_only=read_only)
    assert path.read_bytes() == b"device,temperature\n" * 1000


def test_the_database_of_another_program_is_left_alone(path: Path):
    with sqlite3.connect(path) as db:
        db.execute("create table theirs (x)")
    db.close()
    before = path.read_bytes()

    for read_only in (False, True):
        with pytest.raises(TocsinError, match="database of another program"):
            Store(path, read_only=read_only)
    assert path.read_bytes() == before


def test_damage_inside_a_store_is_one_clear_error(path: Path):
    with Store(path, layout=Layout(block_rows=500)) as store:
        noise(store, 0, 50_000)
        settle(store)
    data = bytearray(path.read_bytes())
    for at in range(5 * 16384, len(data), 50_000):
        data[at : at + 1000] = random.Random(at).randbytes(1000)
    path.write_bytes(data)

    clear = pytest.raises(TocsinError, match=r"damaged .*move it away to begin a new one, or restore")
    with Store(path, read_only=True) as store, clear as caught:
        store.read_many(range(50))
    assert not isinstance(caught.value, RetryLater)


def test_a_reader_before_the_first_writer_is_told_to_start_it(path: Path):
    with pytest.raises(TocsinError, match=r"there is no store at .* yet: start tocsin first"):
        Store(path, read_only=True)
    path.touch()
    with pytest.raises(TocsinError, match=r"there is no store at .* yet: start tocsin first"):
        Store(path, read_only=True)
    assert path.stat().st_size == 0


def test_a_directory_that_cannot_be_made_is_one_clear_error(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(TocsinError, match=r"cannot open the store .*choose another data_dir"):
        Store(tmp_path / "file" / "store.db")


@pytest.mark.slow
def test_the_write_ahead_log_stays_small_although_appends_never_pause(path: Path):
    with Store(path, layout=Layout(hot_rows=50_000, max_log_rows=200_000)) as store:
        largest = 0
        for i in range(25):
            noise(store, 50_000 * i, 50_000)  # 1 MB
            store.compact()
            largest = max(largest, Path(f"{path}-wal").stat().st_size)
        assert 4 << 20 < largest < 30 << 20
