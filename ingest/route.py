"""From a topic to what its messages mean: stream, labels, names of metrics. The decoder keeps one Route a topic."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo

from ingest.document import look_up, shown
from ingest.event_time import SCALES
from ingest.rejection import Refused
from ingest.streams import METRIC_LEVEL, StreamConfig
from ingest.topics import REST
from ingest.value import as_label, label
from telemetry import Series

IGNORED = -1
"""In place of a series id: a field that is never a reading."""
UNKNOWN = -2
"""In place of a series id: a field that has not been looked at yet."""
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_:]")
_MAX_NAME = 256
_MAX_ORIGINS = 1_000
_MAX_PATHS = 10_000


class Stream:
    """A configured stream, compiled; holds the time unit that was recognised."""

    def __init__(self, config: StreamConfig) -> None:
        self.config = config
        self.name = config.name
        self.pattern = config.pattern
        self.zone = ZoneInfo(config.time.timezone)
        self.time_fields = () if config.time.unit == "arrival" else config.time.field
        self.unit: str | None = None
        self.scale: int | None = None
        self.pin(config.time.unit)
        self.dynamic = bool(config.device or config.labels_from)
        """Whether the payload has a say in the labels."""
        self.plain = not (
            self.dynamic
            or config.format == "scalar"
            or config.value_field is not None
            or config.quality_field is not None
            or config.historical_field is not None
            or config.message_id
            or config.records  # "" also allows an object that stands alone
        )
        """Whether an object of numbers needs nothing but its time and its fields' ids."""
        never = [*config.time.field, *config.labels_from.values()]
        never += [config.device.field] if config.device else []
        never += [f for f in (config.quality_field, config.historical_field, config.name_field) if f is not None]
        never += config.message_id
        self._never = frozenset(never)
        self._wanted: dict[str, bool] = {}

    def pin(self, unit: str) -> None:
        """From now on, numbers are times in this unit (nothing happens for a name that is no unit of numbers)."""
        if unit in SCALES:
            self.unit, self.scale = unit, SCALES[unit]

    def wants(self, path: str) -> bool:
        """Whether the field may become a reading."""
        wanted = self._wanted.get(path)
        if wanted is None:
            fields = self.config.fields
            wanted = path not in self._never and not _covered(path, fields.exclude)
            wanted = wanted and (not fields.include or _covered(path, fields.include))
            if len(self._wanted) >= _MAX_PATHS:
                self._wanted.clear()
            self._wanted[path] = wanted
        return wanted


class Words:
    """The rows that each word of a text metric gives, as long as the metric has no other words."""

    __slots__ = ("count", "known", "rows")

    def __init__(self, known: Mapping[str, int]) -> None:
        self.known, self.count = known, len(known)
        self.rows: dict[str, tuple[list[int], list[float]]] = {}
        """Word as it is written → series ids, values."""

    def of(self, word: str) -> tuple[list[int], list[float]] | None:
        return self.rows.get(word) if len(self.known) == self.count else None


class Origin:
    """Where readings come from: the labels of a device, and the ids of its metrics by dotted path."""

    __slots__ = ("_bases", "_metric_level", "ids", "labels", "stream", "words")

    def __init__(self, stream: Stream, labels: dict[str, str], metric_level: str) -> None:
        if not labels.get("device"):
            raise Refused("no_device", "the device's name is empty or missing: look at the stream's topic and device")
        self.stream = stream
        self.labels = labels
        self.ids: dict[str, int] = {}
        self.words: dict[str, Words] = {}
        """By dotted path, of fields that hold words."""
        self._metric_level = metric_level
        self._bases: dict[str, Series] = {}

    def series(self, path: str) -> Series:
        """The series of a JSON field (for a word: without its label state). Raises Refused(bad_name)."""
        base = self._bases.get(path)
        if base is None:
            config = self.stream.config
            renamed = config.fields.rename.get(path)
            level = f"{self._metric_level}_" if self._metric_level else ""
            base = self._series(renamed if renamed is not None else config.prefix + level + path)
            if len(self._bases) >= _MAX_PATHS:
                self._bases.clear()
            self._bases[path] = base
        return base

    def scalar_series(self, metric: str) -> Series:
        """The series of a scalar with that name. Raises Refused(bad_name)."""
        renamed = self.stream.config.fields.rename.get(metric)
        return self._series(renamed if renamed is not None else self.stream.config.prefix + metric)

    def remember_word(self, path: str, known: Mapping[str, int], word: str, rows: list[tuple[int, float]]) -> None:
        """For the short cut: `word` stands for these rows, which are all that the metric has."""
        words = self.words.get(path)
        if words is None or words.count != len(known):
            if len(self.words) >= _MAX_PATHS:
                self.words.clear()
            words = self.words[path] = Words(known)
        if len(words.rows) < _MAX_PATHS:
            words.rows[word] = [i for i, _ in rows], [value for _, value in rows]

    def remember(self, path: str, id_: int) -> None:
        """Next time, `ids` knows it."""
        if len(self.ids) >= _MAX_PATHS:
            self.ids.clear()
        if path not in self.ids and (id_ == IGNORED or id_ not in self.ids.values()):
            self.ids[path] = id_  # else two fields have one name, which the short cut would not notice

    def _series(self, name: str) -> Series:
        if len(name) > _MAX_NAME:
            raise Refused("bad_name", f"the name of the metric is longer than {_MAX_NAME} characters")
        return Series.from_labels(sanitised(name), self.labels)


class Route:
    """What the messages of one topic mean."""

    __slots__ = ("_levels", "_origins", "origin", "scalar", "scalar_metric", "stream")

    def __init__(self, stream: Stream, levels: dict[str, str]) -> None:
        """Raises Refused(no_device | bad_label) when every message of the topic is unusable."""
        self.stream = stream
        self._levels = levels
        self._origins: dict[tuple[str, ...], Origin] = {}
        self.scalar_metric = stream.config.scalar_metric(levels)
        self.scalar = UNKNOWN
        """Id of the series of a plain number."""
        self.origin: Origin | None = None if stream.dynamic else self._origin({})

    @classmethod
    def find(cls, topic: str, streams: Sequence[Stream]) -> Route:
        """The first stream that has the topic counts. Raises Refused(unknown_topic) and as the constructor."""
        levels = topic.split("/")
        for stream in streams:
            found = stream.pattern.match(levels)
            if found is not None:
                return cls(stream, found)
        raise Refused(
            "unknown_topic",
            "no stream has this topic: add one to streams; what the broker still delivers for streams of the past ends "
            "with another mqtt.client_id",
        )

    def origin_of(self, record: Any, outer: Any) -> Origin:
        """The origin of a record; its own labels come before those of the document around it.

        Raises Refused(no_device | bad_label).
        """
        if self.origin is not None:
            return self.origin
        config = self.stream.config
        paths = {**config.labels_from, **({"device": config.device.field} if config.device else {})}
        given: dict[str, str] = {}
        for name, path in paths.items():
            found = as_label(look_up(record, path)) or as_label(look_up(outer, path))
            if found:
                given[name] = label(f"{name} ({shown(path)})", found)
        key = tuple(given.get(name, "") for name in paths)
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origin(given)
            if len(self._origins) >= _MAX_ORIGINS:
                self._origins.clear()
            self._origins[key] = origin
        return origin

    def message_id(self, document: Any) -> tuple[str, ...] | None:
        """The id of a message, with its stream and with the device if the topic names it; None: it has none."""
        paths = self.stream.config.message_id
        found = [look_up(document, path) for path in paths]
        if not paths or any(part is None for part in found):
            return None
        return self.stream.name, self._levels.get("device", ""), *(str(part) for part in found)

    def _origin(self, given: dict[str, str]) -> Origin:
        labels = {
            name: label(f"the topic level {{{name}}}", text)
            for name, text in self._levels.items()
            if name not in (METRIC_LEVEL, REST)
        }
        labels = {name: text for name, text in {**labels, **self.stream.config.labels, **given}.items() if text}
        return Origin(self.stream, labels, self._levels.get(METRIC_LEVEL, ""))


def sanitised(name: str) -> str:
    """A name by Prometheus' rules: every other character becomes _, and a digit does not stand first."""
    name = _NOT_IN_A_NAME.sub("_", name)
    return f"_{name}" if not name or name[0].isdigit() else name


def _covered(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a pattern names the path or something above it."""
    return any(
        path == p or path.startswith(p + ".") or ("*" in p and (fnmatchcase(path, p) or fnmatchcase(path, p + ".*")))
        for p in patterns
    )
