"""The pipeline: this file is the picture of it. Here: which parts there are, and who hands what to whom.

    device ──MQTT──▶ broker ──▶ Session ──▶ Inbox ──▶ Receiver ──fsync──▶ Journal        (then PUBACK)
                                                                              │
                                         Feed: decodes once, flags late and duplicate rows
                                  ┌───────────────────────────┼───────────────────────────┐
                                  ▼                           ▼                           ▼
                         Evaluation (rules)           Consumer ▶ StoreSink       Consumer ▶ InfluxSink …
                                  │   └─▶ Recorder ──▶ Journal       (recorded series come as all others do)
                                  ▼ AlertEvents
                               Outbox ──▶ Delivery ▶ webhook, Delivery ▶ log …

Every consumer has its own thread and its own cursor on the journal: one that is slow or down lags, and harms nobody.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from ingest.dead_letters import DeadLetters
from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.guarantee import Wanted
from ingest.reception import JournalSettings, Reception, SessionSettings
from ingest.remote_reception import RemoteReception
from ingest.replay_queue import ReplayQueue
from ingest.room import Room
from rules import Engine
from sinks.config import LogConfig, WebhookConfig
from sinks.consumer import Consumer, ConsumerState
from sinks.delivery import Delivery
from sinks.influx import InfluxSink
from sinks.log import LogReceiver
from sinks.outbox import Outbox
from sinks.sink import Receiver as AlertReceiver
from sinks.sink import Sink, Step
from sinks.store import Store
from sinks.store_sink import StoreSink
from sinks.webhook import WebhookReceiver
from telemetry import AlertEvent, Clock, Counters, Cursor, ReadingBatch, SeriesTable, SystemClock, TocsinError
from tocsin.accounts import Accounts, Stages
from tocsin.audit import Audit
from tocsin.config import Config, LoadedConfig
from tocsin.devices import Devices
from tocsin.evaluation import Evaluation, Published, rules_fingerprint
from tocsin.ledger import Ledger
from tocsin.live_events import LiveEvents
from tocsin.own_alerts import OwnAlerts, Trouble, troubles
from tocsin.points import parking
from tocsin.recording import Recorder
from tocsin.replay import Replay
from tocsin.rule_record import save_rules
from tocsin.snapshot_file import Snapshots, read_to
from tocsin.staleness_file import load_staleness, save_staleness
from tocsin.stream_record import remember_filters, save_streams
from tocsin.tracing import Tracing

_log = logging.getLogger("tocsin.pipeline")
_FINISH_SECONDS = 2.0
_FINISH_PAUSE_SECONDS = 0.01
_ENOUGH_PROCESSORS = 4


class Pipeline:
    """All parts of one running tocsin. `start`, `stop`, `close`, once each and from one thread."""

    def __init__(self, loaded: LoadedConfig, *, clock: Clock | None = None, published: Published | None = None) -> None:
        """Opens every file (`close` closes them), and nothing outside. Raises TocsinError if one cannot be used."""
        config = loaded.config
        self.config, self.data, self.groups = config, loaded.data_dir, loaded.groups
        self.clock: Clock = clock or SystemClock()
        self.counters = Counters()
        self.ledger = Ledger()
        self.live = LiveEvents()
        self._opened: list[Callable[[], object]] = []
        self.tracing = Tracing(self.config.tracing)
        self._opened.append(self.tracing.close)
        self._cursors: list[Cursor] = []
        self.room: Room | None = None
        """Until the journal is full, as of a moment ago."""
        self.data.create()
        try:
            self._build(loaded, published)
        except OSError as error:
            self.close()
            advice = "free disk space, check its permissions, or choose another data_dir"
            raise TocsinError(f"cannot use the data directory {self.data.path} ({error}): {advice}") from error
        except BaseException:
            self.close()
            raise

    def _build(self, loaded: LoadedConfig, published: Published | None) -> None:
        config, clock, counters = self.config, self.clock, self.counters
        # first: it has the lock on the directory
        journal = JournalSettings(self.data.journal, config.journal, read_to(self.data))
        apart = wants_two_processes(config.processes)
        self.reception = (RemoteReception if apart else Reception)(journal, clock=clock, counters=counters)
        self._opened.append(self.reception.close)
        self.journal = self.reception.journal
        self.table = SeriesTable(self.data.series)
        save_streams(self.data, config.streams, config.limits)
        save_rules(self.data, loaded.groups)
        self.dead_letters = DeadLetters(self.data.dead_letters, counters=counters)
        self._opened.append(self.dead_letters.close)
        self.dead_letters.begin(self.journal.end)

        filters = [stream.filter for stream in config.streams]
        former = remember_filters(self.data, filters)
        self.reception.open_session(
            SessionSettings(config.mqtt, tuple(filters), tuple(former), _wanted(config), self.data.session)
        )
        self.session, self.receiver = self.reception.session, self.reception.receiver

        self.devices = Devices(self.table)
        self._told_staleness = load_staleness(self.data)
        self._decoder = decoder = Decoder(config.streams, config.limits, self.table, counters=counters)
        recorder = Recorder(self.journal, self.table, clock=clock, counters=counters)

        def on_batch(batch: ReadingBatch) -> None:
            self.ledger.hand_out(batch)
            recorder.meet(batch)
            self.live.readings(batch)
            self.devices.readings(batch)

        def on_events(events: Sequence[AlertEvent], now: int) -> None:
            self.live.alerts(events)
            if published is not None:
                published(events, now)

        self.feed = Feed(
            self.journal,
            decoder,
            self.table,
            dead_letters=self.dead_letters,
            counters=counters,
            on_batch=on_batch,
        )

        names = [receiver.name for receiver in config.receivers]
        self.outbox = Outbox(self.data.alerts, names, clock=clock, counters=counters)
        self._opened.append(self.outbox.close)
        self.deliveries = [self._delivery(r) for r in config.receivers]
        self.evaluation = Evaluation(
            self.feed,
            Engine(
                [rule for group in loaded.groups for rule in group.rules],
                self.table,
                staleness=decoder.staleness,
                timer=time.thread_time,
            ),
            self.outbox,
            recorder,
            cursor=self._cursor("rules"),
            end=self.journal.end,
            snapshots=Snapshots(self.data.snapshots, rules=rules_fingerprint(loaded.groups, config.streams)),
            clock=clock,
            counters=counters,
            published=on_events,
            span=self.tracing.span,
        )
        self.evaluation.recover()

        self.store = Store(self.data.store)
        store_sink = StoreSink(self.store, retention=config.store.retention, clock=clock)
        self._opened.append(store_sink.close)
        self.consumers = [self._consumer(store_sink)]
        self.consumers += [self._consumer(InfluxSink(c, self.table, clock=clock)) for c in config.sinks]
        self.replay = Replay(
            ReplayQueue(self.dead_letters),
            self.journal,
            self.table,
            decoded_to=lambda: self.feed.offset,
            sinks={consumer.sink.name: consumer.second_try for consumer in self.consumers},
            counters=counters,
        )
        self._keep_books(names)

    def _keep_books(self, receivers: list[str]) -> None:
        stages = Stages(
            counters=self.counters,
            ledger=self.ledger,
            receiver=self.receiver,
            journal=self.journal,
            feed=self.feed,
            evaluation=self.evaluation,
            consumers=self.consumers,
            outbox=self.outbox,
            receivers=receivers,
        )
        self.accounts = Accounts(stages)
        self.own_alerts = OwnAlerts(self.outbox, counters=self.counters)
        self.audit = Audit(
            self.accounts.rows, self._troubles, self.own_alerts, clock=self.clock, tell=self.config.own_alerts
        )

    def _troubles(self) -> Iterable[Trouble]:
        """What own alerts are raised for, besides imbalances."""
        receiving = self.receiver.status
        return troubles(
            journal_error=receiving.last_error if receiving.state == "journal_failed" else "",
            address=self.config.mqtt.address,
            session=self.session.status,
            sinks=[consumer.status for consumer in self.consumers],
            rule_errors=self.evaluation.errors,
        )

    def start(self) -> None:
        """Consumers first, so that nothing received has to wait for them."""
        for delivery in self.deliveries:
            delivery.start()
        for consumer in self.consumers:
            consumer.start()
        self.evaluation.start()
        self.receiver.start()
        self.replay.start()
        self.audit.start()

    def drain(self) -> bool:
        """Whether all that is in the journal has gone through evaluation and every sink."""
        end = self.journal.end
        return self.feed.offset >= end and all(c.status.offset >= end for c in self.consumers)

    @property
    def failure(self) -> str:
        """Why it cannot go on: a part that nothing goes on without has died. Empty if that is not so."""
        evaluation = "evaluation failed" if self.evaluation.failure is not None else ""
        return evaluation or self.reception.failure

    def own_staleness(self) -> dict[int, int]:
        """By series id, where its stream says so: how long a sample is seen, ns."""
        return self._told_staleness | self._decoder.own_staleness

    def readings_by_stream(self) -> Mapping[str, int]:
        """Since the start, without duplicates."""
        return self.devices.by_stream(self.streams_of_series)

    @property
    def streams_of_series(self) -> Mapping[int, str]:
        """Name of its stream by series, of those heard since the start."""
        return self._decoder.streams

    def tend(self) -> None:
        """Now and then: delete what everyone has read, as far as retention says; save staleness for those who query.

        Raises JournalError, OSError.
        """
        known = self.own_staleness()
        if known != self._told_staleness:
            save_staleness(self.data, known)
            self._told_staleness = known
        # of sinks, what their files say: after a crash they go on from there
        self.journal.trim(min(self.evaluation.snapshot_offset, *(cursor.offset for cursor in self._cursors)))
        self.room = self.journal.room(time.monotonic())

    def stop(self) -> None:
        """Receive no more; finish what was received, as far as sinks are up; save everything."""
        self.audit.stop()  # that we are stopping is no trouble
        self.receiver.stop()
        self.replay.stop()
        self.evaluation.stop()
        self._let_sinks_finish()
        for consumer in self.consumers:
            if not consumer.stop():
                _log.warning("%s: a write still hangs; what it did not confirm comes again", consumer.sink.name)
        for delivery in self.deliveries:
            delivery.stop()

    def _let_sinks_finish(self) -> None:
        """Those that work get a moment for what the last evaluation has read; the others go on at the next start."""
        deadline = time.monotonic() + _FINISH_SECONDS
        while time.monotonic() < deadline and any(
            s.state is ConsumerState.RUNNING and s.offset < self.feed.offset for s in (c.status for c in self.consumers)
        ):
            time.sleep(_FINISH_PAUSE_SECONDS)

    def close(self) -> None:
        for close in reversed(self._opened):
            close()

    def _cursor(self, consumer: str) -> Cursor:
        """Where the consumer goes on; never beyond the journal's end (`read_to`)."""
        return Cursor(self.data.cursor(consumer))

    def _consumer(self, sink: Sink) -> Consumer:
        cursor = self._cursor(sink.name)
        if not self.data.cursor(sink.name).exists():
            cursor.save(cursor.offset)  # whoever looks shall see that it waits, even if it never works
        self._cursors.append(cursor)
        self.ledger.begin(sink.name, cursor.offset)
        source = _Source(self.feed, cursor, sink.name, self.ledger)
        park = parking(self.dead_letters, self.table, sink.name)
        sink = self.tracing.sink(sink)
        return Consumer(sink, source, cursor, self.counters, park=park, clock=self.clock, end=lambda: self.journal.end)

    def _delivery(self, config: WebhookConfig | LogConfig) -> Delivery:
        give_up_after = config.give_up_after if isinstance(config, WebhookConfig) else 0
        receiver = self.tracing.receiver(_alert_receiver(config))
        return Delivery(receiver, self.outbox, self.counters, clock=self.clock, give_up_after=give_up_after)


class _Source:
    """A subscription that tells the feed how far its sink is durable, and the ledger what it has read."""

    def __init__(self, feed: Feed, cursor: Cursor, sink: str, ledger: Ledger) -> None:
        self._subscription, self._cursor = feed.subscribe(cursor.offset), cursor
        self._head_began, self._sink, self._ledger = feed.offset, sink, ledger

    def read(self, timeout: float) -> Step | None:
        self._subscription.settled = self._cursor.offset
        step = self._subscription.read(timeout)
        if step is not None:
            self._ledger.read(self._sink, step.batch, step.next, head_began=self._head_began)
        return step


def wants_two_processes(said: Literal["auto", 1, 2]) -> bool:
    """Whether receiving gets a process of its own."""
    return said == 2 or (said == "auto" and (os.cpu_count() or 1) >= _ENOUGH_PROCESSORS)


def _wanted(config: Config) -> dict[str, Wanted]:
    """What the guarantees of each topic filter are judged by; a filter may serve several streams."""
    largest = int(config.limits.max_payload_bytes)
    silent: dict[str, int] = {}
    for stream in config.streams:
        silent[stream.filter] = max(silent.get(stream.filter, 0), stream.staleness)
    return {name: Wanted(silent_after=after, max_payload_bytes=largest) for name, after in silent.items()}


def _alert_receiver(config: WebhookConfig | LogConfig) -> AlertReceiver:
    return WebhookReceiver(config) if isinstance(config, WebhookConfig) else LogReceiver(config)
