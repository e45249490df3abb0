"""`tocsin demo`: a broker, a simulated fleet with faults, and the pipeline, in one go; at the end it judges itself.

Here: starting and stopping the three, the verdict, the result. Not here: any of them.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import click
import yaml

from simulators.broker import EmbeddedBroker
from simulators.demo import demo_scenario
from simulators.publisher import Report, run
from simulators.scenario import Scenario
from simulators.truth import Verdict, judge, write_expectations
from sinks.store import Store
from telemetry import AlertEvent, AlertState, SystemClock, TocsinError
from tocsin.backend import RunningBackend
from tocsin.config import LoadedConfig, at_port, load_config
from tocsin.foreground import stopped_by_signals, summary, watch
from tocsin.http.server import HttpServer, listening
from tocsin.pipeline import Pipeline
from tocsin.pipeline_status import PipelineStatus, percentile
from tocsin.status import Snapshot

_log = logging.getLogger("tocsin.demo")
_SETTLE_SECONDS = 20.0
_PROGRESS_SECONDS = 5.0
_SHOWN_DETAILS = 20
_TOO_LATE_MS = 1_500


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line says."""

    devices: int = 200
    duration: float | None = None
    """s; None: until Ctrl-C"""
    rate: float | None = None
    """messages a second, of all devices"""
    seed: int = 1
    data_dir: Path | None = None
    headless: bool = False
    json: bool = False
    port: int | None = None
    """Of the HTTP server; None: the usual one, or another if that is taken."""


class _Alerts:
    """Collects the events, and how long each took from the reading's publication to the outbox."""

    def __init__(self) -> None:
        self.events: list[AlertEvent] = []
        self.latencies: list[int] = []

    def __call__(self, events: Sequence[AlertEvent], now: int) -> None:
        for event in events:
            self.events.append(event)
            # Without `for`, the alert starts at the time of the reading, which is when it was published.
            if event.state is AlertState.FIRING and event.rule in _AT_THE_READING:
                self.latencies.append(now - event.starts_at)


_AT_THE_READING = ("pumps/Overpressure", "pumps/BearingWear")


def run_demo(options: DemoOptions) -> int:
    """Runs until it is over or stopped → exit code: 0 if everything is accounted for and every alert was right."""
    scenario = demo_scenario(devices=options.devices, duration_s=options.duration, seed=options.seed, rate=options.rate)
    stop = threading.Event()
    with stopped_by_signals(stop), _directory(options.data_dir) as directory, EmbeddedBroker() as broker:
        loaded = at_port(write_config(directory, broker.url), options.port)
        alerts = _Alerts()
        pipeline = Pipeline(loaded, published=alerts)
        title = f"tocsin demo · {len(scenario.fleets[0].all_devices()):,} simulated devices"
        try:
            with listening(loaded.config.http, loaded.data_dir.http, any_port=options.port is None) as http:
                hints = _hints(directory, broker, http.url if http else "")
                status = PipelineStatus(pipeline, title=title, hints=hints)
                report, drained = _run(pipeline, status, http, scenario, broker.url, stop, options)
            final = status.snapshot()
        finally:
            pipeline.close()
        with Store(pipeline.data.store, read_only=True) as store:
            stored = store.count()
        write_expectations(directory / "truth.json", report.expected)
        fleet = {device.name for f in scenario.fleets for device in f.all_devices()}
        events = [e for e in alerts.events if dict(e.labels).get("device") in fleet]  # others are the user's own
        verdict = judge(report.expected, events, end_ns=report.end_ns)
        result = _result(final, report, verdict, alerts, stored=stored, drained=drained)
        _tell(result, final, verdict, options, directory)
        return 0 if result["ok"] else 1


def write_config(directory: Path, url: str) -> LoadedConfig:
    """The demo's configuration, as a file that can be looked at and used again with `tocsin run`."""
    directory.mkdir(parents=True, exist_ok=True)
    with as_file(files("tocsin") / "demo_files" / "rules.yml") as rules:
        (directory / "rules.yml").write_text(rules.read_text())
    config = {
        "data_dir": "data",
        "mqtt": {"url": url, "client_id": "tocsin-demo"},
        "streams": [
            {
                "name": "telemetry",
                "topic": "sensors/{site}/{device}/telemetry",
                "format": "json",
                "time": {"field": "ts", "unit": "ms"},
            },
            {"name": "yours", "topic": "{device}/{metric}"},
        ],
        "rules": ["rules.yml"],
        "receivers": [],
    }
    file = directory / "tocsin.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return load_config(file)


@contextmanager
def _directory(chosen: Path | None) -> Any:
    if chosen is not None:
        yield chosen
        return
    with tempfile.TemporaryDirectory(prefix="tocsin-demo-") as directory:
        yield Path(directory)


def _run(
    pipeline: Pipeline,
    status: PipelineStatus,
    http: HttpServer | None,
    scenario: Scenario,
    url: str,
    stop: threading.Event,
    options: DemoOptions,
) -> tuple[Report, bool]:
    """What the fleet has published, and whether all of it has gone through."""
    pipeline.start()
    try:
        if not pipeline.session.wait_connected(10):
            _log.warning("the pipeline has not connected yet: %s", pipeline.session.status.last_error)
        if http is not None:
            http.start(RunningBackend(pipeline, status))
        if not options.json:
            click.echo("\n".join(status.hints))
        report = _publish(scenario, url, pipeline, status, stop, options)
        return report, _settle(pipeline, report)
    finally:
        if http is not None:
            http.stop()
        pipeline.stop()


def _hints(directory: Path, broker: EmbeddedBroker, url: str) -> tuple[str, ...]:
    """What to try in another terminal."""
    return (
        f"broker: {broker.url} (MQTT 5) and {broker.url_v311} (MQTT 3.1.1). In another terminal:",
        f"  mosquitto_pub -p {broker.port_v311} -t mydevice/temperature -m 85",
        f"  tocsin query temperature --since 5m --data-dir {directory / 'data'}",
        f"  {url} in a browser, {url}/metrics for Prometheus",
    )


def _publish(
    scenario: Scenario,
    url: str,
    pipeline: Pipeline,
    status: PipelineStatus,
    stop: threading.Event,
    options: DemoOptions,
) -> Report:
    """Let the fleet publish, from a process of its own, and watch the pipeline meanwhile."""
    context = multiprocessing.get_context("spawn")
    report, child_end = context.Pipe(duplex=False)
    halt = context.Event()
    fleet = context.Process(target=_fleet, args=(scenario, url, halt, child_end), name="fleet", daemon=True)
    with _deaf_to_interrupts():
        fleet.start()
    child_end.close()
    over = threading.Event()

    def wait() -> None:
        while not report.poll(0.1):
            if stop.is_set():
                halt.set()
        over.set()

    threading.Thread(target=wait, name="tocsin-fleet-over", daemon=True).start()
    view = sys.stdout.isatty() and not options.headless
    lines: Callable[[str], object] = lambda line: click.echo(line, err=options.json)  # noqa: E731  # one expression
    watch(pipeline, status, over, view=view, lines=lines, every_seconds=_PROGRESS_SECONDS)
    halt.set()
    try:
        outcome: Report | str = report.recv()
    except EOFError:
        outcome = "the simulated fleet has died"
    fleet.join()
    if isinstance(outcome, str):
        raise TocsinError(outcome)
    return outcome


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A process that is started meanwhile never hears of Ctrl-C, from its first moment on."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _fleet(scenario: Scenario, url: str, halt: Any, report: Any) -> None:
    """The child process. Ctrl-C goes to the parent, which sets `halt`."""
    threading.Thread(target=_end_with_parent, name="tocsin-parent", daemon=True).start()
    try:
        report.send(run(scenario, url, clock=SystemClock(), stop=halt))
    except TocsinError as error:
        report.send(str(error))


def _settle(pipeline: Pipeline, report: Report) -> bool:
    """Wait until all that the broker acknowledged has been received, evaluated and stored."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < deadline:
        if pipeline.counters.get("ingest.messages") >= report.stats.messages and pipeline.drain():
            return True
        time.sleep(0.02)
    return False


def _result(
    snapshot: Snapshot, report: Report, verdict: Verdict, alerts: _Alerts, *, stored: int, drained: bool
) -> dict[str, Any]:
    """The figures, from both ends: what the fleet sent, what came of it, what is in the store."""
    accounts = {row.stage: dict(row.parts) for row in snapshot.accounts}
    readings, store = accounts["readings"], accounts["store"]
    received = snapshot.readings
    parts = store["stored"] + store["late"] + store["other"] + readings["duplicate"] + readings["rejected"]
    in_flight = received - parts
    waiting = sum(parts.get("in flight", 0) for parts in accounts.values())
    identity = (
        drained
        and in_flight == waiting == 0
        and all(row.is_balanced and min(n for _, n in row.parts) >= 0 for row in snapshot.accounts)
        and stored == store["stored"] + store["late"] + store["other"]
        and snapshot.messages >= report.stats.messages
    )
    latencies = {name: percentile(alerts.latencies, q) for name, q in (("p50", 0.5), ("p99", 0.99))}
    truth = asdict(verdict)
    return {
        "ok": identity and verdict.passed,
        "messages": snapshot.messages,
        "published": report.stats.messages,
        "readings": received,
        "stored": store["stored"],
        "late": store["late"],
        "duplicates": readings["duplicate"],
        "rejected": readings["rejected"],
        "in_flight": in_flight,
        "rows_in_store": stored,
        "identity": identity,
        "alerts_fired": snapshot.fired,
        "alerts_resolved": snapshot.resolved,
        "truth": {key: truth[key] for key in ("expected", "detected", "missed", "false", "unresolved", "undecided")},
        "latency_ms": {name: None if ns is None else round(ns / 1e6, 1) for name, ns in latencies.items()},
    }


def _tell(result: dict[str, Any], snapshot: Snapshot, verdict: Verdict, options: DemoOptions, directory: Path) -> None:
    for line in verdict.details[:_SHOWN_DETAILS]:
        click.echo(f"tocsin: {line}", err=True)
    if len(verdict.details) > _SHOWN_DETAILS:
        click.echo(f"tocsin: … and {len(verdict.details) - _SHOWN_DETAILS} more", err=True)
    if (result["latency_ms"]["p99"] or 0) > _TOO_LATE_MS:
        late = result["latency_ms"]["p99"] / 1000
        advice = "so devices seem silent that are not: try a lower --rate"
        click.echo(f"tocsin: this machine did not keep up (alerts came up to {late:.1f} s late), {advice}", err=True)
    if options.json:
        click.echo(json.dumps(result))
        return
    for line in summary(snapshot):
        click.echo(line)
    truth = result["truth"]
    click.echo(
        f"  ground truth: {truth['expected']} alerts expected, {truth['detected']} detected, {truth['missed']} missed, "
        f"{truth['false']} false" + (f", {truth['undecided']} not due yet" if truth["undecided"] else "")
    )
    if result["latency_ms"]["p50"] is not None:
        click.echo(
            f"  from publication to alert: p50 {result['latency_ms']['p50']} ms, p99 {result['latency_ms']['p99']} ms"
        )
    click.echo("everything is accounted for" if result["ok"] else "SOMETHING IS WRONG, see above")
    if options.data_dir is not None:
        click.echo(f"the data is kept: tocsin series --data-dir {directory / 'data'}")
