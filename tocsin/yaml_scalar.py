"""Where the n-th character of a YAML scalar stands in its file, for plain, quoted and block scalars.

Folding and unindenting only ever change white space, so the characters that are no white space come in the same order
in the file and in the value: we count those. Source: YAML 1.1 chapters 5 and 9.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice

import yaml

BREAKS = "\n\x85\u2028\u2029"
"""What ends a line in YAML; a carriage return counts with the line feed after it."""
_SPACE = " \t\r" + BREAKS
_HEX_LENGTH = yaml.SafeLoader.ESCAPE_CODES
_ESCAPES = yaml.SafeLoader.ESCAPE_REPLACEMENTS


class Lines:
    """Turns an index into a text into a line and a column, both from 1."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(i + 1 for i, c in enumerate(text) if c in BREAKS)]

    def at(self, index: int) -> tuple[int, int]:
        line = bisect_right(self._starts, index)
        return line, index - self._starts[line - 1] + 1


def index_of_character(text: str, node: yaml.ScalarNode, offset: int) -> int:
    """Index into `text` of character `offset` of the scalar's value; past its end: after the last one."""
    before = node.value[:offset]
    ink = sum(c not in _SPACE for c in before)
    places = _ink(text, node)
    if offset < len(node.value) and node.value[offset] not in _SPACE:
        return next(islice(places, ink, None), node.start_mark.index)
    if ink == 0:
        return next(places, node.start_mark.index)
    last = next(islice(places, ink - 1, None), node.start_mark.index)
    gap = before[len(before.rstrip(_SPACE)) :]
    return last + 1 + (0 if set(gap) & set(BREAKS) else len(gap))


def _ink(text: str, node: yaml.ScalarNode) -> Iterator[int]:
    """Indices into `text` of the characters of the value that are no white space, in order."""
    start, end = node.start_mark.index, node.end_mark.index
    if node.style == "'":
        return _single_quoted(text, start + 1, end - 1)
    if node.style == '"':
        return _double_quoted(text, start + 1, end - 1)
    if node.style in ("|", ">"):
        while start < end and text[start] not in BREAKS:
            start += 1
    return (i for i in range(start, end) if text[i] not in _SPACE)


def _single_quoted(text: str, i: int, end: int) -> Iterator[int]:
    while i < end:
        if text[i] not in _SPACE:
            yield i
        i += 2 if text[i] == "'" else 1


def _double_quoted(text: str, i: int, end: int) -> Iterator[int]:
    while i < end:
        if text[i] != "\\":
            if text[i] not in _SPACE:
                yield i
            i += 1
            continue
        code = text[i + 1]
        length = _HEX_LENGTH.get(code, 0)
        stands_for = chr(int(text[i + 2 : i + 2 + length], 16)) if length else _ESCAPES.get(code, " ")
        if stands_for not in _SPACE:
            yield i
        i += 2 + length
