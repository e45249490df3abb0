"""Evaluation: the thread that carries the feed's readings and ticks through the rules, and what comes of them on.

Events go to the outbox, recorded samples back into the journal. Here: recovery (snapshot, then replay), the order of
what is made durable. Not here: how rules are evaluated, which recorded samples are written (`recording`).

State is rebuilt in one of two ways. With a snapshot of the same rules: from there, and every event is published; the
outbox knows those it has. Otherwise the journal is read from its start; what happened before the offset up to which
events were published is past, so nobody is told of it: only what fires by then is published, and what the outbox
believes to be firing but is not, because its rule has changed or is gone, is resolved.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ingest.feed import Feed
from ingest.journal import JournalError
from ingest.streams import StreamConfig
from rules import Alert, Engine, Record, Rule, RuleGroup
from sinks.outbox import Outbox
from telemetry import LIVE, AlertEvent, AlertState, Clock, Counters, Cursor, ReadingBatch, RetryLater, Tick
from tocsin.own_alerts import is_own
from tocsin.recording import Recorder
from tocsin.snapshot_file import Arrays, Snapshots
from tocsin.tracing import Span, no_span

_log = logging.getLogger("tocsin.pipeline")
_IDLE_SECONDS = 0.2
_MAX_RECORDS = 10_000
_LINGER_SECONDS = 0.01
"""While more keeps coming, a batch gathers for so long: small batches cost more a reading, and the broker wants the
processor, too."""
_RETRY_SECONDS = 1.0
_SNAPSHOT_SECONDS = 30.0
_SHOWN_ALERTS = 200
_ACTIVE_SECONDS = 1.0
_COSTS = 10
_ANSWER_SECONDS = 2.0
_LATENCIES = 10_000
_NUMBERS = re.compile(r"\d+")

Published = Callable[[Sequence[AlertEvent], int], None]
"""Told of new events, and of our clock when they were durable in the outbox (ns)."""


def rules_fingerprint(groups: Sequence[RuleGroup], streams: Sequence[StreamConfig]) -> str:
    """Changes with anything that changes what the rules say."""
    text = repr([_said(rule) for group in groups for rule in group.rules])
    text += repr([(stream.name, stream.topic, stream.staleness) for stream in streams])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _said(rule: Rule | Record) -> tuple[object, ...]:
    """All that decides when a rule is true, or what it records; annotations do not."""
    options = rule.id, rule.expr, rule.interval, rule.limit, rule.query_offset, rule.compat
    if isinstance(rule, Record):
        return "record", *options, rule.record, rule.labels
    return "alert", *options, rule.hold, rule.keep, str(rule.no_data), [(name, t.text) for name, t in rule.labels]


class Evaluation:
    """Runs in a thread of its own from `start` to `stop`; other threads may read its public attributes."""

    def __init__(
        self,
        feed: Feed,
        engine: Engine,
        outbox: Outbox,
        recorder: Recorder,
        *,
        cursor: Cursor,
        end: int,
        snapshots: Snapshots,
        clock: Clock,
        counters: Counters,
        published: Published | None = None,
        span: Span = no_span,
    ) -> None:
        """`cursor`: up to where all was published and recorded; `end`: of the journal, now."""
        self._feed, self._engine, self._outbox, self._recorder = feed, engine, outbox, recorder
        self._end = end
        self._cursor, self._snapshots = cursor, snapshots
        self._clock, self._counters = clock, counters
        self._published, self._span = published, span
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tocsin-evaluation", daemon=True)
        self._snapshot_at = self._cursor_at = time.monotonic()
        self._record_again_at = 0.0
        """When what waits to be recorded is tried again, by time.monotonic; 0 while all is well."""
        self._past_until = 0
        self._past: dict[tuple[str, tuple[tuple[str, str], ...]], AlertEvent] = {}
        self._now = 0
        self._dropped = 0
        """Samples that the engine's windows had dropped when they were last counted"""
        self.waiting = 0
        """Rows that the feed has handed out and that have not been evaluated yet."""
        self.failure: BaseException | None = None
        """Why the thread died, if it did."""
        self.last_error = ""
        self.standstill: tuple[str, int] | None = None
        """Why it waits, and by our clock since when (ns); None while it goes on."""
        self.alerts: list[Alert] = []
        """Some of those that are pending or firing, as of a moment ago."""
        self._asked, self._answered = threading.Event(), threading.Condition()
        self._active: tuple[float, list[Alert]] = (-math.inf, [])
        """When it was found, by time.monotonic, and all that was pending or firing then."""
        self._spent: deque[tuple[float, NDArray[np.float64]]] = deque([(time.monotonic(), engine.spent.copy())], _COSTS)
        self.errors: dict[str, str] = {}
        """By rule id: why it cannot be evaluated, as of a moment ago."""
        self.latencies: deque[int] = deque(maxlen=_LATENCIES)
        """ns from receipt (or tick) to the event being durable, of the latest events."""
        self.snapshot_offset = 0
        """The journal is still needed from here on, to go on from the older of two snapshots."""

    def recover(self) -> None:
        """Take up the state; before `start`."""
        arrays = self._snapshots.load(end=self._end)
        if arrays is not None:
            self._feed.restore(_part(arrays, "feed."))
            self._engine.restore(_part(arrays, "engine."))
            self._recorder.begin(self._feed.offset)
        else:
            self._past_until = min(max(self._cursor.offset, self._outbox.published_to()), self._end)
            self._recorder.begin(min(self._cursor.offset, self._end))  # the outbox may be ahead of what is recorded
        self._dropped = self._engine.dropped
        self.snapshot_offset = self._snapshots.needed

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish what has been read, save the state, end."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def active(self) -> list[Alert]:
        """All alerts that are pending or firing, at most a second old; older only while evaluation is stuck."""
        with self._answered:
            if time.monotonic() - self._active[0] > _ACTIVE_SECONDS:
                self._asked.set()
                self._answered.wait_for(lambda: not self._asked.is_set(), _ANSWER_SECONDS)
            return self._active[1]

    def costs(self) -> dict[str, float]:
        """By rule id: the share of a processor that it took in the last seconds."""
        (began, before), (ended, after) = self._spent[0], self._spent[-1]
        shares = (after - before) / max(ended - began, 1e-9)
        return dict(zip(self._engine.ids, shares.tolist(), strict=True))

    @property
    def is_replaying(self) -> bool:
        """Whether the past is being read, of which nobody is told again."""
        return self._feed.offset < self._past_until

    @property
    def _may_save(self) -> bool:
        """Whether all that has been evaluated is where it belongs, so that it need not be evaluated again."""
        return not self.is_replaying and self._recorder.is_settled

    def _run(self) -> None:
        try:
            self._end_past()
            self._record()
            while not self._stopping.is_set():
                self._advance()
            if self._record_again_at:
                _log.warning("stopped before recorded series could be written: they come at the next start")
            self._save()
        except RetryLater as error:  # only once we are to stop; what is saved is the state before these events
            _log.warning("stopped before alerts could be written (%s): they come at the next start", error)
        except BaseException as error:  # noqa: BLE001  # whatever it is, it must be seen from outside
            self.failure = error
            _log.exception("evaluation has stopped: this is a bug; nothing received is lost, restart tocsin")

    def _advance(self) -> None:
        past = self._past_until - self._feed.offset
        try:
            limit = min(past, _MAX_RECORDS) if past > 0 else _MAX_RECORDS
            items = self._feed.poll(_IDLE_SECONDS, limit=limit, linger=_LINGER_SECONDS)
        except RetryLater as error:
            self._wait(error)
            return
        self.standstill = None
        self.waiting = sum(len(item) for item in items if not isinstance(item, Tick))
        for item in items:
            behind = self._feed.offset
            if isinstance(item, Tick):
                behind, self._now = item.offset + 1, item.time
                events = self._engine.tick(item)
            else:
                if len(item):
                    behind = int(item.offset[-1]) + 1
                with self._span("rules.evaluate", readings=len(item), last_offset=behind - 1):
                    events = self._engine.apply(item)
                self._count(item)
            if past > 0:
                self._past |= {(e.rule, e.labels): e for e in events}
            elif events:
                self._publish(events, behind)
            self._recorder.add(self._engine.take_recorded(), behind)
        dropped, self._dropped = self._engine.dropped - self._dropped, self._engine.dropped
        self._counters.add("rules.dropped", dropped, "window_full")
        self._end_past()
        self._record()
        now = time.monotonic()
        if self._asked.is_set():
            with self._answered:
                self._active = now, list(self._engine.active())
                self._asked.clear()
                self._answered.notify_all()
        if now - self._cursor_at > _RETRY_SECONDS:
            self._cursor_at = now
            self._spent.append((now, self._engine.spent.copy()))
            self.alerts = list(islice(self._engine.active(), _SHOWN_ALERTS))
            self._notice_errors()
            self._save_cursor()
        if now - self._snapshot_at > _SNAPSHOT_SECONDS:
            self._save()

    def _count(self, batch: ReadingBatch) -> None:
        live = int((batch.flags == LIVE).sum())
        self.waiting -= len(batch)
        self._counters.add("rules.evaluated", live)
        self._counters.add("rules.passed_over", len(batch) - live)

    def _publish(self, events: Sequence[AlertEvent], offset: int) -> None:
        """Until it has worked: an event that is not in the outbox would be lost.

        `offset`: what is before it has brought about no other events than these and those published before.
        """
        while True:
            try:
                new = self._outbox.publish(events, offset=offset)
                break
            except RetryLater as error:
                self._wait(error)
                if self._stopping.is_set():
                    raise
        if not self._record_again_at:
            self.last_error = ""
        now = self._clock.now()
        self._counters.add("alerts.published", len(new))
        for event in new:
            self._counters.add(f"alerts.{event.state}")
            self.latencies.append(max(0, now - event.detected_at))
        if new and self._published is not None:
            self._published(new, now)

    def _record(self) -> None:
        """Alerts do not wait for it: while the journal takes nothing, there is nothing new to be evaluated either."""
        if time.monotonic() < self._record_again_at:
            return
        try:
            self._recorder.write(self._feed.offset)
        except JournalError as error:
            self._record_again_at = time.monotonic() + _RETRY_SECONDS
            self._complain(f"recorded series wait: {error}; trying again, nothing is lost")
        else:
            self._record_again_at = 0.0

    def _notice_errors(self) -> None:
        """Tell of the rules that are in error, each time that one comes to be so, or is so for another reason."""
        before, now = self.errors, self._engine.errors()
        for rule, why in now.items():
            if _NUMBERS.sub("", why) != _NUMBERS.sub("", before.get(rule, "")):
                _log.warning("rule %s cannot be evaluated: %s; it stays as it is meanwhile", rule, why)
        for rule in before.keys() - now.keys():
            _log.info("rule %s can be evaluated again", rule)
        self.errors = now

    def _end_past(self) -> None:
        """When the replay has reached the offset of the last publication: settle what is different from then."""
        if self._past_until == 0 or self.is_replaying:
            return
        self._past_until = 0
        firing = {(a.rule, a.labels) for a in self._engine.active() if a.state == "firing"}
        known = {(e.rule, e.labels): e for e in self._outbox.firing() if not is_own(e)}
        gone = [
            replace(e, id="", state=AlertState.RESOLVED, ends_at=max(self._now, e.starts_at), detected_at=self._now)
            for key, e in known.items()
            if key not in firing
        ]
        begun = [e for key, e in self._past.items() if e.state is AlertState.FIRING and key not in known]
        self._past = {}
        if gone or begun:
            self._publish([*gone, *begun], self._feed.offset)

    def _wait(self, error: RetryLater) -> None:
        since = self.standstill[1] if self.standstill else self._clock.now()
        self.standstill = str(error), since
        self._complain(f"{error}; trying again, nothing is lost")
        self._clock.sleep(error.retry_after or _RETRY_SECONDS, self._stopping)

    def _complain(self, error: str) -> None:
        if error != self.last_error:
            _log.warning("%s", error)
        self.last_error = error

    def _save_cursor(self) -> None:
        """Not being able to only means that after a crash more is evaluated again."""
        if self._record_again_at:
            return
        try:
            if self._may_save and self._feed.offset != self._cursor.offset:
                self._cursor.save(self._feed.offset)
            self.last_error = ""
        except OSError as error:
            self._complain(f"rules: cannot save the cursor ({error.strerror}): check the disk")

    def _save(self) -> None:
        """The snapshot, and with it the cursor. Not being able to only means a longer replay after a crash."""
        self._snapshot_at = time.monotonic()
        if not self._may_save:
            return
        try:
            arrays: Arrays = {f"feed.{name}": a for name, a in self._feed.state().items()}
            arrays |= {f"engine.{name}": a for name, a in self._engine.snapshot().items()}
            self._snapshots.save(self._feed.offset, arrays)
            self._save_cursor()
            self.snapshot_offset = self._snapshots.needed
        except (RetryLater, OSError) as error:
            _log.warning("cannot save the snapshot (%s); going on, a restart will take longer", error)


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
