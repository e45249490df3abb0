"""The InfluxDB sink against real servers: what was written is read back equal, through crashes of the server too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from sinks.config import InfluxConfig
from sinks.consumer import Consumer, ConsumerState
from sinks.influx import InfluxSink
from sinks.line_protocol import plain
from telemetry import Counters, Cursor, ReadingBatch, Rejected, RetryLater, Series, SeriesTable
from tests.integration.databases import InfluxDB, VictoriaMetrics
from tests.integration.servers import wait_until

T0 = 1_700_000_000_000_000_000
MS = 10**6
AWKWARD = ["plain", "a b", "c,d", "e=f", r"C:\data", "end\\", r"\,\=\ ", "new\nline", 'q"u', "ü☃", "#", "back\\\\slash"]


@dataclass(frozen=True)
class Step:
    batch: ReadingBatch
    next: int


class Steps:
    """A source over prepared batches."""

    def __init__(self, batches: list[ReadingBatch]) -> None:
        self._steps: Iterator[Step] = iter([Step(b, i + 1) for i, b in enumerate(batches)])

    def read(self, timeout: float) -> Step | None:
        step = next(self._steps, None)
        if step is None:
            time.sleep(timeout)
        return step


def readings(table: SeriesTable, n: int, *, step_ns: int, labels: list[str]) -> ReadingBatch:
    """n readings, round robin over one series for each label; values with one decimal, as sensors send them."""
    ids = [table.add(Series.of("temperature", device=f"d{i}", place=label)) for i, label in enumerate(labels)]
    return ReadingBatch.of(
        [ids[i % len(ids)] for i in range(n)],
        [T0 + i * step_ns for i in range(n)],
        (np.random.default_rng(7).integers(-400, 1200, n) / 10).tolist(),
    )


def of_series(batch: ReadingBatch, id_: int) -> list[tuple[int, float]]:
    mine = batch.select(batch.series == id_)
    return list(zip(mine.time.tolist(), mine.value.tolist(), strict=True))


def read_influx(server: InfluxDB, series: Series) -> list[tuple[int, float]]:
    answer = server.query("plant", f'SELECT value FROM "{series.metric}" GROUP BY *')  # noqa: S608  # the test's own
    found = [s for s in answer if s["tags"]["device"] == series.device]
    assert len(found) == 1, f"{series}: {found}"
    assert found[0]["tags"] == {name: plain(value) for name, value in series.labels}
    return [(t, v) for t, v in found[0]["values"]]


def read_victoria(server: VictoriaMetrics, series: Series) -> list[tuple[int, float]]:
    found = server.export(f'{{device="{series.device}"}}')
    assert len(found) == 1, f"{series}: {found}"
    labels = {k: v for k, v in found[0]["metric"].items() if k not in ("__name__", "db")}
    assert labels == {name: plain(value) for name, value in series.labels}
    return [(t * MS, v) for t, v in zip(found[0]["timestamps"], found[0]["values"], strict=True)]


def influx_config(server: InfluxDB, **more: object) -> InfluxConfig:
    return InfluxConfig.model_validate({"url": server.url, "api": "v1", "database": "plant", **more})


def victoria_config(server: VictoriaMetrics, **more: object) -> InfluxConfig:
    return InfluxConfig.model_validate({"url": server.url, "bucket": "plant", **more})


@pytest.mark.parametrize("compressed", [True, False])
def test_influxdb_gives_back_every_reading_to_the_nanosecond(influxdb: InfluxDB, compressed: bool) -> None:
    influxdb.create_database("plant")
    table = SeriesTable()
    batch = readings(table, 12_000, step_ns=1_000_003, labels=AWKWARD)
    exact = ReadingBatch.of(
        [0] * 4, [T0 - 4, T0 - 3, T0 - 2, T0 - 1], [5e-324, 1.7976931348623157e308, -0.0, 0.1 + 0.2]
    )
    sink = InfluxSink(influx_config(influxdb, gzip=compressed), table)
    for part in (exact, batch, batch):  # twice: rewriting changes nothing
        sink.write(part)
    sink.close()

    for id_, series in enumerate(table):
        expected = (of_series(exact, 0) if id_ == 0 else []) + of_series(batch, id_)
        assert read_influx(influxdb, series) == expected


def test_victoria_metrics_gives_back_every_reading(victoria_metrics: VictoriaMetrics) -> None:
    table = SeriesTable()
    batch = readings(table, 12_000, step_ns=MS, labels=AWKWARD)
    sink = InfluxSink(victoria_config(victoria_metrics), table)
    sink.write(batch)
    sink.close()

    for id_, series in enumerate(table):
        assert read_victoria(victoria_metrics, series) == of_series(batch, id_)


def test_a_field_of_another_type_parks_its_points_and_nothing_else(influxdb: InfluxDB, tmp_path) -> None:
    influxdb.create_database("plant")
    influxdb.request("POST", "/write", fields={"db": "plant"}, body=b"taken,device=x value=1i %d\n" % T0)
    table = SeriesTable()
    batch = readings(table, 500, step_ns=MS, labels=["p"])
    poison = ReadingBatch.of([table.add(Series.of("taken", device="d"))] * 2, [T0 + 1, T0 + 2], [1.0, 2.0])
    both = ReadingBatch.concatenate([batch.select(slice(None, 77)), poison, batch.select(slice(77, None))])
    parked: list[tuple[int, str]] = []
    counters = Counters()
    consumer = Consumer(
        InfluxSink(influx_config(influxdb), table),
        Steps([both]),
        Cursor(tmp_path / "cursor"),
        counters,
        park=lambda rows, reason: parked.extend((t, reason) for t in rows.time.tolist()),
    )
    consumer.start()
    wait_until(lambda: consumer.status.offset == 1, what=f"all is carried: {consumer.status}")
    assert consumer.stop()

    assert read_influx(influxdb, table[0]) == of_series(batch, 0)
    assert [t for t, _ in parked] == [T0 + 1, T0 + 2]
    assert all("field type conflict" in reason for _, reason in parked)
    assert counters.snapshot() == {("influx.stored", ""): 500, ("influx.parked", "rejected"): 2}


def test_an_unknown_database_is_waited_for(influxdb: InfluxDB) -> None:
    table = SeriesTable()
    batch = readings(table, 10, step_ns=MS, labels=["p"])
    sink = InfluxSink(influx_config(influxdb), table)
    with pytest.raises(RetryLater, match=r"does not know the database of sink influx \(404\)"):
        sink.write(batch)
    influxdb.create_database("plant")
    sink.write(batch)
    sink.close()
    assert read_influx(influxdb, table[0]) == of_series(batch, 0)


def test_points_that_the_server_refuses_are_rejected_with_its_words(influxdb: InfluxDB) -> None:
    influxdb.create_database("plant")
    influxdb.request("POST", "/write", fields={"db": "plant"}, body=b"temperature,device=x value=1i %d\n" % T0)
    table = SeriesTable()
    sink = InfluxSink(influx_config(influxdb), table)
    with pytest.raises(Rejected, match="field type conflict"):
        sink.write(readings(table, 10, step_ns=MS, labels=["p"]))
    sink.close()


def lost_nothing(
    server: InfluxDB | VictoriaMetrics,
    config: InfluxConfig,
    read: Callable[[Series], list[tuple[int, float]]],
    tmp_path,
    kill: Callable[[], None],
) -> None:
    """Write while the server dies and comes back; then everything is there once."""
    table = SeriesTable()
    batch = readings(table, 20_000, step_ns=MS, labels=["p", "q", "r"])
    batches = [batch.select(slice(i, i + 500)) for i in range(0, len(batch), 500)]
    counters = Counters()
    consumer = Consumer(
        InfluxSink(config, table),
        Steps(batches),
        Cursor(tmp_path / "cursor"),
        counters,
        park=lambda rows, reason: pytest.fail(f"parked {len(rows)}: {reason}"),
        batch_rows=500,
    )
    server.stop()
    consumer.start()
    wait_until(lambda: consumer.status.state is ConsumerState.RETRYING, what="the sink notices")
    assert "cannot reach InfluxDB" in consumer.status.last_error
    server.start()
    wait_until(lambda: consumer.status.offset > 3, what=f"the sink goes on: {consumer.status}")
    kill()
    server.start()
    wait_until(lambda: consumer.status.offset == len(batches), what=f"all is carried: {consumer.status}")
    assert consumer.stop()

    assert Cursor(tmp_path / "cursor").offset == len(batches)
    assert counters.snapshot() == {("influx.stored", ""): 20_000}
    for id_, series in enumerate(table):
        assert read(series) == of_series(batch, id_)


def test_influxdb_that_is_down_and_is_killed_loses_nothing(influxdb: InfluxDB, tmp_path) -> None:
    influxdb.create_database("plant")
    lost_nothing(influxdb, influx_config(influxdb), lambda s: read_influx(influxdb, s), tmp_path, influxdb.kill)


def test_victoria_metrics_that_is_down_and_stops_loses_nothing(victoria_metrics: VictoriaMetrics, tmp_path) -> None:
    """It keeps the last second in memory, so a kill may lose what it acknowledged: stopped cleanly here."""
    config = victoria_config(victoria_metrics)
    read = lambda s: read_victoria(victoria_metrics, s)  # noqa: E731  # short
    lost_nothing(victoria_metrics, config, read, tmp_path, victoria_metrics.stop)
