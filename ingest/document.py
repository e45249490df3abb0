"""JSON payloads as documents: parsing within bounds, dotted paths, flattening, arrays of records.

Not here: what a single value means (`value`), nor which series it belongs to (`decode`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from ingest.rejection import Refused
from ingest.streams import LimitsConfig, StreamConfig

Document = dict[str, Any]
parse_json = msgspec.json.Decoder().decode
"""bytes -> document; only for payloads of at most SAFE_BYTES, which cannot nest too deep for the parser."""
SAFE_BYTES = 200
_PARSER_DEPTH = 200
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_MAX_PATH = 512


class TooDeep:
    """Stands for a value that is nested deeper than limits.max_depth."""


@dataclass(frozen=True, slots=True)
class Part:
    """One record of a message, or the message itself."""

    place: str
    """Where it stands: `values[3].`; empty for the message itself."""
    record: Document
    outer: Document
    """The document around it, for its time and labels; the record itself when there is none."""
    fields: list[tuple[str, Any]]
    """Dotted path and value of everything that may become a reading."""


def parse(payload: bytes) -> Any:
    """The document; it may hold NaN and infinities. Raises Refused(bad_json | too_deep)."""
    if len(payload) > SAFE_BYTES and nesting(payload) > _PARSER_DEPTH:
        raise Refused("too_deep", f"the payload nests more than {_PARSER_DEPTH} levels")
    try:
        return parse_json(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        document = _with_bad_numbers(payload)
        if document is None:
            raise Refused("bad_json", f"the payload is not JSON: {error}") from None
        return document


def _with_bad_numbers(payload: bytes) -> Any:
    """The document of a payload that is JSON but for NaN, Infinity or numbers beyond all bounds; None for any other.

    Python's json module, among others, writes NaN; it is refused field by field, so that the others are not lost.
    Escapes are not taken: that module would let lone surrogates pass, which no UTF-8 can hold.
    """
    if b"\\u" in payload:
        return None
    try:
        return json.loads(payload.decode())  # bytes it would also take as UTF-16
    except (ValueError, RecursionError):
        return None


def nesting(payload: bytes) -> int:
    """How deep objects and arrays nest, at least as far as a parser would get before it finds an error."""
    if payload.count(b"{") + payload.count(b"[") <= _PARSER_DEPTH:
        return 0
    signs = np.frombuffer(_STRINGS.sub(b"", payload), np.uint8) | 0x20  # [ and { differ in this bit, as do ] and }
    return int(np.cumsum((signs == 0x7B).astype(np.int64) - (signs == 0x7D)).max(initial=0))


def look_up(document: Any, path: str) -> Any:
    """The value at a dotted path; None if there is none. A key that itself has dots is found, too."""
    if not isinstance(document, dict):
        return None
    found = document.get(path)
    if found is not None or "." not in path:
        return found
    head, _, rest = path.partition(".")
    return look_up(document.get(head), rest)


def flatten(document: Document, max_depth: int, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything that is not an object; TooDeep stands for objects below `max_depth`."""
    for key, value in document.items():
        here = f"{path}.{key}" if path else key
        if type(value) is not dict:
            yield here, value
        elif max_depth > 1:
            yield from flatten(value, max_depth - 1, here)
        elif value:
            yield here, TooDeep


def parts(document: Any, stream: StreamConfig, limits: LimitsConfig) -> Iterator[Part | Refused]:
    """The message as its records, in order; a record that cannot be used is given as the reason.

    Raises Refused(not_an_object | no_records) when the message itself is not what the stream says.
    """
    if stream.records is None or (stream.records == "" and isinstance(document, dict)):
        if not isinstance(document, dict):
            raise Refused("not_an_object", _unexpected(document))
        yield _part("", document, document, stream, limits)
        return
    outer = document if isinstance(document, dict) else {}
    array = look_up(document, stream.records) if stream.records else document
    if not isinstance(array, list):
        raise Refused("no_records", f"there is no array at {stream.records or 'the top'!r} (records)")
    around = [(path, value) for path, value in flatten(outer, limits.max_depth) if path != stream.records]
    if around and stream.name_field is None:
        yield Part("", outer, outer, around)
    for i, record in enumerate(array):
        place = f"{stream.records}[{i}]"
        if isinstance(record, dict):
            try:
                yield _part(place + ".", record, outer, stream, limits)
            except Refused as why:
                yield why
        elif record is not None:
            yield Refused("not_an_object", f"{place} is no object")


def _part(place: str, record: Document, outer: Document, stream: StreamConfig, limits: LimitsConfig) -> Part:
    if stream.value_field is None:
        return Part(place, record, outer, list(flatten(record, limits.max_depth)))
    value = look_up(record, stream.value_field)
    name = ""
    if stream.name_field is not None:
        given = look_up(record, stream.name_field)
        if not isinstance(given, str) or not given:
            raise Refused("no_name", f"{place}{stream.name_field} must be the name of the metric")
        name = given
    if isinstance(value, dict):
        return Part(place, record, outer, list(flatten(value, limits.max_depth, name)))
    return Part(place, record, outer, [(name or stream.value_field, value)])


def _unexpected(document: Any) -> str:
    if isinstance(document, list):
        return 'the payload is an array: set records: "" if it holds records'
    return "the payload is a single value, not an object: set format: auto or scalar"


def is_bad(quality: Any) -> bool:
    """Whether a quality field speaks against the value: false, 0, null or a word other than good, ok or true."""
    if isinstance(quality, str):
        return not quality.strip().casefold().startswith(("good", "ok", "true"))
    return not quality


def shown(path: str) -> str:
    """A path for messages: devices choose it, so that it may hold anything."""
    return repr(path[:_MAX_PATH])[1:-1]
