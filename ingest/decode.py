"""Messages in, readings out: the decoder.

Here: the loop over messages, the short cut for objects of plain numbers, the accounts. Not here: all other messages
(`unpack`), and what the order of arrival says about rows (`lateness`).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.admission import Admission
from ingest.block import SAMPLES, TICK, Records
from ingest.columns import Columns, Segment
from ingest.document import SAFE_BYTES, parse, parse_json
from ingest.recorded import decode_samples, series_of
from ingest.rejection import Refusals, Refused, Rejection
from ingest.repeats import MessageIds
from ingest.route import IGNORED, UNKNOWN, Origin, Route, Stream
from ingest.shapes import Found, Shapes
from ingest.streams import DEFAULT_STALENESS, LimitsConfig, StreamConfig
from ingest.unpack import Arrival, Unpacker
from telemetry import Counters, ReadingBatch, SeriesTable

_log = logging.getLogger("tocsin.ingest")
_MAX_ROUTES = 1 << 19
_PLAIN_BYTES = 4_096
_LEARN_FROM = 1_000
"""Messages that are decoded one by one before others are read in the shapes that these have taught."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of the messages of one Records."""

    batch: ReadingBatch
    """Of the flags, only RETAINED, HISTORICAL and RECORDED are set."""
    rejections: list[Rejection]
    messages: int
    """Without ticks and recorded samples."""
    repeats: list[int]
    """Offsets of messages whose id came before; [] when they are decoded again."""


class _Run:
    """One call of `decode`."""

    __slots__ = (
        "barren",
        "columns",
        "first_time",
        "outcomes",
        "records",
        "refusals",
        "refused",
        "repeats",
        "shaped",
        "skipped",
        "streams",
    )

    def __init__(self, records: Records, *, first_time: bool) -> None:
        self.records = records
        self.first_time = first_time
        self.columns = Columns()
        self.shaped: list[Found] = []
        self.refusals = Refusals()
        self.repeats: list[int] = []
        self.outcomes: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.streams: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """By stream: messages that gave nothing because something was refused."""
        self.barren: Counter[str] = Counter()
        """By stream: messages that were decoded and held nothing that the stream wants."""


class Decoder:
    """Turns Records into readings: a function of the journal and the configuration, and of nothing else.

    Not thread-safe: who shares it, locks it. Counters: `ingest.messages` = `ingest.messages_decoded` + `_rejected`
    (unusable as a whole) + `_empty` (no payload: a retained message was deleted) + `_ignored` (topics that begin with
    $); `ingest.readings` = rows + `ingest.rejected` by reason, where a message that is unusable as a whole counts as
    one reading; `ingest.skipped` counts fields that are null or arrays, which are no readings. Recorded samples are
    readings of no message. `ingest.of_stream` counts messages by stream, `ingest.refused_of_stream` those of them that
    gave no reading because something was refused, `ingest.barren_of_stream` those with nothing that the stream wants.
    """

    def __init__(
        self, streams: Sequence[StreamConfig], limits: LimitsConfig, table: SeriesTable, *, counters: Counters
    ) -> None:
        self.admission = Admission(table, limits)
        self.message_ids = MessageIds()
        self._unpacker = Unpacker(limits, self.admission)
        self._counters = counters
        self._streams = [Stream(config) for config in streams]
        self._routes: dict[str, Route] = {}
        self._integer_bound = 10**limits.max_digits
        self._max_depth = limits.max_depth
        self._earliest, self._latest = self._unpacker.earliest, self._unpacker.latest
        # A field takes more than four bytes, so that no message this short can have too many.
        fields = min(limits.max_fields, limits.max_rows_per_message)
        self._max_rows = limits.max_rows_per_message
        plain_bytes = self._plain_bytes = min(_PLAIN_BYTES, limits.max_payload_bytes, 4 * fields)

        self._shapes = Shapes(
            earliest=self._earliest, latest=self._latest, integer_bound=self._integer_bound, max_bytes=plain_bytes
        )

    def decode(self, records: Records, *, add_series: bool = True) -> Decoded:
        """The readings of the records, and what was refused.

        With add_series=False, records that were decoded before are decoded again: exactly the same rows come out, no
        series is added, nothing is counted and no rejections are given.
        """
        run = _Run(records, first_time=add_series)
        left = self._take_shaped(np.arange(len(records)), 0, run)
        while len(left):
            known = len(self._shapes)
            for i in left[:_LEARN_FROM].tolist():
                self._take(i, run)
            left = left[_LEARN_FROM:]
            if len(left) >= _LEARN_FROM and len(self._shapes) > known:
                left = self._take_shaped(left, known, run)
        batch = run.columns.batch(records, run.shaped)
        if not add_series:
            return Decoded(self._as_admitted(batch), [], run.outcomes.total(), [])
        rejections = run.refusals.of(records)
        self._count(run, len(batch), rejections)
        return Decoded(batch, rejections, run.outcomes.total(), run.repeats)

    @property
    def own_staleness(self) -> dict[int, int]:
        """`staleness` of the series for which it is not the default."""
        return dict(self._unpacker.staleness)

    def staleness(self, series: int) -> int:
        """How long a reading of the series counts as its current value, ns; of series that have been decoded here."""
        return self._unpacker.staleness.get(series, DEFAULT_STALENESS)

    @property
    def streams(self) -> Mapping[int, str]:
        """Name of the stream by series, of those that have been decoded here; only ever added to."""
        return self._unpacker.streams

    def state(self) -> dict[str, Any]:
        """JSON-able: with it, `admission.admitted` and `message_ids`, a new decoder goes on as if it were this one."""
        units = {stream.name: stream.unit for stream in self._streams if stream.unit}
        return {"units": units, "series": self.admission.state()}

    def restore(self, state: dict[str, Any], admitted: NDArray[np.int64] | None = None) -> None:
        """Takes over what `state` and `admission.admitted` gave. Units that are configured by now are left alone."""
        for stream in self._streams:
            if stream.config.time.unit == "auto":
                stream.pin(state["units"].get(stream.name, ""))
        self.admission.restore(state["series"], admitted)
        self._routes.clear()
        self._shapes.clear()

    def _take_shaped(self, left: NDArray[np.int64], known: int, run: _Run) -> NDArray[np.int64]:
        """Decodes those of the records that have the shape of a topic that was not `known`; returns the others."""
        records, received = run.records, run.records.received[left]
        topics, payloads = records.topics, records.payloads
        if len(left) < len(records):
            topics, payloads = [topics[i] for i in left.tolist()], [payloads[i] for i in left.tolist()]
        others = np.ones(len(left), bool)
        for found in self._shapes.read(topics, payloads, received, known):
            others[found.message] = False
            run.shaped.append(found._replace(message=left[found.message]))
            run.outcomes["decoded"] += len(found.message)
            run.streams[found.stream] += len(found.message)
        return left[others]

    def _take(self, i: int, run: _Run) -> None:
        """Decodes one record, whatever it is."""
        flag, received = int(run.records.flags[i]), int(run.records.received[i])
        if flag & SAMPLES:
            self._samples(i, received, run)
        elif not flag & TICK:
            topic = run.records.topics[i]
            run.outcomes[self._message(i, topic, received, run)] += 1
            route = self._routes.get(topic)
            if route is not None:
                run.streams[route.stream.name] += 1

    def _message(self, i: int, topic: str, received: int, run: _Run) -> str:
        """Decodes one message; returns its outcome."""
        payload = run.records.payloads[i]
        route = self._routes.get(topic)
        if route is not None and self._plainly(topic, route, i, payload, received, run):
            return "decoded"
        if topic[:1] == "$":
            return "ignored"
        if not payload:
            return "empty"
        arrival = Arrival(run.records.first + i, received, first_time=run.first_time, skipped=run.skipped)
        try:
            route = route or self._route(topic)
            segments = self._unpacker.unpack(route, payload, arrival)
            run.columns.add(i, segments)
            outcome = "decoded"
            if not any(segment.rows for segment in segments):
                (run.refused if arrival.refused else run.barren)[route.stream.name] += 1
            self._note_id(arrival, run)
        except Refused as why:
            arrival.refused = [why]
            outcome = "rejected"
        except Exception:  # noqa: BLE001  # a mistake of ours must cost this message, not all those behind it
            if run.first_time:
                _log.exception("the message at offset %d waits in the dead letters: please report this", arrival.offset)
            arrival.refused = [Refused("decoder_error", "tocsin failed on this message: please report it")]
            outcome = "rejected"
        if outcome == "rejected" and route is not None:
            run.refused[route.stream.name] += 1
        for refused in arrival.refused:
            run.refusals.add(i, route.stream.name if route else "", refused)
        return outcome

    def _note_id(self, arrival: Arrival, run: _Run) -> None:
        """Of what was refused in part, the id is not kept: it may come again when that is mended."""
        id_ = arrival.message_id
        if id_ is None or not run.first_time:
            return
        if self.message_ids.came_before(id_, arrival.received):
            run.repeats.append(arrival.offset)
        elif not arrival.refused:
            self.message_ids.remember(id_, arrival.received)

    def _samples(self, i: int, received: int, run: _Run) -> None:
        """Decodes one record of recorded samples."""
        offset, admission = run.records.first + i, self.admission
        try:
            time, samples = decode_samples(run.records.payloads[i])
        except Refused as why:
            run.refusals.add(i, "", why)
            return
        rows: list[tuple[int, float]] = []
        for labels, sample in samples:
            try:
                series = series_of(labels)
                if run.first_time:
                    rows.append((admission.admit(series, offset, received), sample))
                else:
                    rows += admission.rows_again(series, sample, offset)
            except Refused as why:
                run.refusals.add(i, "", why)
        if rows:
            run.columns.add(i, [Segment(time, historical=False, rows=rows)])

    def _route(self, topic: str) -> Route:
        route = Route.find(topic, self._streams)
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
            self._shapes.clear()
        self._routes[topic] = route
        return route

    def _plainly(self, topic: str, route: Route, i: int, payload: bytes, received: int, run: _Run) -> bool:
        """The short cut: a small object of numbers whose fields are all known. False, and nothing done, for any other.

        Gives what `Unpacker` would give, at a tenth of the cost.
        """
        stream, origin = route.stream, route.origin
        if not stream.plain or origin is None or payload[:1] != b"{" or len(payload) > self._plain_bytes:
            return False
        try:
            document = parse_json(payload) if len(payload) <= SAFE_BYTES else parse(payload)
            time = received
            for name in stream.time_fields:
                found = document.get(name)
                if found is not None:
                    if type(found) is int and stream.scale is not None:
                        time = found * stream.scale
                    else:
                        time = self._unpacker.instant(stream, found, received)
                    break
        except (msgspec.DecodeError, UnicodeDecodeError, Refused):
            return False
        if not self._earliest <= time - received <= self._latest:
            return False
        columns = run.columns
        start = len(columns.series)
        plain = self._plain_values(document, "", self._max_depth, origin, columns)
        if not plain or not 0 < len(columns.series) - start <= self._max_rows:
            del columns.series[start:], columns.value[start:]
            return False
        if not self._shapes.knows(topic):
            self._shapes.learn(topic, stream, origin, document)
        ids = columns.series[start:]
        if ids != sorted(ids):
            rows = sorted(zip(ids, columns.value[start:], strict=True), key=itemgetter(0))
            columns.series[start:], columns.value[start:] = [id_ for id_, _ in rows], [value for _, value in rows]
        columns.time.append(time)
        columns.rows.append(len(columns.series) - start)
        columns.message.append(i)
        return True

    def _plain_values(self, document: dict[str, Any], above: str, depth: int, origin: Origin, columns: Columns) -> bool:
        """Adds the numbers and known words of an object; False, with some added or none, if there is anything else."""
        ids = origin.ids
        series, numbers, bound = columns.series, columns.value, self._integer_bound
        for key, number in document.items():
            path = above + key if above else key
            id_ = ids.get(path, UNKNOWN)
            kind = type(number)
            if id_ >= 0 and (kind is float or kind is bool or (kind is int and -bound < number < bound)):
                series.append(id_)
                numbers.append(number)
            elif kind is dict and depth > 1:
                if not self._plain_values(number, path + ".", depth - 1, origin, columns):
                    return False
            elif kind is str and path in origin.words:
                rows = origin.words[path].of(number)
                if rows is None:
                    return False
                series += rows[0]
                numbers += rows[1]
            elif id_ != IGNORED or kind is dict:
                return False
        return True

    def _as_admitted(self, batch: ReadingBatch) -> ReadingBatch:
        """Without the rows of series that had not been admitted when the message was decoded first."""
        rows = self.admission.admitted[batch.series] <= batch.offset
        return batch if rows.all() else batch.select(rows)

    def _count(self, run: _Run, rows: int, rejections: list[Rejection]) -> None:
        add = self._counters.add
        for stream, n in run.streams.items():
            add("ingest.of_stream", n, stream)
        add("ingest.messages", run.outcomes.total())
        for outcome, n in run.outcomes.items():
            add(f"ingest.messages_{outcome}", n)
        add("ingest.readings", rows + sum(rejection.rows for rejection in rejections))
        for rejection in rejections:
            add("ingest.rejected", rejection.rows, rejection.reason)
        for reason, n in run.skipped.items():
            add("ingest.skipped", n, reason)
        for stream, n in run.refused.items():
            add("ingest.refused_of_stream", n, stream)
        for stream, n in run.barren.items():
            add("ingest.barren_of_stream", n, stream)
