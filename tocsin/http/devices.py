"""/api/v1/tocsin/devices: what is known of each device. Not here: how that is known (`tocsin.devices`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from heapq import nlargest
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Path, Query
from pydantic import Field

from ingest.guarantee import LEVELS, Level
from rules import Alert
from telemetry import TocsinError
from tocsin.backend import Backend
from tocsin.devices import DeviceRow
from tocsin.http.resource import (
    NOT_FOUND,
    Answer,
    Cursor,
    Instant,
    LabelPairs,
    Labels,
    Limit,
    Page,
    Text,
    Value,
    Words,
    from_cursor,
    instant,
    label_pairs,
    not_found,
    resources,
    seconds,
    to_cursor,
    value,
)

_MOST_SERIES = 1_000


class Device(Answer):
    """A device."""

    device: Text = Field(examples=["sensor-0017"])
    labels: Labels = Field(description="Those that all its series have in common.", examples=[{"site": "north"}])
    streams: list[Text] = Field(description="On which it has been heard since the start.")
    state: Literal["reporting", "silent", "never"] = Field(
        description="silent: nothing for three intervals or, while none is known, for as long as its readings count in "
        "rules; never: nothing is known of it but its name."
    )
    last_seen: Instant = Field(description="Our clock at its newest reading.")
    last_time: Instant = Field(description="Its own time of its newest reading.")
    interval_seconds: float | None = Field(description="How often it reports, learned; null: not known yet.")
    clock_skew_seconds: float | None = Field(
        description="By how much its clock is behind, with the way to us; negative: ahead; null: not known yet."
    )
    readings_per_second: float = Field(description="Over the last minute.")
    guarantee: Text = Field(
        description="What is promised now for its messages, the least of its streams: G2, G0 or none; empty: not known."
    )
    series: int = Field(description="How many it has.", ge=0)
    firing: int = Field(description="How many alerts fire with its name.", ge=0)


class DevicePage(Page):
    """Some of the devices."""

    devices: list[Device]
    total: int = Field(description="How many there are that the filters let through, on all pages.", ge=0)


class SeriesOfDevice(Answer):
    """A series and its newest stored reading."""

    metric: Text
    labels: Labels
    time: Instant = Field(description="Of the reading; null: none is stored.")
    value: Value = Field(description="Of the reading.")


class AlertOfDevice(Answer):
    """An alert that is pending or fires."""

    rule: Text
    state: Literal["pending", "firing"]
    labels: Labels
    annotations: Labels
    active_at: Instant = Field(description="Its own time since when the condition holds.")
    value: Value


class DeviceDetail(Device):
    """A device with its series and alerts."""

    all_series: list[SeriesOfDevice] = Field(description="At most 1,000 of its series.")
    alerts: list[AlertOfDevice] = Field(description="Those that are pending or fire, at most 1,000.")


def router(backend: Backend) -> APIRouter:
    """Its routes."""
    routes = resources("devices")

    @routes.get("/devices", summary="Devices by name", operation_id="list_devices")
    def devices(
        search: Annotated[Words, Query(description="Only those whose name or labels hold this text.")] = None,
        device: Annotated[Words, Query(description="Only the one with exactly this name.")] = None,
        state: Annotated[Literal["reporting", "silent", "never"] | None, Query(description="Only these.")] = None,
        stream: Annotated[Words, Query(description="Only those heard on this stream.")] = None,
        label: LabelPairs = [],  # noqa: B006  # FastAPI makes a new one for each request
        order: Annotated[
            Literal["name", "busiest"], Query(description="busiest: those that send most first, on one page only.")
        ] = "name",
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> DevicePage:
        """All devices that the filters let through, in pages."""
        after = from_cursor(cursor, str)
        wanted = _wanted(search, device, state, stream, label)
        found = [row for row in backend.devices() if wanted(row)]
        promised = _guarantees(backend)
        if order == "busiest":
            most = nlargest(limit, found, key=lambda row: row.rate)
            return DevicePage(
                devices=[Device.model_validate(_fields(row, promised)) for row in most],
                total=len(found),
                next_cursor=None,
            )
        begin = 0 if after is None else next((i for i, row in enumerate(found) if row.device > after[0]), len(found))
        page = found[begin : begin + limit]
        more = to_cursor(page[-1].device) if begin + limit < len(found) else None
        devices = [Device.model_validate(_fields(row, promised)) for row in page]
        return DevicePage(devices=devices, total=len(found), next_cursor=more)

    @routes.get("/devices/{device:path}", summary="One device", operation_id="show_device", responses=NOT_FOUND)
    def device(
        device: Annotated[str, Path(description="Its name, percent-encoded; it may hold `%2F`.", min_length=1)],
    ) -> DeviceDetail:
        """What is known of one device, its series and its alerts.

        Names that clients change in a path (`.` and `..`) are found with `/devices?device=NAME`.
        """
        row = next((row for row in backend.devices() if row.device == device), None)
        if row is None:
            raise not_found(f"there is no device {device[:200]!r}: /devices?search= finds parts of names")
        alerts = [alert for alert in backend.alerts() if dict(alert.labels).get("device") == device]
        return DeviceDetail.model_validate(
            _fields(row, _guarantees(backend))
            | {
                "all_series": list(_series(backend, device)),
                "alerts": [_alert(alert) for alert in alerts[:_MOST_SERIES]],
            }
        )

    return routes


def _wanted(
    search: str | None, device: str | None, state: str | None, stream: str | None, labels: list[str]
) -> Callable[[DeviceRow], bool]:
    text, pairs = search.casefold() if search else "", label_pairs(labels)

    def wanted(row: DeviceRow) -> bool:
        return (
            (not text or text in row.device.casefold() or any(text in said.casefold() for _, said in row.labels))
            and (device is None or row.device == device)
            and (state is None or row.state == state)
            and (stream is None or stream in row.streams)
            and all(pair in row.labels for pair in pairs)
        )

    return wanted


def _guarantees(backend: Backend) -> dict[str, Level]:
    """By stream, where it is known."""
    return {row.name: level for row in backend.snapshot().streams for level in LEVELS if level == row.guarantee}


def _fields(row: DeviceRow, promised: Mapping[str, Level]) -> dict[str, object]:
    levels = [promised[stream] for stream in row.streams if stream in promised]
    return {
        "guarantee": min(levels, key=LEVELS.index, default=""),
        "device": row.device,
        "labels": dict(row.labels),
        "streams": list(row.streams),
        "state": row.state,
        "last_seen": instant(row.last_seen),
        "last_time": instant(row.last_time),
        "interval_seconds": seconds(row.interval),
        "clock_skew_seconds": seconds(row.skew),
        "readings_per_second": row.rate,
        "series": row.series,
        "firing": row.firing,
    }


def _series(backend: Backend, device: str) -> Iterator[SeriesOfDevice]:
    table = backend.table
    ids = table.with_label("device", device)[:_MOST_SERIES]
    try:
        times, values = backend.store.latest(ids)
    except TocsinError:  # no store yet
        times, values = np.zeros(len(ids), np.int64), np.full(len(ids), np.nan)
    for id_, time, newest in zip(ids.tolist(), times.tolist(), values.tolist(), strict=True):
        series = table[id_]
        yield SeriesOfDevice(
            metric=series.metric,
            labels=dict(series.labels),
            time=instant(time),
            value=value(newest) if time else None,
        )


def _alert(alert: Alert) -> AlertOfDevice:
    return AlertOfDevice(
        rule=alert.rule,
        state="firing" if alert.state == "firing" else "pending",
        labels=dict(alert.labels),
        annotations=dict(alert.annotations),
        active_at=instant(alert.active_at),
        value=value(alert.value),
    )
