"""One value of a payload: a number, a word, or nothing. Here: numbers in text, maps of words. Not here: documents."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ingest.rejection import Refused
from telemetry.series import MAX_LABEL_VALUE

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_WITH_UNIT = re.compile(
    r"([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d{1,4})?)(?:\s?[^\s0-9.,:/+\-_]|\s[^\s0-9])[^\s0-9]{0,15}|"
    r"([+-]?\d+,\d+)",
    re.ASCII,
)
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MAX_NUMBER_TEXT = 400
_BOOLEANS = {"true": 1.0, "false": 0.0}


def number(value: float, max_digits: int) -> float:
    """A JSON number as float64. Raises Refused(number_too_long | not_finite)."""
    if isinstance(value, int):
        if not -(10**max_digits) < value < 10**max_digits:
            raise Refused("number_too_long", f"a whole number has more than {max_digits} digits (limits.max_digits)")
        return float(value)
    if math.isnan(value):
        raise Refused("not_finite", "NaN is no reading; leave the field out when there is none")
    if not math.isfinite(value):
        raise Refused("not_finite", "the number is too large for float64")
    return value


def label(name: str, text: str) -> str:
    """A text fit to be the value of a label. Raises Refused(bad_label)."""
    if len(text) > MAX_LABEL_VALUE:
        raise Refused("bad_label", f"{name} is longer than {MAX_LABEL_VALUE} characters: free text is no identity")
    if _UNFIT.search(text):
        raise Refused("bad_label", f"{name} has control characters or broken Unicode: {text[:60]!r}")
    return text


def text(given: str, *, words: Mapping[str, float] | None, numeric: bool, max_digits: int) -> float | str | None:
    """What a JSON string is: a number (a mapped word, or a number in text), a word, or None for the empty text.

    Raises Refused(unmapped_word | not_finite | number_too_long | bad_text).
    """
    stripped = given.strip()
    if words is not None and (mapped := words.get(stripped.casefold())) is not None:
        return mapped
    if not stripped:
        return None
    if numeric and len(stripped) <= _MAX_NUMBER_TEXT and _NUMBER.fullmatch(stripped):
        return _parsed(stripped, max_digits)
    if _NOT_FINITE.fullmatch(stripped):
        raise Refused("not_finite", f"{stripped!r} is no reading; leave the field out when there is none")
    if words is not None:
        raise Refused(
            "unmapped_word", f"{stripped[:60]!r} is none of {', '.join(sorted(words))}: add it to fields.values"
        )
    return _word(stripped)


def scalar(payload: bytes, *, words: Mapping[str, float] | None, max_digits: int) -> float | str | None:
    """What a plain payload is: `21.5`, `"21,5"`, `23.42 °C`, `true`, `ON`; None for null and blanks.

    Raises Refused(bad_encoding) and as `text`.
    """
    try:
        given = payload.decode().strip()
    except UnicodeDecodeError as error:
        raise Refused("bad_encoding", f"the payload is not UTF-8 text (byte {error.start}): is it binary?") from None
    if len(given) >= 2 and given[0] == given[-1] == '"':
        given = given[1:-1].strip()
    if words is None or given.casefold() not in words:
        if given == "null":
            return None
        if (boolean := _BOOLEANS.get(given.casefold())) is not None:
            return boolean
        if len(given) <= _MAX_NUMBER_TEXT and (found := _WITH_UNIT.fullmatch(given)):
            return _parsed((found[1] or found[2]).replace(",", "."), max_digits)
    return text(given, words=words, numeric=True, max_digits=max_digits)


def _parsed(digits: str, max_digits: int) -> float:
    if sum(c.isdigit() for c in digits.partition(".")[0].lower().partition("e")[0].lstrip("+-0")) > max_digits:
        raise Refused("number_too_long", f"a number has more than {max_digits} digits (limits.max_digits)")
    found = float(digits)
    if not math.isfinite(found):
        raise Refused("not_finite", f"{digits[:40]!r} is too large for float64")
    return found


def _word(given: str) -> str:
    if len(given) > MAX_LABEL_VALUE or _UNFIT.search(given):
        raise Refused(
            "bad_text",
            f"{given[:40]!r}… is free text ({len(given)} characters), no state: put the field under fields.exclude",
        )
    return given


def as_label(value: Any) -> str | None:
    """A payload value as the text of a label; None if it is absent or no plain value."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) < 10**32:
        return str(value)
    return repr(value) if isinstance(value, float) else None
