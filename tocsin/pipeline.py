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

import json
import logging
import time
from collections.abc import Callable

from ingest.dead_letters import DeadLetters
from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.inbox import Inbox
from ingest.journal import Journal
from ingest.mqtt import Session
from ingest.receiver import Receiver
from ingest.rejection import Rejection
from rules import Engine
from sinks.config import LogConfig, WebhookConfig
from sinks.consumer import Consumer, ConsumerState, Park
from sinks.delivery import Delivery
from sinks.influx import InfluxSink
from sinks.log import LogReceiver
from sinks.outbox import Outbox
from sinks.sink import Receiver as AlertReceiver
from sinks.sink import Sink, Step
from sinks.store import Store
from sinks.store_sink import StoreSink
from sinks.webhook import WebhookReceiver
from telemetry import Clock, Counters, Cursor, ReadingBatch, SeriesTable, SystemClock, TocsinError
from tocsin.accounts import Accounts
from tocsin.config import LoadedConfig
from tocsin.evaluation import Evaluation, Published, rules_fingerprint
from tocsin.recording import Recorder
from tocsin.staleness_file import load_staleness, save_staleness
from tocsin.stream_record import remember_filters, save_streams

_log = logging.getLogger("tocsin.pipeline")
_FINISH_SECONDS = 2.0
_FINISH_PAUSE_SECONDS = 0.01


class Pipeline:
    """All parts of one running tocsin. `start`, `stop`, `close`, once each and from one thread."""

    def __init__(self, loaded: LoadedConfig, *, clock: Clock | None = None, published: Published | None = None) -> None:
        """Opens every file (`close` closes them), and nothing outside. Raises TocsinError if one cannot be used."""
        config = loaded.config
        self.config, self.data = config, loaded.data_dir
        self.clock: Clock = clock or SystemClock()
        self.counters = Counters()
        self.accounts = Accounts(self.counters)
        self._opened: list[Callable[[], object]] = []
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
        self.journal = Journal(self.data.journal, config=config.journal)  # first: it has the lock on the directory
        self._opened.append(self.journal.close)
        self.table = SeriesTable(self.data.series)
        save_streams(self.data, config.streams, config.limits)
        self.dead_letters = DeadLetters(self.data.dead_letters, counters=counters)
        self._opened.append(self.dead_letters.close)

        inbox = Inbox()
        filters = [stream.filter for stream in config.streams]
        former = remember_filters(self.data, filters)
        self.session = Session(config.mqtt, filters, inbox, clock=clock, counters=counters, former=former)
        self.receiver = Receiver(inbox, self.journal, self.session, clock=clock, counters=counters)

        self._told_staleness = load_staleness(self.data)
        self._decoder = decoder = Decoder(config.streams, config.limits, self.table, counters=counters)
        recorder = Recorder(self.journal, self.table, clock=clock, counters=counters)

        def on_batch(batch: ReadingBatch) -> None:
            self.accounts.read(batch)
            recorder.meet(batch)

        self.feed = Feed(
            self.journal,
            decoder,
            self.table,
            dead_letters=self.dead_letters,
            counters=counters,
            on_batch=on_batch,
        )

        names = [receiver.name for receiver in config.receivers]
        self.outbox = Outbox(self.data.alerts, names, clock=clock)
        self._opened.append(self.outbox.close)
        self.deliveries = [Delivery(_alert_receiver(r), self.outbox, counters, clock=clock) for r in config.receivers]
        self.evaluation = Evaluation(
            self.feed,
            Engine([rule for group in loaded.groups for rule in group.rules], self.table, staleness=decoder.staleness),
            self.outbox,
            recorder,
            cursor=self._cursor("rules"),
            end=self.journal.end,
            snapshot=self.data.snapshot,
            rules=rules_fingerprint(loaded.groups, config.streams),
            clock=clock,
            counters=counters,
            published=published,
        )
        self.evaluation.recover()

        self.store = Store(self.data.store)
        store_sink = StoreSink(self.store, retention=config.store.retention, clock=clock)
        self._opened.append(store_sink.close)
        self.consumers = [self._consumer(store_sink)]
        self.consumers += [self._consumer(InfluxSink(c, self.table, clock=clock)) for c in config.sinks]

    def start(self) -> None:
        """Consumers first, so that nothing received has to wait for them."""
        for delivery in self.deliveries:
            delivery.start()
        for consumer in self.consumers:
            consumer.start()
        self.evaluation.start()
        self.receiver.start()

    def drain(self) -> bool:
        """Whether all that is in the journal has gone through evaluation and every sink."""
        end = self.journal.end
        return self.feed.offset >= end and all(c.status.offset >= end for c in self.consumers)

    def tend(self) -> None:
        """Now and then: delete what everyone has read, as far as retention says; save staleness for those who query.

        Raises JournalError, OSError.
        """
        known = self._told_staleness | self._decoder.own_staleness
        if known != self._told_staleness:
            save_staleness(self.data, known)
            self._told_staleness = known
        needed = [self.evaluation.snapshot_offset, *(c.status.offset for c in self.consumers)]
        self.journal.trim(min(needed))

    def stop(self) -> None:
        """Receive no more; finish what was received, as far as sinks are up; save everything."""
        self.receiver.stop()
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
        """Where the consumer goes on; not beyond the end, where new records would be if the disk lost old ones."""
        cursor = Cursor(self.data.cursor(consumer))
        cursor.offset = min(cursor.offset, self.journal.end)
        return cursor

    def _consumer(self, sink: Sink) -> Consumer:
        cursor = self._cursor(sink.name)
        self.accounts.begin(sink.name, cursor.offset)
        source = _Source(self.feed, cursor, sink.name, self.accounts)
        park = _parking(self.dead_letters, self.table, sink.name)
        return Consumer(sink, source, cursor, self.counters, park=park, clock=self.clock, end=lambda: self.journal.end)


class _Source:
    """A subscription that tells the feed how far its sink is durable, and the accounts what came before the head."""

    def __init__(self, feed: Feed, cursor: Cursor, sink: str, accounts: Accounts) -> None:
        self._subscription, self._cursor = feed.subscribe(cursor.offset), cursor
        self._head_began, self._sink, self._accounts = feed.offset, sink, accounts

    def read(self, timeout: float) -> Step | None:
        self._subscription.settled = self._cursor.offset
        step = self._subscription.read(timeout)
        if step is not None and len(step.batch) and step.batch.offset[0] < self._head_began:
            self._accounts.read_again(self._sink, step.batch.select(step.batch.offset < self._head_began))
        return step


def _alert_receiver(config: WebhookConfig | LogConfig) -> AlertReceiver:
    return WebhookReceiver(config) if isinstance(config, WebhookConfig) else LogReceiver(config)


def _parking(dead_letters: DeadLetters, table: SeriesTable, sink: str) -> Park:
    """Rows that a sink can never take become dead letters, as line of JSON each."""

    def park(rows: ReadingBatch, why: str) -> None:
        dead_letters.add(
            [
                Rejection(
                    offset=int(rows.offset[i]),
                    received=int(rows.received[i]),
                    topic=str(table[int(rows.series[i])]),
                    payload=json.dumps({"time": int(rows.time[i]), "value": float(rows.value[i])}).encode(),
                    reason=f"refused_by_{sink}",
                    detail=why,
                    stream="",
                )
                for i in range(len(rows))
            ]
        )

    return park
