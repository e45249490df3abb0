"""Laws of what the store is drawn from: envelopes, and the newest readings as of instants, against plain readings."""

import itertools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.columns import Columns, strips_of
from sinks.compaction import Layout
from sinks.downsampling import Buckets
from sinks.packing import Damaged
from sinks.rollups import Summaries, decode, encode, summarise, widened
from sinks.store import Store
from tests.sinks.test_blocks import FORMAT_1_DECIMALS

MINUTE, HOUR = 60 * 10**9, 3600 * 10**9
T0 = 1_700_000_000 * 10**9 // HOUR * HOUR
TINY = Layout(block_rows=16, hot_rows=40, hot_entries=6, max_log_rows=100, fan=2, max_run_rows=300, rows_per_summary=1)
MEMORY = Path("/dev/shm")  # noqa: S108  # fsyncs prove nothing here
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

values = st.integers(-50, 50).map(float) | st.sampled_from([math.nan, math.inf, 0.1, -0.0])
readings = st.lists(st.tuples(st.integers(0, 3), st.integers(-40, 300), values), min_size=1, max_size=60)
"""Series, minute, value"""
steps = st.lists(
    st.one_of(
        readings.map(lambda rows: ("append", rows)),
        st.booleans().map(lambda flush: ("compact", flush)),
        st.just(("settle", None)),
        st.integers(-30, 200).map(lambda minute: ("retain", minute)),
    ),
    min_size=1,
    max_size=14,
)


def at(minute: float) -> int:
    return T0 + round(minute * MINUTE)


def append(store: Store, rows: list[tuple[int, float, float]]) -> None:
    series, minutes, value = zip(*rows, strict=True)
    store.append(np.array(series, np.int32), np.array([at(m) for m in minutes], np.int64), np.array(value, np.float64))


def settle(store: Store) -> None:
    while store.compact(flush=True):
        pass


def filled(directory: str, history: list[tuple[str, object]]) -> Store:
    store, horizon = Store(Path(directory) / "store.db", layout=TINY), -(10**6)
    for what, given_ in history:
        match what, given_:
            case "append", list(rows):
                append(store, rows)
            case "compact", bool(flush):
                store.compact(flush=flush)
            case "settle", _:
                settle(store)
            case "retain", int(minute):
                horizon = max(horizon, minute)
                store.retain(at(horizon))
    return store


def assert_envelope_of(store: Store, ids: list[int], t0: int, t1: int, buckets: int) -> None:
    found = store.envelope(ids, t0, t1, buckets)
    assert set(found) == set(ids)
    for series, got in found.items():
        width = got.width
        begin, end = t0 // width * width, -(-t1 // width) * width
        time, value = store.read(series, begin + 1, end + 1)
        expected: dict[int, list[float]] = {}
        for t, v in zip(time.tolist(), value.tolist(), strict=True):
            expected.setdefault((t - 1) // width * width, []).append(v)
        assert_buckets(got, expected)
        assert len(got.start) <= buckets + 1


def assert_buckets(got: Buckets, expected: dict[int, list[float]]) -> None:
    real = [[x for x in v if not math.isnan(x)] for v in expected.values()]
    assert got.start.tolist() == list(expected)
    assert got.n.tolist() == [len(v) for v in expected.values()]
    np.testing.assert_array_equal(got.min, [min(v, default=math.nan) for v in real])
    np.testing.assert_array_equal(got.max, [max(v, default=math.nan) for v in real])
    np.testing.assert_array_equal(got.last, [v[-1] for v in expected.values()])
    np.testing.assert_allclose(got.mean, [sum(v) / len(v) if v else math.nan for v in real], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(steps, st.tuples(st.integers(-60, 320), st.integers(1, 400)), st.integers(1, 40), st.data())
def test_an_envelope_is_what_a_loop_finds_in_the_readings(history, span, buckets, data):
    ids = data.draw(st.lists(st.integers(0, 5), max_size=6))
    with (
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.exists() else None) as directory,
        filled(directory, history) as store,
    ):
        assert_envelope_of(store, ids, at(span[0]), at(span[0] + span[1]), buckets)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    steps,
    st.one_of(
        st.lists(st.integers(-50, 330) | st.floats(-50, 330), min_size=1, max_size=12, unique=True),
        st.lists(st.integers(-10, 66).map(lambda n: 5 * n), min_size=1, max_size=12, unique=True),
        st.lists(st.integers(-1, 6).map(lambda n: 60 * n), min_size=1, max_size=12, unique=True),
    ),
    st.integers(1, 90),
    st.lists(st.integers(0, 5), max_size=6),
)
def test_the_newest_as_of_instants_is_what_a_loop_finds_in_the_readings(history, minutes, reach, ids):
    instants = np.array(sorted({at(m) for m in minutes}), np.int64)
    with (
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.exists() else None) as directory,
        filled(directory, history) as store,
    ):
        got_time, got_value = store.read_at(ids, instants, reach * MINUTE)
        assert got_time.shape == got_value.shape == (len(ids), len(instants))
        for i, series in enumerate(ids):
            time, value = store.read(series)
            for j, instant in enumerate(instants.tolist()):
                seen = np.flatnonzero((time <= instant) & (time > instant - reach * MINUTE))
                expected = (time[seen[-1]], value[seen[-1]]) if len(seen) else (INT64_MIN, math.nan)
                np.testing.assert_equal((got_time[i, j], got_value[i, j]), expected)


def regular(store: Store, *, devices: int = 3, hours: int = 40, phase: int = 1) -> None:
    """A reading every minute, by the hour, each compacted on its own."""
    for hour in range(hours):
        append(store, [(d, hour * 60 + m + phase / 10, hour + m / 10) for d in range(devices) for m in range(60)])
        store.compact(flush=True)


def chunks(store: Store) -> int:
    with store._file.snapshot() as db:
        return db.execute("select count(*) from summary").fetchone()[0]


def blocks_unpacked(store: Store, look: Callable[[], object]) -> int:
    """How many blocks a look at the store has to unpack."""
    asked: list[str] = []
    with store._file.snapshot() as db:
        db.set_trace_callback(asked.append)
    try:
        look()
    finally:
        with store._file.snapshot() as db:
            db.set_trace_callback(None)
    return sum("select data from block" in statement for statement in asked)


def test_a_long_envelope_unpacks_no_block_where_nothing_was_overwritten(tmp_path: Path):
    with Store(tmp_path / "store.db", layout=Layout(block_rows=64, fan=4)) as store:
        regular(store)
        assert chunks(store) > 0
        assert blocks_unpacked(store, lambda: store.envelope([0, 1, 2], at(0), at(40 * 60), 40)) == 0
        assert blocks_unpacked(store, lambda: store.envelope([0], at(0), at(600), 600)) > 0  # finer than what is kept
        hours = np.arange(1, 40) * HOUR + T0
        assert blocks_unpacked(store, lambda: store.read_at([0, 1, 2], hours, HOUR)) == 0
        assert blocks_unpacked(store, lambda: store.read_at([0, 1, 2], hours + 1, HOUR)) > 0


def test_what_is_overwritten_and_late_is_looked_up_where_it_is_and_nowhere_else(tmp_path: Path):
    with Store(tmp_path / "store.db", layout=Layout(block_rows=64, fan=128, rows_per_summary=1)) as store:
        regular(store, hours=100)
        append(store, [(1, 600.1, 1e6), (1, 603.5, -1e6), (2, 3000.1, math.nan)])
        store.compact(flush=True)
        append(store, [(1, 5000.1, 5e5)])  # still in the log

        assert 0 < blocks_unpacked(store, lambda: store.envelope([0, 1, 2], at(0), at(100 * 60), 40)) < 15
        assert_envelope_of(store, [0, 1, 2], at(0), at(100 * 60), 40)
        assert store.envelope([1], at(0), at(100 * 60), 40)[1].max.max() == 1e6


def test_an_envelope_forgets_what_retention_does(tmp_path: Path):
    with Store(tmp_path / "store.db", layout=Layout(block_rows=64, fan=4)) as store:
        regular(store)
        store.retain(at(600.5))  # in the middle of a span
        assert_envelope_of(store, [0, 1, 2], at(0), at(40 * 60), 40)
        assert store.envelope([0], at(0), at(40 * 60), 40)[0].start[0] >= at(600)


def test_summaries_go_with_their_runs(tmp_path: Path):
    with Store(tmp_path / "store.db", layout=TINY) as store:
        regular(store)
        settle(store)
        store.retain(at(10**5))
        settle(store)

        assert chunks(store) == 0


def test_sparse_readings_are_not_summed_up(tmp_path: Path):
    with Store(tmp_path / "store.db") as store:
        append(store, [(0, 15.0 * i, 1.0) for i in range(1000)])
        settle(store)

        assert chunks(store) == 0
        assert_envelope_of(store, [0], at(0), at(15_000), 100)


def test_a_store_of_the_first_format_is_read_as_it_is_and_taken_over_by_a_writer(tmp_path: Path):
    path, block = tmp_path / "store.db", bytes.fromhex(FORMAT_1_DECIMALS)
    with Store(path) as store:
        append(store, [(s, m / 6, 0.0) for s in (1, 4) for m in range(4)])
        settle(store)
        with store._file.write() as db:
            db.execute("update block set data = ?, n = 8, s0 = 1, s1 = 4, t0 = 0, t1 = 41000000000", (block,))
            db.execute("drop table summary")
            db.execute("pragma user_version = 1")

    def assert_drawn(store: Store) -> None:
        assert store.read(4)[1].tolist() == [700.25, 701.5, 700.0]
        assert store.envelope([1], 0, 1000 * HOUR, 1000)[1].max.max() == 21.75
        assert store.read_at([4], np.array([HOUR]), 2 * HOUR)[1].tolist() == [[700.0]]

    with Store(path, read_only=True) as viewer:
        assert_drawn(viewer)
    with Store(path) as store:
        assert_drawn(store)
        regular(store)
        assert chunks(store) > 0
        assert_drawn(store)


def test_envelopes_keep_their_places_as_time_goes_on(tmp_path: Path):
    with Store(tmp_path / "store.db") as store:
        append(store, [(0, i / 6, float(i)) for i in range(3000)])

        first, later = (store.envelope([0], at(begin), at(begin + 200), 77)[0] for begin in (0, 3.3))

        assert first.width == later.width
        assert set(later.start[:-1]) - set(first.start) < set(later.start[-4:])


def test_as_many_buckets_as_asked_for_or_two_in_three(tmp_path: Path):
    with Store(tmp_path / "store.db") as store:
        for hours, buckets in itertools.product((1, 7, 50, 333, 8760), (3, 250, 1000)):
            width = store.envelope([], at(0), at(hours * 60), buckets) or None
            assert width is None
            append(store, [(0, 0.0, 1.0)])
            width = store.envelope([0], at(-1), at(hours * 60 - 1), buckets)[0].width
            assert buckets * 2 // 3 <= -(-hours * HOUR // width) <= buckets


def test_no_bucket_is_refused(tmp_path: Path):
    with Store(tmp_path / "store.db") as store, pytest.raises(ValueError, match="at least 1"):
        store.envelope([1], 0, 10, 0)


def test_the_ends_of_int64_are_drawn_too(tmp_path: Path):
    with Store(tmp_path / "store.db", layout=TINY) as store:
        times = np.array([INT64_MIN, INT64_MIN + 1, 0, INT64_MAX - 1, INT64_MAX])
        store.append(np.zeros(5, np.int32), times, np.arange(5.0))
        for _ in range(2):
            got = store.envelope([0], INT64_MIN, INT64_MAX, 4)[0]
            assert got.n.sum() >= 4
            assert got.max.max() == 4.0
            time, value = store.read_at([0], times, INT64_MAX)
            assert time[0].tolist() == times.tolist()
            assert value[0].tolist() == [0, 1, 2, 3, 4]
            settle(store)


@st.composite
def summaries(draw, width: int = 10) -> Summaries:
    rows = draw(st.dictionaries(st.tuples(st.integers(-3, 3), st.integers(-90, 90)), values, min_size=1, max_size=60))
    keys = sorted(rows)
    columns = Columns(
        np.array([s for s, _ in keys], np.int32),
        np.array([t for _, t in keys], np.int64),
        np.array([rows[key] for key in keys]),
    )
    return summarise(strips_of(columns), width)


@given(summaries())
def test_summaries_give_back_every_bit(rows: Summaries):
    for got, expected in zip(decode(encode(rows, 10), 10), rows, strict=True):
        assert got.dtype == expected.dtype
        assert got.tobytes() == expected.tobytes()


@given(summaries(), st.data())
def test_a_changed_byte_of_summaries_is_noticed(rows: Summaries, data):
    packed = bytearray(encode(rows, 10))
    packed[data.draw(st.integers(0, len(packed) - 1))] ^= data.draw(st.integers(1, 255))

    with pytest.raises(Damaged):
        decode(bytes(packed), 10)


@given(summaries(), st.integers(1, 5))
def test_wider_summaries_are_those_of_the_readings(rows: Summaries, times: int):
    wide = widened(rows, times)

    assert wide.n.sum() == rows.n.sum()
    assert len(set(zip(wide.series.tolist(), wide.span.tolist(), strict=True))) == len(wide.n)
    for i in range(len(wide.n)):
        mine = (rows.series == wide.series[i]) & (-(-rows.span // times) == wide.span[i])
        np.testing.assert_equal(wide.max[i], np.fmax.reduce(rows.max[mine]))
        np.testing.assert_equal(wide.value[i], rows.value[mine][-1])
        assert wide.numbers[i] == rows.numbers[mine].sum()
