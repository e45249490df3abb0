"""`tocsin simulate`: a simulated fleet against any broker."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from simulators.publisher import Report
from simulators.publisher import run as publish
from simulators.scenario import Scenario
from simulators.sender import PublisherStats
from simulators.truth import write_expectations
from telemetry import SystemClock, TocsinError
from tocsin.cli.options import command, json_option, print_json
from tocsin.cli.parameters import DURATION
from tocsin.scenario_file import load_scenario
from tocsin.words import span


@command(
    "tocsin simulate fleet.yaml --url mqtt://localhost:1883",
    "tocsin simulate fleet.yaml --url mqtts://broker.example --username sim --duration 5m --truth truth.json",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--url", required=True, help="The broker, such as mqtt://localhost:1883.")
@click.option("--username", help="Name to log in with; the password comes from TOCSIN_SIMULATE_PASSWORD.")
@click.option("--duration", type=DURATION, help="Length of the run, such as 5m; wins over the scenario's.")
@click.option("--seed", type=int, help="Another seed gives another run; wins over the scenario's.")
@click.option("--truth", type=click.Path(path_type=Path), help="Write the alerts that must fire to this JSON file.")
@click.option(
    "--connections", type=click.IntRange(1, 1_000), default=4, show_default=True, help="Connections to share."
)
@json_option("Print the result as one JSON object.")
def simulate(
    file: Path,
    url: str,
    username: str | None,
    duration: int | None,
    seed: int | None,
    truth: Path | None,
    connections: int,
    as_json: bool,
) -> None:
    """Publish what a simulated fleet reports, to any broker.

    The scenario FILE describes devices and the faults that befall them. Exit code 1 if a message of QoS 1 was not
    acknowledged in the end.
    """
    scenario = load_scenario(file, duration=duration, seed=seed)
    show = _progress if sys.stderr.isatty() and not as_json else None
    stop = threading.Event()
    report = _run_until(
        stop,
        scenario,
        url,
        clock=SystemClock(),
        progress=show,
        username=username,
        password=os.environ.get("TOCSIN_SIMULATE_PASSWORD"),
        connections=connections,
    )
    if show:
        click.echo(err=True)
    if truth is not None:
        _write_truth(truth, report)
    _print(report, as_json=as_json)
    sys.exit(0 if report.complete else 1)


def _run_until(stop: threading.Event, scenario: Scenario, url: str, **options: Any) -> Report:
    """Publish in a thread of its own: Ctrl-C ends it in order, so that the truth is written."""
    done: list[Report | BaseException] = []

    def work() -> None:
        try:
            done.append(publish(scenario, url, stop=stop, **options))
        except BaseException as error:  # noqa: BLE001  # handed to the thread that waits
            done.append(error)

    thread = threading.Thread(target=work, name="simulate")
    thread.start()
    while thread.is_alive():
        try:
            thread.join(0.2)
        except KeyboardInterrupt:
            stop.set()
    if isinstance(done[0], BaseException):
        raise done[0]
    return done[0]


def _progress(stats: PublisherStats) -> None:
    rate = stats.messages / max(stats.elapsed_ns / 1e9, 1e-9)
    late = f", {span(stats.lag_ns)} behind" if stats.lag_ns > 10**9 else ""
    line = f"{stats.messages:,} messages, {stats.readings:,} readings, {rate:,.0f} msgs/s{late}"
    click.echo(f"\r{line}\x1b[K", nl=False, err=True)


def _write_truth(path: Path, report: Report) -> None:
    try:
        write_expectations(path, report.expected)
    except OSError as error:
        raise TocsinError(f"cannot write {path}: {error.strerror}") from error


def _print(report: Report, *, as_json: bool) -> None:
    stats = report.stats
    if as_json:
        plain = asdict(stats) | {"kinds": dict(stats.kinds)}
        end = {"stopped": report.stopped, "complete": report.complete, "expected": len(report.expected)}
        print_json(plain | {"epoch_ns": report.epoch_ns, "end_ns": report.end_ns} | end)
        return
    click.echo(
        f"{stats.messages:,} messages with {stats.readings:,} readings in {span(stats.elapsed_ns)}; "
        f"{stats.acked:,} acknowledged, {stats.unacknowledged:,} not; {len(report.expected):,} alerts must fire"
    )
