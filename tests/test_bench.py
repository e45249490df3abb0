"""`make bench` runs, and ends with what it says."""

import json
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sinks.store import Store
from telemetry import AlertEvent, AlertState, Series, SeriesTable
from tests.bench.bench_rules import same_events
from tests.bench.processes import assert_stored, broker_is_missing
from tests.bench.traffic import METRICS, Traffic

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_every_bench_ends_with_one_line_of_json():
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.run", "--quick", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])

    assert results.pop("machine")
    if not broker_is_missing():
        for qos in results.pop("end_to_end").values():
            assert {"raw", "paho", "straightforward", "tocsin", "ratio_raw", "ratio_straightforward", "cpu_us",
                    "peak_mb"} <= qos.keys()  # fmt: skip
            assert qos["raw"] > 0
            assert qos["tocsin"] > 0
        assert results.pop("latency")["1,000 messages/s, alert max"]["median"] > 0
        assert {"scaling.devices", "scaling.start", "scaling.memory"} <= results.keys()
    assert {section.partition(".")[0] for section in results} - {"scaling"} == {
        "flood", "rules", "query", "journal", "decode", "store", "line_protocol",
    }  # fmt: skip
    # a thread may have had nothing to do
    may_be_zero = {name for name in results["flood"] if name.startswith("thread ")}
    assert all(f["median"] > 0 for fs in results.values() for name, f in fs.items() if name not in may_be_zero)


def test_a_bench_that_compares_unequal_work_fails():
    wanted = AlertEvent("g/a", (("device", "d1"),), AlertState.FIRING, 31.0, 5, 0, 6)

    same_events([wanted], [replace(wanted, value=31.0 * (1 + 1e-12))])
    for other in (replace(wanted, starts_at=4, id=""), replace(wanted, detected_at=7), replace(wanted, value=31.1)):
        with pytest.raises(AssertionError):
            same_events([wanted], [other])
    with pytest.raises(AssertionError):
        same_events([wanted], [])
    with pytest.raises(AssertionError):
        same_events([], [])


def stored(directory: Path, traffic: Traffic, *, change: float = 0.0, rows: int | None = None) -> None:
    """What the traffic says, but for a change in the last value, and the rows behind `rows`."""
    table = SeriesTable(directory / "series")
    ids = [table.add(Series.of(m, device=f"d{d:06d}")) for d in range(traffic.devices) for m in METRICS]
    table.sync()
    values = np.stack(traffic.values, axis=2).reshape(traffic.rounds, -1)
    values[-1, -1] += change
    with Store(directory / "store.db") as store:
        store.append(
            np.tile(np.array(ids, np.int32), traffic.rounds)[:rows],
            np.repeat(traffic.times, len(ids))[:rows],
            values.ravel()[:rows],
        )


@pytest.mark.parametrize(("wrong", "fails"), [({}, False), ({"change": 1e-9}, True), ({"rows": -1}, True)])
def test_a_reading_that_is_stored_otherwise_than_it_was_published_is_noticed(tmp_path, wrong, fails):
    traffic = Traffic(4, 6, 1_700_000_000_000)
    stored(tmp_path, traffic, **wrong)

    with pytest.raises(AssertionError) if fails else nullcontext():
        assert_stored(tmp_path / "store.db", tmp_path / "series", traffic)


def test_the_frames_of_a_traffic_say_its_values():
    traffic = Traffic(3, 5, 1_700_000_000_000)
    frames, length = traffic.frames(1)

    said = [json.loads(frames[end - 75 : end]) for end in range(length, len(frames) + 1, length)]

    assert [d["ts"] * 10**6 for d in said] == np.repeat(traffic.times, traffic.devices).tolist()
    for metric, values in zip(METRICS, traffic.values, strict=True):
        assert [d[metric] for d in said] == values.ravel().tolist()
