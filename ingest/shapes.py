"""Messages of one shape, decoded at once: objects whose keys are all known and hold plain numbers.

A topic is given a shape when the slower short cut (`decode`) has understood a message of it: from then on its messages
are read by a decoder that is compiled for just these keys, many in one go, into columns. A message that is different in
anything (another key, a word, a number too large) is left to the others, and gives the rows that it always gave.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.route import IGNORED, UNKNOWN, Origin, Stream

Ints = NDArray[np.int64]
_NO_SHAPE = -1
_MAX_SHAPES = 10_000
_MAX_TOPICS = 1 << 20
_PATIENCE = 100
"""Messages of another shape, more than of its own, after which a topic has none any more."""
_TIME = "time"
_Ignored = int | float | str | bool | None


class Found(NamedTuple):
    """Rows of k messages of a stream, with f fields each."""

    stream: str
    """Its name."""
    message: Ints
    """(k,) ascending: which of the messages given."""
    time: Ints
    """(k,) ns since the epoch (UTC)."""
    series: NDArray[np.int32]
    """(k, f) ascending in each row."""
    value: NDArray[np.float64]
    """(k, f)"""


class _Leaf(NamedTuple):
    """A number that becomes a reading."""

    name: str
    """Of the attribute in the compiled object: `f0.f2`."""
    series: int


class Shape:
    """Keys and where their numbers go, in a stream; each topic that has it has a row of series."""

    def __init__(self, stream: str, kind: type[msgspec.Struct], numbers: Sequence[str], time: str, scale: int) -> None:
        self._stream = stream
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(kind).decode
        self._numbers = [attrgetter(name) for name in numbers]
        self._time, self._scale = attrgetter(time) if time else None, scale
        self._rows = 0
        self._series = np.empty((16, len(numbers)), np.int32)

    def add(self, series: Sequence[int]) -> int:
        """The row of a new topic."""
        if self._rows == len(self._series):
            self._series = np.concatenate([self._series, np.empty_like(self._series)])
        self._series[self._rows] = series
        self._rows += 1
        return self._rows - 1

    def read(self, payloads: Sequence[bytes], rows: Ints, received: Ints) -> tuple[Ints, Found | None]:
        """Which of the payloads have the shape, and what is in them."""
        objects, fits = self._objects(payloads)
        k = len(objects)
        if k == 0:
            return fits, None
        value = np.empty((k, len(self._numbers)))
        for column, get in enumerate(self._numbers):
            value[:, column] = np.fromiter(map(get, objects), np.float64, k)
        if self._time is None:
            time = received[fits]
        else:
            time = np.fromiter(map(self._time, objects), np.int64, k) * self._scale
        return fits, Found(self._stream, fits, time, self._series[rows[fits]], value)

    def _objects(self, payloads: Sequence[bytes]) -> tuple[list[Any], Ints]:
        """Those of the payloads that fit, as objects, and which these are."""
        try:
            return list(map(self._decode, payloads)), np.arange(len(payloads))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            found = list(map(self._or_none, payloads))
        fits = [i for i, each in enumerate(found) if each is not None]
        return [found[i] for i in fits], np.array(fits, np.int64)

    def _or_none(self, payload: bytes) -> Any:
        try:
            return self._decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None


class Shapes:
    """The shapes of all topics. Not thread-safe."""

    def __init__(self, *, earliest: int, latest: int, integer_bound: float, max_bytes: int) -> None:
        """earliest, latest: event time against arrival, ns; integer_bound: of numbers without a fraction; max_bytes: of
        a payload.
        """
        self._earliest, self._latest = earliest, latest
        self._bound, self._max_bytes = integer_bound, max_bytes
        self._shapes: list[Shape] = []
        self._by_keys: dict[tuple[Any, ...], int] = {}
        self._lanes: dict[str, int] = {}
        """Topic → its number here."""
        self._shape_of = np.full(64, _NO_SHAPE, np.int32)
        self._row_of = np.zeros(64, np.int64)
        self._misses = np.zeros(64, np.int32)

    def clear(self) -> None:
        """Forgets all topics."""
        self._shapes, self._by_keys = [], {}
        self._lanes.clear()

    def knows(self, topic: str) -> bool:
        """Whether the topic has been learnt, or turned out not to be worth it."""
        return topic in self._lanes

    def learn(self, topic: str, stream: Stream, origin: Origin, document: dict[str, Any]) -> None:
        """From a document that the short cut has understood: the topic's messages will look like this."""
        if len(self._lanes) >= _MAX_TOPICS or len(self._shapes) >= _MAX_SHAPES:
            self.clear()
        lane = self._lanes[topic] = len(self._lanes)
        if lane >= len(self._shape_of):
            self._shape_of = np.concatenate([self._shape_of, np.full(lane, _NO_SHAPE, np.int32)])
            self._row_of = np.concatenate([self._row_of, np.zeros(lane, np.int64)])
            self._misses = np.concatenate([self._misses, np.zeros(lane, np.int32)])
        self._shape_of[lane], self._misses[lane] = _NO_SHAPE, 0
        time = next((name for name in stream.time_fields if name in document), "")  # null: the next one counts
        if time and (type(document[time]) is not int or stream.scale is None):
            return
        leaves: list[_Leaf] = []
        keys = _keys(document, "", origin, time, leaves)
        if keys is None or not leaves:
            return
        leaves.sort(key=lambda leaf: leaf.series)
        names = tuple(leaf.name for leaf in leaves)
        scale = stream.scale or 1
        number = self._by_keys.get((stream.name, keys, names, time, scale))
        if number is None:
            number = self._by_keys[stream.name, keys, names, time, scale] = len(self._shapes)
            self._shapes.append(Shape(stream.name, _compiled(keys, scale), names, _TIME if time else "", scale))
        self._shape_of[lane] = number
        self._row_of[lane] = self._shapes[number].add([leaf.series for leaf in leaves])

    def __len__(self) -> int:
        """How many topics have been learnt."""
        return len(self._lanes)

    def read(self, topics: Sequence[str], payloads: Sequence[bytes], received: Ints, known: int = 0) -> list[Found]:
        """Of n messages, all that have the shape of their topic, leaving out the `known` topics that came first."""
        if not self._shapes:
            return []
        lanes = np.fromiter(map(self._lanes.get, topics, repeat(-1)), np.int64, len(topics))
        shapes = np.where(lanes >= known, self._shape_of[lanes], _NO_SHAPE)
        one = len(shapes) > 0 and (shapes == shapes[0]).all()  # as a rule; to sort them would take longer
        numbers = shapes[:1].tolist() if one else np.unique(shapes).tolist()
        found = []
        for number in numbers:
            if number != _NO_SHAPE:
                mine = np.flatnonzero(shapes == number)
                found += self._of_shape(self._shapes[number], mine, lanes[mine], payloads, received[mine])
        return found

    def _of_shape(
        self, shape: Shape, mine: Ints, lanes: Ints, payloads: Sequence[bytes], received: Ints
    ) -> list[Found]:
        if len(mine) < len(payloads):
            payloads = [payloads[i] for i in mine.tolist()]
        if max(map(len, payloads)) > self._max_bytes:
            payloads = [payload if len(payload) <= self._max_bytes else b"" for payload in payloads]
        fits, found = shape.read(payloads, self._row_of[lanes], received)
        if found is not None:
            plain = self._is_plain(found, received[fits])
            if not plain.all():
                fits = fits[plain]
                found = Found(found.stream, fits, found.time[plain], found.series[plain], found.value[plain])
        if len(fits) < len(mine):
            self._miss(lanes, fits)
        return [] if found is None or not len(fits) else [found._replace(message=mine[fits])]

    def _is_plain(self, found: Found, received: Ints) -> NDArray[np.bool_]:
        """(k,) whether nothing is about the messages that others would judge: a time far off, a number too large."""
        ahead = found.time - received
        plain: NDArray[np.bool_] = (ahead >= self._earliest) & (ahead <= self._latest)
        value = found.value
        odd = np.abs(value) >= self._bound
        zero = value == 0
        if zero.any():
            odd |= zero & np.signbit(value)  # as an integer, "-0" has no sign, which a float keeps
        return plain & ~odd.any(axis=1) if odd.any() else plain

    def _miss(self, lanes: Ints, fits: Ints) -> None:
        """Topics whose messages seldom have their shape lose it: trying costs more than it saves."""
        missed = np.ones(len(lanes), bool)
        missed[fits] = False
        np.add.at(self._misses, lanes[missed], 1)
        np.subtract.at(self._misses, lanes[fits], 1)
        self._misses[lanes] = np.maximum(self._misses[lanes], 0)
        self._shape_of[lanes[self._misses[lanes] > _PATIENCE]] = _NO_SHAPE


def _keys(document: dict[str, Any], above: str, origin: Origin, time: str, leaves: list[_Leaf]) -> Any:
    """The keys as they shall be compiled: ((key, attribute, what), …); None if something is no number.

    Attributes are numbered, since keys may be any text.
    """
    keys = []
    for i, (key, found) in enumerate(document.items()):
        path = f"{above}.{key}" if above else key
        name, kind = f"f{i}", type(found)
        if not above and key == time:
            keys.append((key, _TIME, "time"))
        elif kind is dict:
            own: list[_Leaf] = []
            inner = _keys(found, path, origin, "", own)
            if inner is None:
                return None
            keys.append((key, name, inner))
            leaves += [_Leaf(f"{name}.{leaf.name}", leaf.series) for leaf in own]
        elif (id_ := origin.ids.get(path, UNKNOWN)) >= 0 and (kind is int or kind is float):
            keys.append((key, name, "number"))
            leaves.append(_Leaf(name, id_))
        elif id_ == IGNORED and kind in (int, float, str, bool, type(None)):
            keys.append((key, name, "ignored"))
        else:
            return None
    return tuple(keys)


def _compiled(keys: Any, scale: int) -> type[msgspec.Struct]:
    """A type whose decoder takes exactly these keys, each of its kind."""
    of = {
        "number": float,
        "ignored": _Ignored,
        "time": Annotated[int, msgspec.Meta(ge=-(1 << 62) // scale, le=(1 << 62) // scale)],
    }
    fields = [(name, of[what] if isinstance(what, str) else _compiled(what, scale)) for _, name, what in keys]
    return msgspec.defstruct(
        "Shape",
        fields,
        rename={name: key for key, name, _ in keys},
        forbid_unknown_fields=True,
        gc=False,
    )
