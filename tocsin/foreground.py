"""A pipeline in the foreground: signals, the live view, the summary at the end."""

from __future__ import annotations

import logging
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import click

from sinks.log import line_of
from telemetry import AlertEvent, Clock, TocsinError
from tocsin.backend import RunningBackend
from tocsin.config import LoadedConfig
from tocsin.http.server import listening
from tocsin.live_view import LiveView, plain_line
from tocsin.pipeline import Pipeline
from tocsin.pipeline_status import PipelineStatus
from tocsin.status import Snapshot

_log = logging.getLogger("tocsin.pipeline")
_TEND_SECONDS = 5.0


@contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM set `stop`; the second one ends the process at once, as they usually do."""
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)
        if len(received) > 1:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(
    pipeline: Pipeline,
    status: PipelineStatus,
    stop: threading.Event,
    *,
    view: bool,
    lines: Callable[[str], object] | None = None,
    every_seconds: float = 10.0,
) -> None:
    """Until `stop` is set, or until evaluation has died: show the state, trim the journal."""

    def tend() -> None:
        while not stop.wait(_TEND_SECONDS):
            _tend(pipeline)

    def guard() -> None:
        while not stop.wait(0.2):
            if pipeline.failure:
                stop.set()

    for job in (tend, guard):
        threading.Thread(target=job, name=f"tocsin-{job.__name__}", daemon=True).start()
    if view:
        LiveView(status.snapshot).run(stop)
    else:
        while not stop.wait(every_seconds):
            if lines is not None:
                lines(plain_line(status.snapshot()))


def _tend(pipeline: Pipeline) -> None:
    try:
        pipeline.tend()
    except (TocsinError, OSError) as error:  # tried again, and told again: meanwhile the disk fills up
        _log.warning("upkeep (trimming the journal, saving staleness) failed: %s", error)


def run_pipeline(loaded: LoadedConfig, *, dry_run: bool, headless: bool, clock: Clock | None = None) -> None:
    """`tocsin run`: until Ctrl-C or SIGTERM. Raises TocsinError when it cannot go on."""
    stop = threading.Event()
    with stopped_by_signals(stop), tempfile.TemporaryDirectory(prefix="tocsin-dry-run-") as scratch:
        if dry_run:
            loaded = _harmless(loaded, Path(scratch))
        pipeline = Pipeline(loaded, clock=clock, published=_print_events if dry_run else None)
        status = PipelineStatus(pipeline, title=f"tocsin {loaded.file}{' (dry run)' if dry_run else ''}")
        try:
            _run(pipeline, status, loaded.file, stop, view=sys.stdout.isatty() and not headless and not dry_run)
        finally:
            pipeline.close()
        if pipeline.failure:
            raise TocsinError(f"{pipeline.failure}, see above; nothing received is lost: restart tocsin")


def _run(pipeline: Pipeline, status: PipelineStatus, file: Path, stop: threading.Event, *, view: bool) -> None:
    with listening(pipeline.config.http, pipeline.data.http) as http:
        pipeline.start()
        try:
            if http is not None:
                http.start(RunningBackend(pipeline, status))
            if not view:
                where = f", {http.url}" if http is not None else ""
                _log.info("running with %s%s: Ctrl-C stops", file, where)
            watch(pipeline, status, stop, view=view, lines=_log.info)
        finally:
            if http is not None:
                http.stop()
            pipeline.stop()
    for line in summary(status.snapshot()):
        click.echo(line)


def summary(snapshot: Snapshot) -> Iterator[str]:
    """What happened, for the end of a run."""
    yield f"read from the journal since the start: {_counted(snapshot)}"
    for row in snapshot.accounts:
        parts = ", ".join(f"{n:,} {name}" for name, n in row.parts if n)
        mark = "=" if row.is_balanced else "≠ THIS DOES NOT ADD UP:"
        yield f"  {row.stage}: {row.received:,} {mark} {parts or 'nothing'}"
    yield f"  alerts: {snapshot.fired:,} fired, {snapshot.resolved:,} resolved"
    for error in snapshot.rule_errors:
        yield f"  {error}"
    for sink in snapshot.sinks:
        error = f" ({sink.error})" if sink.error else ""
        if sink.lag:
            yield f"  {sink.name}: {sink.lag:,} behind{error}; it goes on at the next start"
        elif error:
            yield f"  {sink.name}: nothing waits, but the last try failed{error}"


def _counted(snapshot: Snapshot) -> str:
    return f"{snapshot.messages:,} messages, {snapshot.readings:,} readings of {snapshot.series:,} series"


def _harmless(loaded: LoadedConfig, scratch: Path) -> LoadedConfig:
    """The same, but with a session and a data directory of its own, and without sinks and receivers."""
    mqtt = loaded.config.mqtt
    own = mqtt.model_copy(update={"client_id": f"{mqtt.client_id}-dry-run-{secrets.token_hex(4)}", "session_expiry": 0})
    http = loaded.config.http.model_copy(update={"enabled": False})
    changes = {"mqtt": own, "data_dir": scratch, "sinks": [], "receivers": [], "http": http}
    return replace(loaded, config=loaded.config.model_copy(update=changes))


def _print_events(events: Sequence[AlertEvent], now: int) -> None:

    del now
    for event in events:
        click.echo(line_of(event))
