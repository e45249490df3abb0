"""One message in full: payload -> records -> fields -> rows. Here: every rule about what a message means.

Not here: the short cut for plain objects and the accounts (`decode`); topics (`route`); limits on series (`admission`).
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from ingest import value as values
from ingest.admission import Admission
from ingest.columns import Segment
from ingest.document import Part, TooDeep, is_bad, look_up, parse, parts, shown
from ingest.event_time import as_number, from_iso, from_number, unit_by_magnitude, written
from ingest.rejection import Refused
from ingest.route import IGNORED, Origin, Route, Stream
from ingest.streams import DEFAULT_STALENESS, LimitsConfig
from telemetry import Series

_log = logging.getLogger("tocsin.ingest")
_FOREVER = 1 << 62
"""ns, 146 years: around any arrival in this century, such times are within int64."""
_HOUR = 3_600 * 10**9
_MAX_HINTS = 1_000


class Arrival:
    """What is known of a message besides its payload, and what is refused or skipped of it."""

    __slots__ = ("first_time", "message_id", "offset", "received", "refused", "skipped")

    def __init__(self, offset: int, received: int, *, first_time: bool, skipped: Counter[str]) -> None:
        self.offset = offset
        self.received = received
        self.first_time = first_time
        """False: it was decoded before; only what was admitted then may come out."""
        self.refused: list[Refused] = []
        self.skipped = skipped
        self.message_id: tuple[str, ...] | None = None
        """What tells the message from all others, if its stream says where that stands."""


class Unpacker:
    """Takes messages apart within the limits. Not thread-safe."""

    def __init__(self, limits: LimitsConfig, admission: Admission) -> None:
        self._limits = limits
        self._admission = admission
        self.earliest = -limits.max_past or -_FOREVER
        """ns, event time against arrival."""
        self.latest = limits.max_future or _FOREVER
        self._hinted: set[tuple[str, str]] = set()
        self.staleness: dict[int, int] = {}
        """ns, of the series for which it is not the default."""
        self.streams: dict[int, str] = {}
        """Name of the stream by series."""

    def unpack(self, route: Route, payload: bytes, arrival: Arrival) -> list[Segment]:
        """The rows of a message. Fields and records that cannot be used are noted in the arrival.

        Raises Refused when the message as a whole cannot be used.
        """
        limit = self._limits.max_payload_bytes
        if len(payload) > limit:
            raise Refused("payload_too_large", f"{len(payload)} bytes; {limit} are allowed (limits.max_payload_bytes)")
        expected = route.stream.config.format
        if expected == "scalar" or (expected == "auto" and payload.lstrip()[:1] not in (b"{", b"[")):
            return self._scalar(route, payload, arrival)
        return self._document(route, payload, arrival)

    def timely(self, time: int, received: int) -> bool:
        """Whether an event time is near enough to the arrival (limits.max_past, limits.max_future)."""
        return self.earliest <= time - received <= self.latest

    def instant(self, stream: Stream, found: Any, received: int) -> int:
        """The event time, ns, that a payload value stands for; recognises and keeps the stream's unit.

        Raises Refused(bad_time).
        """
        number = None if stream.config.time.unit == "iso" else as_number(found)
        if number is None:
            if isinstance(found, str):
                return from_iso(found, stream.zone)
            raise Refused("bad_time", f"a {type(found).__name__} is no time: set time.field to the field that has it")
        unit = stream.unit or unit_by_magnitude(number)
        time = from_number(number, unit)
        if stream.unit is None and self.timely(time, received):
            # A clock that is far off must not decide for all devices: only a plausible time fixes the unit.
            stream.pin(unit)
            _log.info("stream %s: times are in %s, as in its first message; time.unit sets another", stream.name, unit)
        return time

    def _scalar(self, route: Route, payload: bytes, arrival: Arrival) -> list[Segment]:
        metric = route.scalar_metric
        if not metric:
            raise Refused("no_metric", "nothing names the metric of this plain value: set the stream's metric")
        stream = route.stream
        if not stream.wants(metric):
            return []
        words = stream.config.fields.values.get(metric)
        found = values.scalar(payload, words=words, max_digits=self._limits.max_digits)
        if found is None:
            arrival.skipped["null"] += 1
            return []
        series = route.origin_of({}, {}).scalar_series(metric)
        return [Segment(arrival.received, False, self._rows(route.stream, series, found, arrival))]

    def _document(self, route: Route, payload: bytes, arrival: Arrival) -> list[Segment]:
        segments = []
        room = self._limits.max_rows_per_message
        document = parse(payload)
        arrival.message_id = route.message_id(document)
        for part in parts(document, route.stream.config, self._limits):
            if isinstance(part, Refused):
                arrival.refused.append(part)
                continue
            fields = self._fields(route, part, arrival)
            try:
                segment = self._segment(route, part, fields, room, arrival)
            except Refused as why:
                if fields:
                    arrival.refused.append(Refused(why.reason, part.place + why.detail, rows=len(fields)))
                continue
            room -= len(segment.rows)
            segments.append(segment)
        return segments

    def _fields(self, route: Route, part: Part, arrival: Arrival) -> list[tuple[str, Any]]:
        """What of a record may become readings."""
        stream, wanted = route.stream, []
        for path, found in part.fields:
            if not stream.wants(path):
                if route.origin is not None:
                    route.origin.remember(path, IGNORED)
                continue
            if found is None or found == "":
                arrival.skipped["null"] += 1
            elif isinstance(found, list):
                arrival.skipped["array"] += 1
                self._hint_at_array(stream, path)
            else:
                wanted.append((path, found))
        return wanted

    def _segment(self, route: Route, part: Part, fields: list[tuple[str, Any]], room: int, arrival: Arrival) -> Segment:
        """The rows of a record, at most `room`. Raises Refused when none of them can be used."""
        stream = route.stream
        config, limits = stream.config, self._limits
        origin = route.origin_of(part.record, part.outer)
        if config.quality_field is not None:
            quality = look_up(part.record, config.quality_field)
            if quality is not None and is_bad(quality):
                raise Refused("bad_quality", f"{config.quality_field}: the device says that the value is bad")
        time = self._time(stream, part, arrival)
        historical = config.historical_field is not None and self._either(part, config.historical_field) is True
        rows: list[tuple[int, float]] = []
        seen: set[int] = set()
        for n, (path, found) in enumerate(fields):
            if n >= limits.max_fields:
                arrival.refused.append(_beyond("max_fields", part, path, limits.max_fields))
                continue
            try:
                new = self._field(origin, path, found, arrival)
            except Refused as why:
                arrival.refused.append(Refused(why.reason, f"{part.place}{shown(path)}: {why.detail}"))
                continue
            taken = seen.intersection(id_ for id_, _ in new)
            if taken:
                place = f"{part.place}{shown(path)}"
                arrival.refused.append(Refused("name_collision", f"{place}: {_same_name(origin.series(path))}"))
            elif len(rows) + len(new) > room:
                arrival.refused.append(_beyond("max_rows_per_message", part, path, limits.max_rows_per_message))
            else:
                rows += new
                seen.update(id_ for id_, _ in new)
        return Segment(time, historical, rows)

    def _field(self, origin: Origin, path: str, found: Any, arrival: Arrival) -> list[tuple[int, float]]:
        """The rows of a field: one, or for a word one for each word of the metric. Raises Refused."""
        fields, limits = origin.stream.config.fields, self._limits
        if found is TooDeep:
            raise Refused("too_deep", f"nested deeper than {limits.max_depth} levels (limits.max_depth)")
        word = found if isinstance(found, str) else ""
        if isinstance(found, str):
            found = values.text(
                found, words=fields.values.get(path), numeric=fields.numeric_strings, max_digits=limits.max_digits
            )
            if found is None:
                arrival.skipped["null"] += 1
                return []
        else:
            found = values.number(found, limits.max_digits)
        rows = self._rows(origin.stream, origin.series(path), found, arrival)
        if arrival.first_time:
            if not isinstance(found, str):
                origin.remember(path, rows[0][0])
            elif len(rows) == len(known := self._admission.words(origin.series(path))):
                origin.remember_word(path, known, word, rows)
        return rows

    def _rows(self, stream: Stream, series: Series, found: float | str, arrival: Arrival) -> list[tuple[int, float]]:
        admission, offset = self._admission, arrival.offset
        if not arrival.first_time:
            return admission.rows_again(series, found, offset)
        if isinstance(found, str):
            rows = admission.state_rows(series, found, offset, arrival.received)
        else:
            rows = [(admission.admit(series, offset, arrival.received), found)]
        for id_, _ in rows:
            self.streams[id_] = stream.name
        if stream.config.staleness != DEFAULT_STALENESS:
            self.staleness |= dict.fromkeys((id_ for id_, _ in rows), stream.config.staleness)
        return rows

    def _time(self, stream: Stream, part: Part, arrival: Arrival) -> int:
        """The event time of a record, ns: its own, else the document's, else the arrival's.

        Raises Refused(bad_time | time_too_old | time_in_future).
        """
        for path in stream.time_fields:
            found = self._either(part, path)
            if found is not None:
                break
        else:
            return arrival.received
        try:
            time = self.instant(stream, found, arrival.received)
        except Refused as why:
            raise Refused(why.reason, f"{path}: {why.detail}") from None
        if self.timely(time, arrival.received):
            return time
        hours = (time - arrival.received) / _HOUR
        unit = ""
        if stream.config.time.unit == "auto" and stream.unit and not isinstance(found, str):
            unit = f" (numbers are read as {stream.unit}, the unit of the stream's first time; time.unit sets another)"
        if hours < 0:
            raise Refused(
                "time_too_old",
                f"{path}: the device says {written(time)}, {-hours:.1f} h before arrival{unit}: set the device's "
                "clock, or raise limits.max_past, or set time.unit: arrival",
            )
        raise Refused(
            "time_in_future",
            f"{path}: the device says {written(time)}, {hours:.2f} h ahead of us{unit}: set the device's clock, or "
            "raise limits.max_future, or set time.unit: arrival",
        )

    def _either(self, part: Part, path: str) -> Any:
        found = look_up(part.record, path)
        return look_up(part.outer, path) if found is None else found

    def _hint_at_array(self, stream: Stream, path: str) -> None:
        if len(self._hinted) < _MAX_HINTS and (stream.name, path) not in self._hinted:
            self._hinted.add((stream.name, path))
            _log.info(
                "stream %s: the field %s is an array and is skipped; if it holds records, set records: %s",
                stream.name,
                shown(path),
                shown(path),
            )


def _same_name(series: Series) -> str:
    return f"another field of the message has become {series.metric}, too: rename one of them under fields.rename"


def _beyond(limit: str, part: Part, path: str, allowed: int) -> Refused:
    reason = {"max_fields": "too_many_fields", "max_rows_per_message": "too_many_rows"}[limit]
    return Refused(reason, f"{part.place}{shown(path)}: more than {allowed} in one message (limits.{limit})")
