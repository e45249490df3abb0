"""The series notation of promtool's unit tests: `up{job="a"}` and `0+10x5 _x3 stale`, as labels and samples.

Source: Prometheus, "Unit testing for rules" and promql/parser/generated_parser.y (series descriptions). Not here: which
series and instants they are (test_file, runner).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.series import LABEL_NAME

MAX_SAMPLES = 5_000_000
"""Of one series: `1x99999999999` is a slip of the pen."""

_DIGITS = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_ITEM = re.compile(
    rf"""(?: (?P<blank>_)
           | (?P<stale>stale)
           | (?P<value>[-+]? (?: {_DIGITS} | (?i:inf|nan)\b ) ) (?P<step>[-+] {_DIGITS})?
         ) (?: x (?P<times>[0-9]+) )?""",
    re.VERBOSE,
)
_NUMBER = re.compile(_DIGITS)
_WORD = re.compile(r"\S+")
_BY_NAME = re.compile(r"[-+]?(?:inf|nan)x", re.IGNORECASE)
_STRING = re.compile(r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`""")
_TOKEN = re.compile(
    rf"""(?:\s|\#[^\n]*)*+(?:(?P<string>{_STRING.pattern})|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<sign>=~|!=|!~|\S))"""
)
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))")
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'"}


class NotationError(ValueError):
    """The text is not in the notation; `offset` is the place in it, in characters."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Values:
    """The samples of one series, by the number of their interval from 0; left-out ones are not among them."""

    index: NDArray[np.int64]
    """(n,) ascending"""
    value: NDArray[np.float64]
    """(n,)"""
    stale: NDArray[np.bool_]
    """(n,) at which the series ends, by Prometheus' staleness marker; its value is NaN"""


def parse_values(text: str) -> Values:
    """`1 2+3x4 _ _x2 stale NaN -Inf` as samples. Raises NotationError with the place of what is not known.

    `a+bxn` is a, a+b … a+n·b (n + 1 samples), `axn` is a+0xn, `_xn` leaves n samples out.
    """
    histogram = text.find("{{")
    if histogram >= 0:
        raise NotationError("native histograms are not supported: write plain numbers", histogram)
    stripped = text.strip()
    if "\n" in stripped:
        raise NotationError(
            "the values stand in one line: fold longer texts with >- in YAML",
            text.index(stripped) + stripped.index("\n"),
        )
    index: list[NDArray[np.int64]] = []
    value: list[NDArray[np.float64]] = []
    stale: list[NDArray[np.bool_]] = []
    at = 0
    for word in _WORD.finditer(text):
        item = _ITEM.fullmatch(word[0])
        if item is None or (item["stale"] and item["times"]) or (item["step"] and not item["times"]):
            raise NotationError(_explain(word[0]), word.start())
        if any(math.isinf(float(number)) for number in _NUMBER.findall(word[0])):
            raise NotationError(f"{word[0]!r} is too large a number", word.start())
        times = int(item["times"] or 0)
        n = (times if item["times"] else 1) if item["blank"] else times + 1
        if at + n > MAX_SAMPLES:
            raise NotationError(f"more than {MAX_SAMPLES} samples: use a longer interval", word.start())
        if not item["blank"]:
            index.append(np.arange(at, at + n))
            value.append(np.full(n, np.nan) if item["stale"] else _expanded(item["value"], item["step"], n))
            stale.append(np.full(n, bool(item["stale"])))
        at += n
    if not index:
        return Values(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, bool))
    return Values(np.concatenate(index), np.concatenate(value), np.concatenate(stale))


def _expanded(first: str, step: str | None, n: int) -> NDArray[np.float64]:
    """(n,) each sample is the one before plus the step, rounded as often as upstream rounds."""
    values = np.full(n, _number(step) if step else 0.0)
    values[0] = _number(first)
    with np.errstate(invalid="ignore"):
        return np.add.accumulate(values)


def _number(text: str) -> float:
    """As PromQL reads it: whole numbers that begin with 0 are octal, where they can be."""
    sign, digits = (-1.0 if text.startswith("-") else 1.0), text.lstrip("+-")
    if re.fullmatch("0[0-7]+", digits):
        return sign * int(digits, 8)
    return sign * float(digits)


def _explain(word: str) -> str:
    known = "known are numbers, NaN, Inf, a+bxn, a-bxn, axn, _, _xn and stale"
    if word.startswith("stalex"):
        return f"stale cannot be repeated: write it as often as it is needed, not {word!r}"
    if _BY_NAME.match(word):
        return f"{word!r} is read as a name: write {word.lower().partition('x')[0]}+0x{word.lower().partition('x')[2]}"
    if "x" in word and not re.search(r"x[0-9]+\Z", word):
        return f"{word!r} ends without a number of times: write for example {word.partition('x')[0] or '1'}x10"
    if re.fullmatch(rf"[-+]?{_DIGITS}[-+]{_DIGITS}", word):
        return f"{word!r} does not say how often: write {word}x10, or two values with a space between them"
    return f"{word!r} is not a value: {known}"


def parse_metric(text: str) -> dict[str, str]:
    """The labels of `name{label="value"}`, `__name__` among them; raises NotationError with the place.

    The name may be missing, so may the braces; empty values are left out, as in Prometheus.
    """
    tokens = _Tokens(text)
    labels: dict[str, str] = {}
    if tokens.kind == "name":
        if tokens.text.lower() in ("inf", "nan"):
            raise NotationError(f'{tokens.text} is a number: write {{__name__="{tokens.text}"}}', tokens.offset)
        labels["__name__"] = tokens.take()
    if tokens.text == "{":
        tokens.take()
        while tokens.text != "}":
            _label(tokens, labels)
            if tokens.text == ",":
                tokens.take()
            elif tokens.text != "}":
                raise NotationError(f"expected ',' or '}}', not {tokens.shown}", tokens.offset)
        tokens.take()
    if tokens.text:
        raise NotationError(f'expected a series such as up{{job="a"}}, not {tokens.shown}', tokens.offset)
    return {name: value for name, value in labels.items() if value}


def _label(tokens: _Tokens, labels: dict[str, str]) -> None:
    """One `name="value"`, or the metric's name in quotes (Prometheus 3's notation for names of any characters)."""
    place, quoted = tokens.offset, tokens.kind == "string"
    if tokens.kind not in ("name", "string"):
        raise NotationError(f"expected a label name, not {tokens.shown}", place)
    name = tokens.take()
    if tokens.text != "=":
        if quoted and "__name__" not in labels:
            labels["__name__"] = name
            return
        if tokens.text in ("!=", "=~", "!~"):
            raise NotationError(f'{tokens.text} selects series: write name="value" here', tokens.offset)
        raise NotationError(f"expected = after the label {name}, not {tokens.shown}", tokens.offset)
    if not quoted and not LABEL_NAME.fullmatch(name):
        raise NotationError(f"{name!r} is not a label name: use letters, digits and _", place)
    tokens.take()
    if tokens.kind != "string":
        raise NotationError(f'the value of a label stands in quotes, as in {name}="value"', tokens.offset)
    if name in labels:
        raise NotationError(f"the label {name} stands here twice", place)
    labels[name] = tokens.take()


class _Tokens:
    """The tokens of a series' text, one after another; at the end, `text` is empty."""

    def __init__(self, text: str) -> None:
        self._whole, self._end = text, 0
        self._next()

    def take(self) -> str:
        """The token, unquoted; the next one follows."""
        text = _unquoted(self.text, self.offset) if self.kind == "string" else self.text
        if not text and not self.kind:
            raise NotationError("the series ends too early: a } is missing", self.offset)
        self._next()
        return text

    @property
    def shown(self) -> str:
        return repr(self.text) if self.text else "the end"

    def _next(self) -> None:
        found = _TOKEN.match(self._whole, self._end)
        if found is None:
            self.kind, self.text, self.offset = "", "", len(self._whole)
            return
        self.kind = found.lastgroup or ""
        self.text, self.offset, self._end = found[self.kind], found.start(self.kind), found.end()


def _unquoted(text: str, offset: int) -> str:
    """A string as Go's strconv.Unquote reads it."""
    if text.startswith("`"):
        return text[1:-1]

    def plain(escape: re.Match[str]) -> str:
        x, u, long, octal, letter = escape.groups()
        code = int(x or u or long or "0", 16) if octal is None else int(octal, 8)
        if letter is not None:
            if letter not in _ESCAPED:
                raise NotationError(rf"\{letter} is no escape: write \\ for a backslash", offset + 1 + escape.start())
            return _ESCAPED[letter]
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise NotationError(f"{escape[0]} is no character", offset + 1 + escape.start())
        return chr(code)

    return _ESCAPE.sub(plain, text[1:-1])
