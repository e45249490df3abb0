"""`tocsin alerts`: what fires now, and what fired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sinks.alert_history import AlertHistory
from telemetry import AlertEvent, SystemClock
from tocsin.cli.opening import chosen_data, json_number
from tocsin.cli.options import command, data_options, json_option, print_json, wants_colour
from tocsin.cli.parameters import INSTANT, instant
from tocsin.words import iso, local, number, printable, span

_AT_MOST = 10_000


@command("tocsin alerts", "tocsin alerts --all --since 7d", "tocsin alerts --json | jq '.[].labels.device'")
@click.option("--all", "show_all", is_flag=True, help="Every firing and resolving, not only what fires now.")
@click.option("--since", type=INSTANT, default="24h", show_default=True, help="With --all: so long ago, or a time.")
@data_options
@json_option("Print a JSON array.")
def alerts(show_all: bool, since: int, config_file: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """List the alerts that fire, or all of the past."""
    data = chosen_data(config_file, data_dir)
    history = AlertHistory(data.require(data.alerts, "alerts"))
    now = SystemClock().now()
    try:
        events = history.recent(instant(since, now), _AT_MOST) if show_all else history.firing()
    finally:
        history.close()
    if as_json:
        print_json([as_object(event) for event in events])
        return
    for event in events:
        click.echo(event_line(event, now=0 if show_all else now), color=wants_colour())
    if not events:
        click.echo("no alert fires" if not show_all else "no alerts in this time", err=True)
    elif len(events) == _AT_MOST:
        click.echo(f"these are the newest {_AT_MOST}: a later --since shows others", err=True)


def event_line(event: AlertEvent, *, now: int = 0) -> str:
    """When, what, which device; with `now`, for how long what fires has been firing."""
    firing = not event.ends_at
    state = click.style(f"{event.state.upper():<8}", fg="red" if firing else "green", bold=firing)
    labels = ", ".join(f"{name}={value}" for name, value in event.labels if name != "alertname")
    at = local(event.ends_at or event.starts_at)
    length = (event.ends_at or now) - event.starts_at if event.ends_at or now else 0
    lasted = f"  for {span(max(0, length), digits=0)}" if length else ""
    summary = dict(event.annotations).get("summary") or dict(event.annotations).get("description", "")
    tail = f"  {summary}" if summary else ""
    name = dict(event.labels).get("alertname", event.rule)
    told = printable(f"{name}  {labels}  value {number(event.value)}{lasted}{tail}")
    return f"{at:%Y-%m-%d %H:%M:%S}  {state}  {told}"


def as_object(event: AlertEvent) -> dict[str, Any]:
    """With the names of Alertmanager's API v2, where it has them."""
    return {
        "labels": dict(event.labels),
        "annotations": dict(event.annotations),
        "state": str(event.state),
        "value": json_number(event.value),
        "startsAt": iso(event.starts_at),
        "endsAt": iso(event.ends_at) if event.ends_at else None,
        "detectedAt": iso(event.detected_at),
        "fingerprint": event.fingerprint,
        "rule": event.rule,
        "id": event.id,
    }
