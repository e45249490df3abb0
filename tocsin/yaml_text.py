"""Bytes to text and YAML's own errors, said so that a user knows what to change. Not here: structure and values."""

from __future__ import annotations

import codecs
from typing import Any

import yaml

from telemetry import Problem
from tocsin.yaml_scalar import Lines

MAX_CHARACTERS = 8 << 20
"""Longer files are refused before they are parsed."""

_HINTS = (
    ("cannot start any token", "'\\t'", "a tab cannot indent YAML: use spaces"),
    ("mapping values are not allowed here", "", "a second ':' in one value: quote the value, or mend the indentation"),
    ("could not find expected ':'", "", "expected 'key: value': a ':' is missing, or the indentation is wrong"),
    ("expected <block end>", "", "this line does not fit the lines above it: mend the indentation"),
    ("found unexpected end of stream", "", "the quoted text is not closed: its last quote is missing"),
    ("expected a single document", "", "'---' begins a second document: write one document in each file"),
    (
        "found undefined alias",
        "",
        "there is no anchor of this name above: write &name at the value that *name stands for",
    ),
    ("cannot start any token", "'@'", "a value cannot begin with '@': quote it"),
    ("cannot start any token", "'`'", "a value cannot begin with '`': quote it"),
    ("cannot start any token", "'%'", "a value cannot begin with '%': quote it"),
    ("expected alphabetic or numeric character", "alias", "a value cannot begin with '*': quote it"),
    ("expected ',' or '}'", "", "expected ',' or '}': a { is not closed (quote text that holds braces)"),
    ("expected ',' or ']'", "", "expected ',' or ']': a [ is not closed (quote text that holds brackets)"),
)


def decode_text(source: str | bytes) -> tuple[str, Problem | None]:
    """The text without a byte order mark, and what makes it unreadable, if anything does."""
    if isinstance(source, bytes):
        if source.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "", Problem("the file is UTF-16: save it as UTF-8", line=1, column=1)
        try:
            text = source.decode()
        except UnicodeDecodeError as error:
            before = source[: error.start].decode()
            line, column = Lines(before).at(len(before))
            code = f"0x{source[error.start]:02x}"
            return "", Problem(f"the byte {code} is not UTF-8: save the file as UTF-8", line=line, column=column)
    else:
        text = source
    if len(text) > MAX_CHARACTERS:
        return "", Problem(f"the file is longer than {MAX_CHARACTERS >> 20} MiB: split it", line=1, column=1)
    return text.removeprefix("\ufeff"), None


def syntax_problem(error: Exception, lines: Lines) -> Problem:
    """What PyYAML found, in words that say what to change, with its place."""
    if isinstance(error, yaml.reader.ReaderError):
        line, column = lines.at(error.position)
        code = f"U+{ord(lines.text[error.position]):04X}"
        return Problem(f"the character {code} is not allowed in YAML: remove it", line=line, column=column)
    mark = error.problem_mark or error.context_mark if isinstance(error, yaml.MarkedYAMLError) else None
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    if (after := _after_quotes(error, lines)) is not None:
        line, column = lines.at(after)
        words = "the value ends at its closing quote: quote all of it together, or put a comma or line break here"
        return Problem(words, line=line, column=column)
    return Problem(_in_words(error), line=line, column=column)


def _after_quotes(error: Any, lines: Lines) -> int | None:
    """Where text goes on behind a quoted value on the same line, if that is what is wrong."""
    found = str(error.problem) if isinstance(error, yaml.MarkedYAMLError) else ""
    if found.startswith(("expected <block end>", "expected ','", "expected a comment")):
        for mark in filter(None, (error.context_mark, error.problem_mark)):  # of `"x" > "y"`, a block begins at >
            if lines.text[mark.index - mark.column : mark.index].rstrip(" \t").endswith(("'", '"')):
                return int(mark.index)
    return None


def _in_words(error: Exception) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"not valid YAML: {error}"
    found = " ".join(filter(None, (error.problem, error.context))).replace("\n", " ")
    for part, character, words in _HINTS:
        if part in found and character in found:
            begins, ends = error.context_mark, error.problem_mark
            if begins and ends and begins.line != ends.line:
                return f"{words} (it begins in line {begins.line + 1})"
            return words
    return f"not valid YAML: {found}"
