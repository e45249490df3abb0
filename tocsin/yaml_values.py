"""YAML nodes to plain data, with all problems of the text: repeated keys, tags, environment variables, limits.

Keys are always text. Not here: syntax (yaml_source), places (yaml_document).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from telemetry import Problem
from tocsin.environment import substitute
from tocsin.yaml_document import TAG, Document, Loc, merge_sources

MAX_NODES = 200_000
"""Values in one file, with each use of an anchor counted anew: a small file cannot grow without bound."""
MAX_DEPTH = 60
_SURROGATE = re.compile("[\\ud800-\\udfff]")


class Builder:
    """Turns nodes into data; collects problems instead of stopping at the first."""

    def __init__(self, document: Document, env: Mapping[str, str] | None, *, only_text: bool) -> None:
        self._document, self._env, self._only_text = document, env, only_text
        self._left = MAX_NODES
        self._open: set[int] = set()

    def build(self, root: yaml.MappingNode) -> dict[str, Any]:
        try:
            data: dict[str, Any] = self._value(root, ())
        except _TooLargeError as error:
            self._complain(str(error), ())
            return {}
        return data

    def _complain(self, message: str, loc: Loc, offset: int = 0, *, key: bool = False) -> None:
        self._document.problems.append(self._document.located(Problem(message, loc, offset), key=key))

    def _complain_at(self, message: str, node: yaml.Node, loc: Loc) -> None:
        line, column = self._document.lines.at(node.start_mark.index)
        self._document.problems.append(Problem(message, loc, file=self._document.file, line=line, column=column))

    def _value(self, node: yaml.Node, loc: Loc) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _TooLargeError(f"the file has more than {MAX_NODES} values (anchors are counted where they are used)")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, loc)
        if id(node) in self._open:
            raise _TooLargeError("an anchor holds itself: write the value out")
        if len(loc) >= MAX_DEPTH:
            raise _TooLargeError(f"the file is nested more than {MAX_DEPTH} deep")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self._value(item, (*loc, i)) for i, item in enumerate(node.value)]
            return self._mapping(node, loc)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.Node, loc: Loc) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._complain_at("a key must be text: quote it if it begins with { or [", key_node, loc)
            elif key_node.tag == TAG + "merge":
                for source in merge_sources(value_node):
                    merged = self._merged(source, loc) | merged
            elif key_node.value in data:
                repeated = (*loc, key_node.value)
                first, _ = self._document.place(repeated, key=True)
                words = f"the key {key_node.value!r} stands here twice: the first is in line {first}"
                self._complain_at(words, key_node, repeated)
            else:
                data[key_node.value] = self._value(value_node, (*loc, key_node.value))
        return merged | data

    def _merged(self, source: yaml.Node, loc: Loc) -> dict[str, Any]:
        if isinstance(source, yaml.MappingNode):
            data: dict[str, Any] = self._value(source, loc)
            return data
        self._complain_at("<< takes a mapping or a list of mappings", source, loc)
        return {}

    def _scalar(self, node: yaml.ScalarNode, loc: Loc) -> Any:
        kind = node.tag.removeprefix(TAG)
        text: str = node.value
        if _SURROGATE.search(text):
            self._complain("half of a surrogate pair is no character: remove the \\u escape", loc)
            return ""
        if kind == "str" or (self._only_text and kind in ("int", "float", "bool")):
            return self._substituted(text, loc) if self._env is not None else text
        try:
            return _PLAIN[kind](text)
        except KeyError:
            self._complain(f"the tag {node.tag.replace(TAG, '!!')} is not supported: remove it", loc)
        except ValueError:
            self._complain(f"{text[:40]!r} is not of the type {node.tag.replace(TAG, '!!')}", loc)
        return text

    def _substituted(self, text: str, loc: Loc) -> str:
        if "${" not in text or self._env is None:
            return text
        value = substitute(text, self._env, lambda message, offset: self._complain(message, loc, offset))
        self._document.substituted[loc] = (text, value)
        return value


class _TooLargeError(Exception):
    """A limit on the whole file is exceeded."""


def _integer(text: str) -> int:
    if len(text) > 300:
        raise ValueError("too many digits")
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("neither true nor false")
    return text.lower() == "true"


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_PLAIN: dict[str, Callable[[str], Any]] = {"int": _integer, "float": _float, "bool": _boolean, "null": lambda _: None}
