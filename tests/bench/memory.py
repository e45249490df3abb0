"""`python -m tests.bench.memory SERIES`: what so many series keep, in a process of its own. Prints a line of JSON."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from ingest.block import columns_of
from ingest.decode import Decoder
from ingest.lateness import Lateness
from ingest.streams import LimitsConfig, StreamConfig
from rules import Engine
from telemetry import Counters, Message, SeriesTable
from tests.bench.bench_rules import parsed
from tests.bench.traffic import METRICS, STREAM, Traffic, rules, topic

_TOGETHER = 10_000
_ROUNDS = 3


def main(series: int) -> None:
    devices = series // len(METRICS)
    table, lateness = SeriesTable(), Lateness()
    limits = LimitsConfig(max_series=1 << 30, max_new_series_per_hour=1 << 30)
    decoder = Decoder([StreamConfig.model_validate(STREAM)], limits, table, counters=Counters())
    engine = Engine(parsed(rules()), table)
    before = _bytes("VmRSS")
    offset = 0
    for first in range(0, devices, _TOGETHER):
        some = min(_TOGETHER, devices - first)
        traffic = Traffic.until_now(some, _ROUNDS)
        topics = [topic(first + i).decode() for i in range(some)]
        for time, payloads in zip(traffic.times.tolist(), traffic.payloads(), strict=True):
            messages = [Message(name, p, 1, received=time) for name, p in zip(topics, payloads, strict=True)]
            batch = decoder.decode(columns_of(messages)).batch
            assert len(batch) == len(METRICS) * some, "all of it is decoded"
            engine.apply(replace(batch, flags=lateness.flag(batch)))
            offset += some
    assert len(table) == len(METRICS) * devices
    print(json.dumps({"grown_bytes": _bytes("VmRSS") - before, "peak_bytes": _bytes("VmHWM")}))  # noqa: T201


def _bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", type=int)
    main(parser.parse_args().series)
