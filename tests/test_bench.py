"""`make bench` runs, and ends with what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_every_bench_ends_with_one_line_of_json():
    done = subprocess.run(
        [sys.executable, "tests/bench/run.py", "--json"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip

    results = json.loads(done.stdout.splitlines()[-1])

    assert set(results) == {"rules", "decode", "store", "line_protocol"}
    assert all(value > 0 for figures in results.values() for value in figures.values())
