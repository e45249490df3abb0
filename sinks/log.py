"""LogReceiver: one line for each alert that begins or ends, in the program's log or on standard output."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from typing import TextIO

from sinks.config import LogConfig
from sinks.timestamps import rfc3339
from telemetry import AlertEvent, AlertState, RetryLater

_log = logging.getLogger("tocsin.alerts")


def line_of(event: AlertEvent, *, repeat: bool = False) -> str:
    """`FIRING Hot{device="d1"} 81.5 since 2024-05-01T12:00:00Z: summary`, safe to print: whatever labels hold, it is
    one line without control characters.
    """
    labels = dict(event.labels)
    name = labels.pop("alertname", event.rule)
    inner = ", ".join(f"{n}={json.dumps(v, ensure_ascii=False)}" for n, v in labels.items())
    firing = event.state is AlertState.FIRING
    when = f"since {rfc3339(event.starts_at)}" if firing else f"at {rfc3339(event.ends_at)}"
    summary = dict(event.annotations).get("summary", "")
    line = f"{event.state.upper()} {name}{{{inner}}} {event.value:g} {when}"
    return printable(line + (f": {summary}" if summary else "") + (" (possibly a repetition)" if repeat else ""))


def printable(text: str) -> str:
    """`text` with everything escaped that could end the line, colour the terminal or reverse the writing."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class LogReceiver:
    """Tells the log, or standard output; it cannot refuse."""

    def __init__(self, config: LogConfig, *, stream: TextIO | None = None) -> None:
        self.name = config.name
        self._config = config
        self._stream = stream or sys.stdout

    def send(self, events: Sequence[AlertEvent], *, repeat: bool) -> bool:
        for event in events:
            firing = event.state is AlertState.FIRING
            if not firing and not self._config.send_resolved:
                continue
            line = line_of(event, repeat=repeat)
            if self._config.to == "log":
                _log.log(logging.WARNING if firing else logging.INFO, "%s", line)
                continue
            try:
                print(line, file=self._stream, flush=True)
            except (OSError, ValueError) as error:
                raise RetryLater(f"cannot write to standard output ({error})") from error
        return True

    def close(self) -> None:
        pass
