"""Laws of the embedded store, against a dict; what processes do to each other is in test_store_processes.py."""

import math
import random
import struct
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sinks.compaction import Layout
from sinks.store import Store
from sinks.store_blocks import BLOCKS_OF_ONE
from telemetry import TocsinError

TINY = Layout(block_rows=8, hot_rows=20, hot_entries=6, max_log_rows=60, fan=2, max_run_rows=150, rows_per_summary=1)
MEMORY = Path("/dev/shm")  # noqa: S108  # a thousand fsyncs prove nothing more
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

series_ids = st.integers(0, 6) | st.sampled_from([-(1 << 31), (1 << 31) - 1])
times = st.integers(-15, 15) | st.sampled_from([INT64_MIN, INT64_MIN + 1, INT64_MAX - 1, INT64_MAX])
values = st.floats() | st.integers(-99, 99).map(lambda n: n / 10) | st.just(-0.0)
readings = st.lists(st.tuples(series_ids, times, values), max_size=30)


def append(store: Store, rows: list[tuple[int, int, float]]) -> None:
    series, time, value = zip(*rows, strict=True) if rows else ((), (), ())
    store.append(np.array(series, np.int32), np.array(time, np.int64), np.array(value, np.float64))


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def settle(store: Store) -> None:
    while store.compact(flush=True):
        pass


class Model(RuleBasedStateMachine):
    """Any order of appends, compactions, retention and reopening looks like a dict."""

    @initialize()
    def begin(self):
        self.directory = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.exists() else None)
        self.path = Path(self.directory.name) / "store.db"
        self.store = Store(self.path, layout=TINY)
        self.viewer = Store(self.path, read_only=True)
        self.truth: dict[tuple[int, int], float] = {}
        self.horizon = INT64_MIN

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            self.viewer.close()
            self.directory.cleanup()

    @rule(rows=readings)
    def append(self, rows):
        append(self.store, rows)
        self.truth.update({(s, t): v for s, t, v in rows if t >= self.horizon})

    @rule(flush=st.booleans())
    def compact(self, flush):
        self.store.compact(flush=flush)

    @rule()
    def compact_everything(self):
        settle(self.store)
        assert self.store.stats().log_rows == 0

    @rule(since=st.integers(-12, 12))
    def retain(self, since):
        self.horizon = max(self.horizon, since)
        self.store.retain(self.horizon)
        self.truth = {(s, t): v for (s, t), v in self.truth.items() if t >= since}

    @rule()
    def reopen(self):
        self.store.close()
        self.store = Store(self.path, layout=TINY)

    @rule(series=series_ids, span=st.tuples(times, times | st.just(INT64_MAX + 1)), reader=st.booleans())
    def read(self, series, span, reader):
        time, value = (self.viewer if reader else self.store).read(series, *span)
        expected = sorted((t, v) for (s, t), v in self.truth.items() if s == series and span[0] <= t < span[1])
        assert time.tolist() == [t for t, _ in expected]
        assert [*map(bits, value.tolist())] == [bits(v) for _, v in expected]

    @rule(ids=st.lists(series_ids, max_size=12), span=st.tuples(times, times))
    def read_many(self, ids, span):
        got = self.store.read_many([*ids, *range(9)], *span)  # more than the few that are looked up one by one
        assert set(got) == {*ids, *range(9)}
        for series, (time, value) in got.items():
            alone = self.store.read(series, *span)
            assert time.tolist() == alone[0].tolist()
            assert value.tobytes() == alone[1].tobytes()
        assert self.viewer.most_rows(ids, *span) >= sum(len(got[series][0]) for series in set(ids))

    @rule(ids=st.lists(series_ids, max_size=5))
    def latest(self, ids):
        time, value = self.viewer.latest(ids)
        for series, t, v in zip(ids, time.tolist(), value.tolist(), strict=True):
            own = [(at, x) for (s, at), x in self.truth.items() if s == series]
            expected_t, expected_v = max(own, key=lambda row: row[0], default=(0, math.nan))
            assert t == expected_t
            assert bits(v) == bits(expected_v) or not own

    @invariant()
    def counts_and_spans_agree(self):
        if hasattr(self, "truth"):
            assert self.store.count() == self.viewer.count() == len(self.truth)
            at = [t for _, t in self.truth]
            assert self.store.span() == self.viewer.span() == ((min(at), max(at)) if at else None)


TestModel = Model.TestCase
TestModel.pytestmark = [pytest.mark.slow]
TestModel.settings = settings(max_examples=60, stateful_step_count=30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store.db"


def test_how_many_rows_there_may_be_is_told_nearly(path: Path):
    with Store(path, layout=TINY) as store:
        append(store, [(s, t, 0.0) for s in range(20) for t in range(50)])
        settle(store)
        append(store, [(s, 50, 0.0) for s in range(20)])

        assert 51 <= store.most_rows([7], 0, 100) <= 51 + 2 * TINY.block_rows
        assert 102 <= store.most_rows([3, 17, 3], 0, 100) <= 102 + 4 * TINY.block_rows
        assert 10 <= store.most_rows([7], 20, 30) <= 11 + 2 * TINY.block_rows
        assert store.most_rows([], 0, 100) == store.most_rows([7], 5, 5) == store.most_rows([99], 0, 100) == 0


def test_after_compaction_every_row_is_kept_once(path: Path):
    with Store(path, layout=TINY) as store:
        for i in range(50):
            append(store, [(s, i, i + s / 10) for s in range(10)])
        settle(store)

        stats = store.stats()
        assert (stats.rows, stats.log_rows, store.count()) == (500, 0, 500)
        assert stats.runs < 10
        assert stats.bytes > 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.slow
def test_the_last_written_wins_across_log_and_runs_of_any_level(path: Path, seed: int):
    rng = random.Random(seed)
    with Store(path, layout=TINY) as store:
        for i in range(60):
            append(store, [(1, 5, float(i)), (rng.randrange(2, 9), rng.randrange(100), 0.0)])
            if rng.random() < 0.5:
                store.compact(flush=rng.random() < 0.5)

            assert store.read(1, 5, 6)[1].tolist() == [float(i)]
            assert store.read_many(range(20), 5, 6)[1][1].tolist() == [float(i)]
            assert store.latest([1])[1].tolist() == [float(i)]


def test_a_long_series_amid_short_ones_is_read_whole(path: Path):
    rows = [(1, 0, 1.0), *((2, t, float(t)) for t in range(100)), (3, 0, 3.0), (4, 0, 4.0)]
    with Store(path, layout=TINY) as store:
        append(store, rows)
        settle(store)

        assert store.stats().blocks > 10
        for series in range(6):
            expected = [t for s, t, _ in rows if s == series]
            assert store.read(series)[0].tolist() == expected
            assert store.read(series, 40, 60)[0].tolist() == [t for t in expected if 40 <= t < 60]


def test_reading_one_series_looks_up_its_blocks_by_key(path: Path):
    with Store(path) as store, store._file.snapshot() as db:
        plan = [
            row[3] for row in db.execute("explain query plan " + BLOCKS_OF_ONE, {"series": 1, "first": 0, "last": 1})
        ]
        loops = [step for step in plan if step.startswith(("SCAN", "SEARCH"))]
        assert loops[0].startswith("SCAN r")
        assert loops[1].startswith("SEARCH b USING COVERING INDEX block_key (run=? AND s1>? AND s1<?)")


def test_retention_hides_at_once_and_gives_space_back(path: Path):
    rng = np.random.default_rng(0)
    n = 20_000
    layout = Layout(block_rows=512, hot_rows=1000, fan=4)
    with Store(path, layout=layout) as store:
        for day in range(10):
            series = np.repeat(np.arange(10, dtype=np.int32), n // 10)
            store.append(series, day * n + np.tile(np.arange(n // 10), 10), rng.random(n))
            settle(store)
    full = path.stat().st_size

    with Store(path, layout=layout) as store:
        store.retain(8 * n + 1)

        assert store.read(3)[0][0] == 8 * n + 1
        assert store.span() == (8 * n + 1, 9 * n + n // 10 - 1)
        assert store.count() == 2 * n - 10
        assert store.stats().rows < 5 * n
    assert path.stat().st_size < full / 2


def test_an_overwritten_reading_never_comes_back_through_retention(path: Path):
    with Store(path, layout=TINY) as store:
        append(store, [(1, 5, 1.0), (1, 100, 0.0)])
        settle(store)
        append(store, [(1, 5, 2.0)])
        settle(store)

        store.retain(50)  # deletes the younger run, which is wholly older; the older run lives on

        assert store.read(1)[0].tolist() == [100]


def test_a_clock_that_was_wrong_once_does_not_blind_the_store_for_ever(path: Path):
    with Store(path, layout=TINY) as store:
        append(store, [(1, 5, 1.0)])
        store.retain(1_000_000)
        store.retain(0)
        append(store, [(1, 7, 2.0)])

        assert store.read(1, 7)[1].tolist() == [2.0]


def test_an_append_compacts_a_full_log_itself(path: Path):
    with Store(path, layout=TINY) as store:
        for i in range(100):
            append(store, [(s, i, 0.0) for s in range(10)])
            assert store.stats().log_rows < TINY.max_log_rows + 10
        assert store.count() == 1000


@pytest.mark.slow
def test_reads_run_beside_appends_and_compaction_and_never_see_a_part(path: Path):
    """Every append writes one time for 5 series: a reader in any thread sees all of them or none, and none twice."""
    failures: list[object] = []
    done = threading.Event()
    begun = 0
    with Store(path, layout=TINY) as store:

        def read() -> None:
            seen = 0
            while not done.is_set():
                got = store.read_many(range(5))
                lengths = {len(time) for time, _ in got.values()}
                if len(lengths) != 1 or min(lengths) < seen or store.count() < 5 * seen:
                    failures.append((lengths, seen))
                seen = min(lengths)
                kept = store.stats().rows
                if not 5 * seen <= kept <= 5 * begun:
                    failures.append((kept, seen, begun))

        def compact() -> None:
            while not done.is_set():
                store.compact(flush=True)

        threads = [threading.Thread(target=target) for target in (read, read, compact)]
        for thread in threads:
            thread.start()
        for i in range(150):
            begun += 1
            append(store, [(s, i, 0.0) for s in range(5)])
        done.set()
        for thread in threads:
            thread.join()

        assert failures == []
        assert store.count() == 750


def test_a_purge_in_the_middle_of_a_compaction_spares_its_run(path: Path):
    with Store(path, layout=TINY) as store:
        compactor = store._compactor
        assert compactor
        insert = compactor._insert

        def insert_and_retain(*rows):
            insert(*rows)
            store.retain(INT64_MIN)

        compactor._insert = insert_and_retain  # type: ignore[method-assign]
        append(store, [(s, 1, 0.0) for s in range(100)])
        settle(store)

        assert store.count() == store.stats().rows == 100


def test_a_purge_spares_a_run_that_is_finished_while_it_looks(path: Path):
    with Store(path, layout=TINY) as store:
        compactor = store._compactor
        assert compactor
        append(store, [(s, 1, 0.0) for s in range(100)])
        begun, go_on = threading.Event(), threading.Event()
        insert, hidden = compactor._insert, compactor._hidden

        def insert_when_told(*rows):
            begun.set()
            assert go_on.wait(10)
            insert(*rows)

        compactor._insert = insert_when_told  # type: ignore[method-assign]
        flush = threading.Thread(target=compactor.flush)
        flush.start()
        assert begun.wait(10)

        def hidden_before_it_is_finished():
            found = hidden()
            go_on.set()
            flush.join()
            return found

        compactor._hidden = hidden_before_it_is_finished  # type: ignore[method-assign]
        store.retain(INT64_MIN)

        assert store.count() == store.stats().rows == 100


def test_closing_stops_a_compaction_and_loses_nothing(path: Path):
    store = Store(path, layout=Layout(block_rows=64, hot_rows=1 << 20, fan=2))
    for i in range(4):
        append(store, [(s, i * 1000 + t, 0.0) for s in range(20) for t in range(200)])
        store.compact(flush=True) if i % 2 else None
    worker = threading.Thread(target=settle, args=(store,))
    worker.start()
    store.stop_compaction()
    worker.join()
    store.close()

    with Store(path, layout=Layout(block_rows=64, fan=2)) as store:
        assert store.count() == 16_000
        settle(store)
        assert store.stats().rows == store.count() == 16_000


@pytest.mark.parametrize(
    ("series", "time", "value"),
    [
        (np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(2)),
        (np.zeros(2, np.int32), np.zeros(3, np.int64), np.zeros(2)),
        (np.zeros(2, np.int32), np.zeros(2, np.int64), np.zeros(2, np.float32)),
    ],
)
def test_columns_of_another_shape_or_type_are_refused(path: Path, series, time, value):
    with Store(path) as store, pytest.raises(ValueError, match="must be"):
        store.append(series, time, value)


def test_a_read_only_store_and_a_closed_one_refuse_to_write(path: Path):
    store = Store(path)
    with Store(path, read_only=True) as viewer:
        with pytest.raises(ValueError, match="read-only"):
            append(viewer, [(1, 1, 1.0)])
        with pytest.raises(ValueError, match="read-only"):
            viewer.compact()
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        append(store, [(1, 1, 1.0)])
    with pytest.raises(ValueError, match="closed"):
        store.read(1)


def test_a_store_of_a_newer_format_is_refused_with_what_to_do(path: Path):
    with Store(path) as store, store._file.write() as db:
        db.execute("pragma user_version = 99")

    with pytest.raises(TocsinError, match=r"format 99.*update tocsin"):
        Store(path)
    with pytest.raises(TocsinError, match=r"format 99.*update tocsin"):
        Store(path, read_only=True)
