"""Laws of the book of devices: what it learns from the readings as they pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from telemetry import DUPLICATE, HISTORICAL, LATE, RECORDED, RETAINED, ReadingBatch, Series, SeriesTable
from tests.tocsin.pipeline_rig import prepare, receive, running, settle
from tocsin.backend import RunningBackend, StoredBackend
from tocsin.devices import DeviceRow, Devices, Surroundings
from tocsin.pipeline_status import PipelineStatus

SECOND = 10**9
NOW = 1_700_000_000 * SECOND
NOWHERE = Surroundings()


def devices_with(*series: Series) -> Devices:
    table = SeriesTable()
    for one in series:
        table.add(one)
    return Devices(table)


def at(*seconds: float) -> list[int]:
    return [NOW + round(s * SECOND) for s in seconds]


def only(devices: Devices, now: int, around: Surroundings = NOWHERE) -> DeviceRow:
    [row] = devices.rows(now, around)
    return row


def test_an_interval_is_learned_and_a_gap_does_not_change_it() -> None:
    devices = devices_with(Series.of("t", device="d"))
    for second in (0, 10, 20, 30, 430, 440):
        devices.readings(ReadingBatch.of([0], at(second), [1.0]))
    row = only(devices, NOW + 441 * SECOND)
    assert row.interval == 10 * SECOND
    assert (row.last_seen, row.last_time) == (NOW + 440 * SECOND, NOW + 440 * SECOND)


def test_the_interval_is_that_of_its_busiest_series_and_not_the_distance_between_two() -> None:
    devices = devices_with(Series.of("fast", device="d"), Series.of("slow", device="d"))
    for second in range(0, 200, 10):
        devices.readings(ReadingBatch.of([0], at(second), [1.0]))
        if second % 60 == 0:
            devices.readings(ReadingBatch.of([1], at(second + 0.01), [1.0]))
    assert only(devices, NOW + 200 * SECOND).interval == 10 * SECOND


def test_a_backlog_sent_once_an_hour_is_an_interval_of_an_hour() -> None:
    devices = devices_with(Series.of("t", device="d"))
    for hour in range(4):
        times = at(*range(3_600 * hour, 3_600 * (hour + 1), 60))
        devices.readings(ReadingBatch.of([0] * 60, times, [1.0] * 60, received=at(3_600 * (hour + 1)) * 60))
    assert only(devices, NOW + 4 * 3_600 * SECOND).interval == 3_600 * SECOND


def test_of_many_readings_that_come_at_once_the_interval_is_not_that_of_the_batches() -> None:
    devices = devices_with(Series.of("t", device="d"))
    for begin in range(0, 100, 10):
        devices.readings(ReadingBatch.of([0] * 10, at(*range(begin, begin + 10)), [1.0] * 10))
    assert only(devices, NOW + 100 * SECOND).interval == SECOND


@pytest.mark.parametrize(("silence", "state"), [(29, "reporting"), (31, "silent")])
def test_a_device_is_silent_after_three_intervals(silence: int, state: str) -> None:
    devices = devices_with(Series.of("t", device="d"))
    devices.readings(ReadingBatch.of([0], at(0), [1.0]))
    devices.readings(ReadingBatch.of([0], at(10), [1.0]))
    assert only(devices, NOW + (10 + silence) * SECOND).state == state


@pytest.mark.parametrize(
    ("silence", "own", "state"), [(299, {}, "reporting"), (301, {}, "silent"), (301, {0: 900 * SECOND}, "reporting")]
)
def test_without_an_interval_it_is_silent_when_its_readings_count_no_more(
    silence: int, own: dict[int, int], state: str
) -> None:
    devices = devices_with(Series.of("t", device="d"))
    devices.readings(ReadingBatch.of([0], at(0), [1.0]))
    assert only(devices, NOW + silence * SECOND, Surroundings(staleness=own)).state == state


def test_what_was_never_heard_is_looked_up_in_the_store_once() -> None:
    devices = devices_with(Series.of("t", device="a"), Series.of("t", device="b"), Series.of("t", device="c"))
    asked: list[list[int]] = []

    def stored(ids: NDArray[np.int32]) -> NDArray[np.int64]:
        asked.append(ids.tolist())
        return np.where(ids == 1, NOW, 0)

    devices.readings(ReadingBatch.of([0], at(0), [1.0]))
    for later in (0, 5):
        rows = devices.rows(NOW + later * SECOND, Surroundings(stored=stored))
        assert [(row.device, row.state, row.last_seen) for row in rows] == [
            ("a", "reporting", NOW),
            ("b", "reporting", NOW),
            ("c", "never", 0),
        ]
    assert asked == [[1, 2]]


def test_what_is_retained_recorded_or_seen_before_is_no_new_reading() -> None:
    devices = devices_with(Series.of("t", device="d"))
    for flag in (RETAINED, RECORDED):
        devices.readings(ReadingBatch.of([0], at(0), [1.0], flags=[flag]))
    assert only(devices, NOW).state == "never"
    devices.readings(ReadingBatch.of([0, 0, 0], at(0, 1, -1), [1.0] * 3, flags=[0, DUPLICATE, LATE]))
    row = only(devices, NOW + 2 * SECOND)
    assert (row.state, row.last_time, row.interval) == ("reporting", NOW + 1 * SECOND, None)
    assert devices.activity.counts(1)[0] == 4


def test_the_clock_skew_is_of_live_readings_and_smoothed() -> None:
    devices = devices_with(Series.of("t", device="d"))
    for second in range(50):
        devices.readings(ReadingBatch.of([0], at(second), [1.0], received=at(second + 3_600 + second % 2)))
        devices.readings(ReadingBatch.of([0], at(second - 1e6), [1.0], received=at(second), flags=[HISTORICAL]))
    skew = only(devices, NOW + 3_700 * SECOND).skew
    assert skew is not None
    assert 3_600 * SECOND < skew < 3_601 * SECOND


def test_rates_are_of_the_last_minute() -> None:
    devices = devices_with(Series.of("t", device="d"), Series.of("u", device="d"))
    for second in range(300):
        rows = 4 if second < 200 else 2
        devices.readings(ReadingBatch.of([0, 1] * (rows // 2), at(*[second] * rows), [1.0] * rows))
    assert only(devices, NOW + 299 * SECOND).rate == pytest.approx(2, rel=0.1)
    assert only(devices, NOW + 3_000 * SECOND).rate < 0.05
    assert len(devices.activity._marks) <= 8


def test_labels_are_those_that_all_series_share_and_series_of_no_device_are_none_s() -> None:
    devices = devices_with(
        Series.of("t", device="d", site="north", unit="C"),
        Series.of("u", device="d", site="north"),
        Series.recorded("total", {"site": "north"}),
    )
    row = only(devices, NOW, Surroundings(streams={0: "a", 1: "b", 2: "c"}, firing={"d": 2, "": 7}))
    assert (row.labels, row.series, row.streams, row.firing) == ((("site", "north"),), 2, ("a", "b"), 2)


def test_readings_are_summed_up_by_stream() -> None:
    devices = devices_with(*(Series.of("t", device=f"d{i}") for i in range(4)))
    devices.readings(ReadingBatch.of([0, 1, 1, 2, 3], at(*range(5)), [1.0] * 5, flags=[0, 0, 0, 0, DUPLICATE]))
    streams = {1: "a", 0: "b"}
    assert devices.by_stream(streams) == {"a": 2, "b": 1}
    streams |= {3: "a", 2: "c"}
    assert devices.by_stream(streams) == {"a": 2, "b": 1, "c": 1}
    assert Devices(SeriesTable()).by_stream({}) == {}


def test_many_series_are_noted_as_one_by_one() -> None:
    """Also beyond the first columns, in large batches with several readings of a series."""
    rng = np.random.default_rng(7)
    series = [Series.of("t", device=f"d{i:04}") for i in range(3_000)]
    whole, single = devices_with(*series), devices_with(*series)
    for second in range(5):
        ids = rng.integers(0, 3_000, 5_000).tolist()
        batch = ReadingBatch.of(ids, at(*[10 * second + i / 1_000 for i in range(5_000)]), [1.0] * 5_000)
        whole.readings(batch)
        for i in range(5_000):
            single.readings(batch.select(slice(i, i + 1)))
    a, b = whole.rows(NOW + 60 * SECOND, NOWHERE), single.rows(NOW + 60 * SECOND, NOWHERE)
    assert [(row.last_seen, row.last_time) for row in a] == [(row.last_seen, row.last_time) for row in b]
    assert (whole.activity.counts(3_000) == single.activity.counts(3_000)).all()
    assert sum(row.rate for row in a) == pytest.approx(25_000 / 60, rel=0.1)


def test_a_pipeline_knows_its_devices_and_so_do_its_files(tmp_path: Path) -> None:
    pipeline = prepare(tmp_path)
    with running(pipeline):
        receive(pipeline, 40, 60)
        receive(pipeline, 20, topic="d2/<script>/x")
        receive(pipeline, 20, topic="d2/humidity")
        settle(pipeline)
        one, two = RunningBackend(pipeline, PipelineStatus(pipeline, title="t")).devices()
        now = pipeline.clock.now()
    assert (one.device, one.streams, one.series, one.state, one.firing) == ("d1", ("plain",), 1, "reporting", 1)
    assert (two.device, two.series, two.firing) == ("d2", 1, 0)
    assert now - 60 * SECOND < one.last_seen <= now
    with StoredBackend(pipeline.data, pipeline.clock) as files:
        again = files.devices()[0]
    assert (again.device, again.state, again.last_time, again.firing) == ("d1", "reporting", one.last_time, 1)
