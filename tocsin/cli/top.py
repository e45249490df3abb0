"""`tocsin top`: what keeps the running tocsin busy, again and again."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import urllib3
from rich.console import Console

from telemetry import TocsinError
from tocsin.cli.opening import chosen_data
from tocsin.cli.options import command, data_options, json_option
from tocsin.cli.status import ask
from tocsin.data_dir import DataDir
from tocsin.http.instance import Instance, read_instance
from tocsin.status_json import to_json
from tocsin.top_view import BusyDevice, BusyRule, Top, TopView

_ANSWER_SECONDS = 5.0
_MOST = 50
_PRINTED_LINES = 60
_DEVICES = f"/api/v1/tocsin/devices?order=busiest&limit={_MOST}"
_RULES = "/api/v1/rules?exclude_alerts=false"


@command("tocsin top", "tocsin top --every 5", "tocsin top --once | head -40", "tocsin top --json | jq '.devices[0]'")
@click.option(
    "--every", type=click.FloatRange(0.2, 3_600), default=1.0, show_default=True, help="Seconds between two looks."
)
@click.option("--once", is_flag=True, help="One look, then end; also without a terminal.")
@data_options
@json_option("Print one look as a JSON object.")
def top(every: float, once: bool, config_file: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Show what keeps the running tocsin busy.

    Rates, lags, accounts, the busiest devices, the most expensive rules, alerts. Until Ctrl-C.
    """
    source = _Source(chosen_data(config_file, data_dir))
    if as_json:
        click.echo(json.dumps(source.json(), ensure_ascii=False))
        return
    if once or not sys.stdout.isatty():
        TopView(source.top, console=Console(height=_PRINTED_LINES), refresh_seconds=every).show_once()
        return
    TopView(source.top, refresh_seconds=every).run(threading.Event())


class _Source:
    """The tocsin that runs with this data."""

    def __init__(self, data: DataDir) -> None:
        self._data = data

    def top(self) -> Top:
        """Raises TocsinError if there is none, or it does not answer."""
        instance = self._instance()
        snapshot = ask(instance)
        if snapshot is None:
            raise TocsinError(_nobody(self._data))
        return Top(
            snapshot,
            [_device(row) for row in _get(instance, _DEVICES)["devices"]],
            _by_cost(_get(instance, _RULES)["data"]["groups"]),
        )

    def json(self) -> dict[str, Any]:
        """The same for machines, as the HTTP API says it."""
        top, instance = self.top(), self._instance()
        return {
            "status": json.loads(to_json(top.snapshot)),
            "devices": _get(instance, _DEVICES)["devices"],
            "rules": [
                {"rule": r.rule, "health": r.health, "firing": r.firing, "pending": r.pending, "cpu_share": r.share}
                for r in top.rules
            ],
        }

    def _instance(self) -> Instance:
        instance = read_instance(self._data.http)
        if instance is None:
            raise TocsinError(_nobody(self._data))
        return instance


def _nobody(data: DataDir) -> str:
    return f"no tocsin runs with {data.path}: start `tocsin run -c FILE` or `tocsin demo`, or name another --data-dir"


def _get(instance: Instance, path: str) -> Any:
    try:
        answer = instance.client(_ANSWER_SECONDS).request("GET", instance.url + path)
    except urllib3.exceptions.HTTPError as error:
        raise TocsinError(f"{instance.url} does not answer ({error}): is tocsin busy?") from error
    if answer.status != 200:
        raise TocsinError(f"{instance.url}{path} answers {answer.status}: is it this version of tocsin?")
    return json.loads(answer.data)


def _device(row: dict[str, Any]) -> BusyDevice:
    skew = row["clock_skew_seconds"]
    return BusyDevice(
        device=row["device"],
        state=row["state"],
        readings_per_second=row["readings_per_second"],
        last_seen=_ns(row["last_seen"]),
        skew=None if skew is None else round(skew * 1e9),
        firing=row["firing"],
    )


def _ns(instant: str | None) -> int:
    return round(datetime.fromisoformat(instant).timestamp() * 1e9) if instant else 0


def _by_cost(groups: Sequence[dict[str, Any]]) -> list[BusyRule]:
    found = [
        BusyRule(
            rule=f"{group['name']}/{rule['name']}",
            health=rule["health"],
            firing=sum(alert["state"] == "firing" for alert in rule.get("alerts", ())),
            pending=sum(alert["state"] == "pending" for alert in rule.get("alerts", ())),
            share=rule["evaluationTime"],
        )
        for group in groups
        for rule in group["rules"]
    ]
    return sorted(found, key=lambda rule: (-rule.share, -rule.firing - rule.pending, rule.rule))[:_MOST]
