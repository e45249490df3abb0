"""The words of a PromQL text, with their places. Here: scanning, the values of numbers and strings. Not here: grammar.

Source: prometheus promql/parser/lex.go, and util/strutil/quote.go for the escapes of strings, which are Go's.
"""

from __future__ import annotations

import contextlib
import math
import re
from typing import NamedTuple

from telemetry import TocsinError, parse_duration

AGGREGATIONS = frozenset(
    {"sum", "avg", "min", "max", "count", "stddev", "stdvar", "quantile", "topk", "bottomk", "group", "count_values"}
)
KEYWORDS = AGGREGATIONS | {
    "and", "or", "unless", "atan2", "bool", "on", "ignoring", "by", "without", "group_left", "group_right", "offset",
    "inf", "nan",
}  # fmt: skip
"""Words that mean the same in capital letters."""
BRACKETS = {"(": ")", "[": "]", "{": "}"}
MATCHES = frozenset({"=", "!=", "=~", "!~"})
MAX_SECONDS = 6e9
"""Times and durations are at most this far from 0, so that their sums stay within int64 ns."""


_TOKEN = re.compile(
    r"[ \t\r\n]*(?:"
    r"(?P<word>[A-Za-z_:][\w:]*)"
    r"|(?P<operator>[=!<>]=|=~|!~|[-+*/%^<>=(){}\[\],@:])"
    r"|(?P<number>(?:0[xX][0-9a-fA-F_]+|(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?)[\w.]*)"
    r"""|(?P<string>"(?:\\[^\n]|[^"\\\n])*"|'(?:\\[^\n]|[^'\\\n])*'|`[^`]*`)"""
    r"|(?P<comment>\#[^\r\n]*)|(?P<stray>.)|\Z)",
    re.ASCII | re.DOTALL,
)
_DURATION = re.compile(r"(?:[0-9]+(?:ms|[ywdhms]))+")
_UNIT = re.compile(r"(?:msec|milli|sec|second|min|minute|hour|day|week|year)s?")
_DECIMAL = re.compile(r"(?:[0-9]+(?:_[0-9]+)*(?:\.(?:[0-9]+(?:_[0-9]+)*)?)?|\.[0-9]+(?:_[0-9]+)*)(?:[eE][+-]?[0-9]+)?")
_HEXADECIMAL = re.compile(r"0[xX]_?[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*")
_OCTAL = re.compile(r"0[0-7]+")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ESCAPE = re.compile(
    r"""\\(?:(?P<plain>[abfnrtv\\'"])|(?P<octal>[0-3][0-7]{2})|x(?P<byte>[0-9a-fA-F]{2})"""
    r"""|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})|.?)""",
    re.DOTALL,
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class ExpressionError(TocsinError):
    """The expression cannot be evaluated; `offset` is the place in its text, in characters."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


class Token(NamedTuple):
    kind: str
    """`word`, `keyword`, `number` (durations, too), `string` or `operator` (brackets, too)"""
    text: str
    start: int

    @property
    def key(self) -> str:
        """What keywords and operators are compared by; empty for numbers and strings."""
        if self.kind == "keyword":
            return self.text.lower()
        return self.text if self.kind in ("operator", "word") else ""

    @property
    def ends_operand(self) -> bool:
        """Whether an operator may follow, so that a sign is one; keywords that are metrics aside."""
        return self.kind in ("word", "number", "string") or self.text in (")", "]", "}")


def scan(text: str) -> list[Token]:
    """The tokens of the text, without comments. Raises ExpressionError where there is none."""
    tokens: list[Token] = []
    matches, inside = _TOKEN.finditer(text), ""
    while (m := next(matches)) and (kind := m.lastgroup):
        word, start = m[kind], m.start(kind)
        if kind == "operator":
            if word in "[]{}":
                inside = word
        elif kind == "word":
            if inside == "[" and word[0] == ":":  # not a metric: the step of a subquery
                kind, word = "operator", ":"
                matches = _TOKEN.finditer(text, start + 1)
            elif (lower := word.lower()) in KEYWORDS:
                kind = "keyword" if lower not in ("inf", "nan") else "word" if inside == "{" else "number"
        elif kind == "comment":
            continue
        elif kind == "stray":
            raise _stray(text, start, tokens if inside == "{" else [])
        tokens.append(Token(kind, word, start))
    return tokens


def _stray(text: str, position: int, braces: list[Token]) -> ExpressionError:
    """braces: the tokens before it, if it stands within braces."""
    character = text[position]
    if character in "\"'`":
        return ExpressionError(f"the string has no closing {character}", position)
    for last in (braces, [*braces, Token("", "", position)]):  # state=~open.*, state=~.*
        if len(last) > 2 and last[-2].text in MATCHES and last[-1].kind != "string":
            return without_quotes(last[-3], last[-2], None, last[-1].start)
    advice = ': a name that has it is written {"…"}' if character == "." or character.isalpha() else ""
    return ExpressionError(f"unexpected character {character!r}{advice}", position)


def number(token: Token) -> float:
    """The value of a number; a duration's is in seconds. Raises ExpressionError."""
    text = token.text
    if _OCTAL.fullmatch(text):
        return float(int(text, 8))  # as Go's strconv.ParseInt
    if text.lower() in ("inf", "nan"):
        return float(text)
    if _DECIMAL.fullmatch(text):
        if math.isinf(value := float(text)):
            raise ExpressionError(f"{text} is out of range: write Inf", token.start)
        return value
    if _HEXADECIMAL.fullmatch(text):
        return float(int(text, 16))
    return _duration(token) / 1e9


def nanoseconds(token: Token) -> int:
    """The value of a duration, or of a number of seconds, in ns. Raises ExpressionError."""
    if _DURATION.fullmatch(token.text):
        ns = _duration(token)
    else:
        seconds = number(token)
        ns = round(seconds * 1e9) if abs(seconds) <= MAX_SECONDS else 2**63
    if ns > MAX_SECONDS * 1e9:
        raise ExpressionError(f"{token.text} is too far: at most {MAX_SECONDS:.0f} seconds", token.start)
    return ns


def _duration(token: Token) -> int:
    if _DURATION.fullmatch(token.text):
        try:
            return parse_duration(token.text)
        except ValueError as error:
            raise ExpressionError(f"{error} (the largest unit first, each once)", token.start) from None
    raise ExpressionError(
        f"{token.text} is no number and no duration: write for example 30, 1e3, 0x1F, 5m or 1h30m", token.start
    )


def why_no_duration(before: Token, token: Token) -> str | None:
    """What is wrong with two tokens that were meant as one duration, if they were: `5 m`, `1h 30m`."""
    together = before.text + token.text
    if before.kind != "number" or not (_DURATION.fullmatch(together) or _UNIT.fullmatch(token.text)):
        return None
    with contextlib.suppress(ValueError):
        parse_duration(together)
        return f"a duration has no space in it: {together}"
    return "a duration is written as in 30s, 5m or 1h30m"


def without_quotes(label: Token, sign: Token, value: Token | None, place: int) -> ExpressionError:
    """The error where the value of a label should be a string; value: all of it, if it is one token."""
    shown = value.text if value else "…"
    return ExpressionError(f'the value of a label stands in quotes: {label.text}{sign.text}"{shown}"', place)


def string(token: Token) -> str:
    """The value of a string. Raises ExpressionError."""
    quote, inner = token.text[0], token.text[1:-1]
    if quote == "`" or "\\" not in inner:
        return inner
    parts, end = [], 0
    for m in _ESCAPE.finditer(inner):
        parts += [inner[end : m.start()].encode(), _escaped(m, token)]
        end = m.end()
    try:
        return b"".join([*parts, inner[end:].encode()]).decode()
    except UnicodeDecodeError:
        raise ExpressionError("the string is not valid UTF-8", token.start) from None


def is_label_name(text: str) -> bool:
    """Whether elements may have a label of that name."""
    return _LABEL.fullmatch(text) is not None


def _escaped(m: re.Match[str], token: Token) -> bytes:
    plain, digits = m["plain"], m["short"] or m["long"]
    if plain and (plain not in "'\"" or plain == token.text[0]):
        return _PLAIN.get(plain, plain).encode()
    if m["byte"] or m["octal"]:
        return bytes([int(m["byte"], 16) if m["byte"] else int(m["octal"], 8)])
    if digits and not 0xD800 <= int(digits, 16) < 0xE000 and int(digits, 16) <= 0x10FFFF:
        return chr(int(digits, 16)).encode()
    raise ExpressionError(
        f"{m.group()} is no escape of strings: in a pattern write the backslash twice, or use `backticks`",
        token.start + 1 + m.start(),
    )


def numbered(tokens: list[Token]) -> list[str]:
    """The tokens' texts, but each string and number is its token's number, counted from 1 (and so is a label `or`).

    For the parser's judgement not to depend on what they say, each matcher is `=`; and the sign after @ is left out.
    """
    parts: list[str] = []
    before, braces = "", False
    for i, (kind, text, _) in enumerate(tokens, 1):
        part = text
        if kind == "string":
            part = f'"{i}"'
            if braces and before in MATCHES:
                parts[-1] = "="
        elif kind == "number":
            part = str(i)
        elif text in "{}":
            braces = text == "{"
        elif before == "@" and text in "+-":
            part = ""
        elif braces and text in MATCHES and before.lower() == "or":
            parts[-1] = f'"{i - 1}"'  # the parser takes it for alternatives
        parts.append(part)
        before = text
    return parts
