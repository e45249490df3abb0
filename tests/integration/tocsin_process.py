"""`tocsin run` as a user runs it: a process with a configuration file, rules and data in a directory of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sinks.alert_history import AlertHistory
from sinks.store import Store
from telemetry import AlertEvent, SeriesTable
from tests.integration.servers import START_SECONDS, Server
from tocsin.data_dir import DataDir
from tocsin.own_alerts import is_own

TOCSIN = Path(sys.executable).parent / "tocsin"
CONNECTED = "subscribed to"
COMMAND_SECONDS = 60
STREAM = {
    "name": "telemetry",
    "topic": "sensors/{site}/{device}/telemetry",
    "format": "json",
    "time": {"field": "ts", "unit": "ms"},
}
"""How the simulated fleets report."""
Stored = dict[str, dict[int, float]]
"""Series, as text → time in ns → value."""


def tocsin(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    command = [TOCSIN, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)


class Tocsin(Server):
    """`log` is the process' standard error, `output` its standard output; both grow over restarts."""

    def __init__(self, directory: Path, config: Mapping[str, Any], *, rules: str | None = None) -> None:
        self.config = directory / "tocsin.yaml"
        super().__init__([TOCSIN, "run", "-c", self.config], directory=directory, port=0)
        self.output = directory / "output"
        self.data = DataDir(directory / config.get("data_dir", "data"))
        self._log_before = 0
        if rules is not None:
            (directory / "rules.yml").write_text(rules)
            config = {"rules": ["rules.yml"], **config}
        http = {"listen": "127.0.0.1:0"}
        self.configure({"data_dir": "data", "streams": [STREAM], "receivers": [], "http": http, **config})

    def configure(self, config: Mapping[str, Any]) -> None:
        self.config.write_text(yaml.safe_dump(dict(config), sort_keys=False))

    def change(self, **keys: Any) -> None:
        """For the next start."""
        self.configure({**yaml.safe_load(self.config.read_text()), **keys})

    def start(self, *, until: str = CONNECTED) -> None:
        """Returns when the log says so."""
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        while not self.says(until):
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"tocsin does not say {until!r}; its log:\n{self.log_tail()}", pytrace=False)
            time.sleep(0.01)

    def launch(self, *more: str) -> None:
        assert self.process is None, "tocsin runs already"
        self._log_before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log, self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [*self.command, *more], stdin=subprocess.DEVNULL, stdout=output, stderr=log, cwd=self.directory
            )

    def said(self) -> str:
        """The log since the last start."""
        return self.log.read_bytes()[self._log_before :].decode() if self.log.exists() else ""

    def says(self, words: str) -> bool:
        return words in self.said()

    def stop(self) -> None:
        """SIGTERM; it must end well, and its accounts must balance."""
        process = self.process
        super().stop()
        assert process is None or process.returncode == 0, f"exit code {process.returncode}\n{self.log_tail()}"
        assert "DOES NOT ADD UP" not in self.output.read_text()
        assert not [event for event in self.all_alerts() if event.rule.endswith("AccountingImbalance")]

    def view(self, *arguments: str) -> Any:
        """What a viewing command prints as JSON."""
        done = tocsin(*arguments, "--json", "-c", self.config)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def count(self) -> int:
        """Readings in the store."""
        if not self.data.store.exists():
            return 0
        with Store(self.data.store, read_only=True) as store:
            return store.count()

    def wait_stored(self, count: int, *, seconds: float = START_SECONDS) -> None:
        """Until so many readings are in the store; looks seldom enough to leave the machine to the program."""
        deadline = time.monotonic() + seconds
        while (have := self.count()) < count:
            if time.monotonic() > deadline:
                pytest.fail(f"{have} of {count} readings are stored after {seconds:g} s")
            time.sleep(0.1)

    def stored(self) -> Stored:
        table = SeriesTable(self.data.series, read_only=True)
        with Store(self.data.store, read_only=True) as store:
            rows = store.read_many(list(range(len(table))))
        found = {str(table[i]): dict(zip(t.tolist(), v.tolist(), strict=True)) for i, (t, v) in rows.items()}
        return {series: readings for series, readings in found.items() if readings}

    def alerts(self) -> list[AlertEvent]:
        """Those of rules, in the order in which they were published."""
        return [event for event in self.all_alerts() if not is_own(event)]

    def all_alerts(self) -> list[AlertEvent]:
        """With tocsin's own."""
        if not self.data.alerts.exists():
            return []
        history = AlertHistory(self.data.alerts)
        try:
            return history._events("1 ORDER BY seq")
        finally:
            history.close()


def differences(found: Stored, expected: Stored) -> list[str]:
    """The first of them, in words: thousands of readings make no useful diff."""
    lines = [f"series {series} is missing" for series in expected.keys() - found.keys()]
    lines += [f"series {series} is too much" for series in found.keys() - expected.keys()]
    for series in sorted(found.keys() & expected.keys()):
        have, want = found[series], expected[series]
        lines += [f"{series} at {t}: {have.get(t)} instead of {want.get(t)}" for t in sorted(have.keys() | want.keys())
                  if have.get(t) != want.get(t)]  # fmt: skip
    return lines[:10]
