"""`make bench` runs, and ends with what it says."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from telemetry import AlertEvent, AlertState
from tests.bench.bench_rules import same_events

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_every_bench_ends_with_one_line_of_json():
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.run", "--quick", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip

    results = json.loads(done.stdout.splitlines()[-1])

    assert results.pop("machine")
    assert {section.partition(".")[0] for section in results} == {
        "rules", "query", "journal", "decode", "store", "line_protocol",
    }  # fmt: skip
    assert all(figure["median"] > 0 for figures in results.values() for figure in figures.values())


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
