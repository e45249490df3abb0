"""/api/v1/tocsin/pipeline: what tocsin tells of itself, for programs. Not here: the figures (`pipeline_status`).

`/api/v1/status/tocsin` has the same and more, in the words and units that `tocsin status` reads.
"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import Field

from tocsin.backend import Backend
from tocsin.http.operations import not_ready
from tocsin.http.resource import Answer, Instant, Text, instant, resources, seconds
from tocsin.status import AccountRow, JournalRow, SessionRow, SinkRow, Snapshot


class Session(Answer):
    """The connection to the broker."""

    url: Text = Field(description="Without credentials.")
    state: Text = Field(description="connecting, connected, disconnected, refused or stopped.")
    since: Instant
    last_message: Instant
    last_error: Text
    reconnects: int


class Journal(Answer):
    """The event log."""

    start: int = Field(description="The oldest offset that is kept.")
    end: int = Field(description="The next offset to be written.")
    bytes: int
    free_bytes: int | None = Field(description="By so much it may still grow; null: not known.")
    seconds_to_full: float | None = Field(description="If sinks go on lagging; null: never, or not known.")
    error: Text = Field(description="Why it cannot be written; empty: it can.")


class Stage(Answer):
    """What came of everything that one stage received: received = sum of the outcomes, always."""

    stage: Text = Field(examples=["readings"])
    received: int
    outcomes: dict[str, int] = Field(
        description="In the order of the path.", examples=[{"live": 812, "late": 3, "in flight": 0}]
    )
    causes: dict[str, dict[Text, int]] = Field(description="Of some outcomes, how many by cause.")
    missing: int = Field(description="How many are not accounted for; negative: more came out than in.")
    balanced: bool


class Sink(Answer):
    """A sink or receiver, and how far it is behind."""

    name: Text
    kind: Literal["sink", "receiver"]
    state: Text = Field(description="running, retrying or stopped.")
    lag: int = Field(description="Records of the journal (of a receiver: alert events) that are still to come.")
    written: int
    error: Text


class Standstill(Answer):
    """Rules wait; what is received meanwhile is evaluated later."""

    error: Text
    since: Instant


class Pipeline(Answer):
    """The state of a tocsin; counts are since its start."""

    running: bool = Field(description="false: nobody runs, it is what the files tell.")
    ready: bool = Field(description="Whether messages are received and evaluated now.")
    not_ready_because: list[Text]
    version: str
    time: Instant
    started: Instant
    session: Session | None
    journal: Journal | None
    messages: int
    readings: int
    messages_per_second: float
    readings_per_second: float
    series: int
    firing: int
    fired: int
    resolved: int
    alert_latency_p50_seconds: float | None = Field(description="From receipt to the alert being on disk.")
    alert_latency_p99_seconds: float | None
    accounts: list[Stage]
    imbalances: list[Text] = Field(description="Stages whose books have not balanced for some seconds.")
    sinks: list[Sink]
    standstill: Standstill | None
    rule_errors: list[Text]
    errors: list[Text] = Field(description="The last errors, newest last.")


def router(backend: Backend) -> APIRouter:
    """Its routes."""
    routes = resources("pipeline")

    @routes.get("/pipeline", summary="Rates, lags and accounting of the pipeline", operation_id="show_pipeline")
    def pipeline() -> Pipeline:
        """Where everything is that was received, and who is behind."""
        return _told(backend.snapshot())

    return routes


def _told(s: Snapshot) -> Pipeline:
    reasons = list(not_ready(s)) if s.running else ["tocsin does not run"]
    return Pipeline(
        running=s.running,
        ready=not reasons,
        not_ready_because=reasons,
        version=s.version,
        time=instant(s.time),
        started=instant(s.started),
        session=_session(s.session) if s.session else None,
        journal=_journal(s.journal) if s.journal else None,
        messages=s.messages,
        readings=s.readings,
        messages_per_second=s.messages_per_second,
        readings_per_second=s.readings_per_second,
        series=s.series,
        firing=s.firing,
        fired=s.fired,
        resolved=s.resolved,
        alert_latency_p50_seconds=seconds(s.latency_p50),
        alert_latency_p99_seconds=seconds(s.latency_p99),
        accounts=[_stage(row) for row in s.accounts],
        imbalances=list(s.imbalances),
        sinks=[_sink(row) for row in s.sinks],
        standstill=Standstill(error=s.standstill.error, since=instant(s.standstill.since)) if s.standstill else None,
        rule_errors=list(s.rule_errors),
        errors=list(s.errors),
    )


def _session(row: SessionRow) -> Session:
    return Session(
        url=row.url,
        state=row.state,
        since=instant(row.since),
        last_message=instant(row.last_message),
        last_error=row.last_error,
        reconnects=row.reconnects,
    )


def _journal(row: JournalRow) -> Journal:
    return Journal(
        start=row.start,
        end=row.end,
        bytes=row.bytes,
        free_bytes=row.free_bytes,
        seconds_to_full=row.seconds_to_full,
        error=row.error,
    )


def _stage(row: AccountRow) -> Stage:
    return Stage(
        stage=row.stage,
        received=row.received,
        outcomes=dict(row.parts),
        causes=row.causes,
        missing=row.missing,
        balanced=row.is_balanced,
    )


def _sink(row: SinkRow) -> Sink:
    return Sink(
        name=row.name,
        kind="receiver" if row.kind == "receiver" else "sink",
        state=row.state,
        lag=row.lag,
        written=row.written,
        error=row.error,
    )
