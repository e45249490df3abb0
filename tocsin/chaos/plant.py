"""The plant of a campaign: simulated devices, the rules that watch them, and the configuration of the tocsin that runs.

Made so that what must be alerted can be said from the readings alone (`alert_oracle`): a device is hot for five
seconds or for one, and then cold for longer than any rule remembers. Not here: when something goes wrong (`schedule`).
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

import yaml

from simulators.publisher import Report, run
from simulators.scenario import Scenario
from telemetry import SystemClock, TocsinError
from tocsin.chaos.witness import Witness

THRESHOLD = 50.0
HOLD_NS = 2 * 10**9
WINDOW_NS = 3 * 10**9
CROWD = 2
"""More hot devices than this, of one site, are a fire."""
METRICS = ("temperature", "pressure")
GROUP = "chaos"
RULES = f"""\
groups:
  - name: {GROUP}
    interval: 1s
    rules:
      - alert: Hot
        expr: temperature > {THRESHOLD}
      - alert: HotForLong
        expr: temperature > {THRESHOLD}
        for: {HOLD_NS // 10**9}s
      - alert: HotLately
        expr: max_over_time(temperature[{WINDOW_NS // 10**9}s]) > {THRESHOLD}
      - alert: SiteHot
        expr: count by (site) (temperature > {THRESHOLD}) > {CROWD}
      - record: site:temperature:max
        expr: max by (site) (temperature)
"""
RECEIVER = "webhook"
SINK = "sink"
_DEVICES = 16
_INTERVAL = "200ms"
_DRAIN_SECONDS = 20.0


def scenario(seed: int) -> Scenario:
    """Eighty messages a second; endless."""
    fleet = {
        "name": "pump",
        "sites": ["ams", "ber"],
        "devices": _DEVICES,
        "interval": _INTERVAL,
        "metrics": {"temperature": {"level": 20, "noise": 1, "decimals": 3}, "pressure": {"level": 300, "noise": 2}},
    }
    names = [f"pump-{n:04d}" for n in range(1, _DEVICES + 1)]
    hot = {"kind": "spike", "metric": "temperature", "value": 80, "every": "10s"}
    faults = [
        {**hot, "devices": names[:8], "at": "1s", "for": "5s"},
        {**hot, "devices": names[8:12], "at": "3s", "for": "1s"},
        {"kind": "duplicate", "devices": 0.25, "rate": 0.2},
        {"kind": "malformed", "devices": names[12:14], "rate": 0.3},
    ]
    return Scenario.model_validate({"seed": seed, "fleets": [fleet], "faults": faults})


def write_config(directory: Path, *, broker: str, sink: str, receiver: str) -> Path:
    """The files of the tocsin to run, with the addresses of what is around it; the configuration file."""
    local = {"allow_private": ["127.0.0.0/8"]}
    config = {
        "data_dir": "data",
        "mqtt": {
            "url": broker,
            "client_id": "tocsin-chaos",
            "keepalive": "5s",
            "connect_timeout": "2s",
            "reconnect_delay_max": "1s",
        },
        "streams": [
            {
                "name": "telemetry",
                "topic": "sensors/{site}/{device}/telemetry",
                "format": "json",
                "time": {"field": "ts", "unit": "ms"},
            }
        ],
        "http": {"listen": "127.0.0.1:0"},
        "limits": {"max_future": "3h"},  # a clock that is set back makes all devices seem to be ahead
        "journal": {"segment_bytes": "64KiB"},
        "rules": ["rules.yml"],
        "sinks": [
            {"type": "influx", "name": SINK, "url": sink, "bucket": "chaos", "gzip": False, "timeout": "1s"},
        ],
        "receivers": [{"type": "webhook", "name": RECEIVER, "url": receiver, "timeout": "1s", **local}],
    }
    (directory / "rules.yml").write_text(RULES)
    file = directory / "tocsin.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    return file


def reading(payload: bytes) -> tuple[int, dict[str, float]] | None:
    """Time in ns and values of a message of this fleet; None if it was sent damaged."""
    try:
        fields = json.loads(payload)
        return fields["ts"] * 10**6, {metric: float(fields[metric]) for metric in METRICS}
    except (ValueError, KeyError, TypeError):
        return None


class Devices:
    """The fleet, in a thread of its own, from `start` to `stop`."""

    def __init__(self, seed: int, url: str, witness: Witness) -> None:
        self._scenario, self._url, self._witness = scenario(seed), url, witness
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._publish, name="chaos-devices", daemon=True)
        self.report: Report | None = None
        self.failure: TocsinError | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Waits for the acknowledgements that are still to come."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _publish(self) -> None:
        try:
            self.report = run(
                self._scenario,
                self._url,
                clock=SystemClock(),
                stop=self._stop,
                client_id="chaos-devices",
                sent=self._witness.note_sent,
                acknowledged=self._witness.note_published,
                drain_seconds=_DRAIN_SECONDS,
            )
        except TocsinError as error:
            self.failure = error
