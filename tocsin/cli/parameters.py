"""Types of command line values: durations and instants, in the words that the configuration uses, too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from telemetry import parse_duration


class _Duration(click.ParamType[int]):
    """ns."""

    name = "duration"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Instant(click.ParamType[str | int]):
    """ns since the epoch (UTC), or, for a duration, as many ns before now: negative."""

    name = "time"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return -parse_duration(value)
        except ValueError:
            pass
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a duration such as 1h nor a time such as 2026-01-31T12:00:00Z", param, ctx)
        since_epoch = moment.astimezone() - datetime.fromtimestamp(0, UTC)  # without a time zone: this machine's
        return since_epoch // timedelta(microseconds=1) * 1000


class _Seconds(click.ParamType[float]):
    """s, as a plain number or a duration."""

    name = "seconds"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(value)
        except ValueError:
            try:
                seconds = parse_duration(str(value)) / 1e9
            except ValueError as error:
                self.fail(str(error), param, ctx)
        if not 1 <= seconds < 1e9:
            self.fail("write a number of seconds from 1 on, or a duration such as 5m", param, ctx)
        return seconds


SECONDS = _Seconds()
DURATION = _Duration()
INSTANT = _Instant()


def instant(value: int, now: int) -> int:
    """The ns since the epoch that an INSTANT means now."""
    return now + value if value <= 0 else value
