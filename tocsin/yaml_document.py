"""Document: the data of one YAML file and the place of everything in it. Not here: how it is read (yaml_source)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from telemetry import Problem
from tocsin.yaml_scalar import Lines, index_of_character

Loc = tuple[str | int, ...]
"""Path of keys and indices to a value."""
TAG = "tag:yaml.org,2002:"
"""What the tags of YAML's own types begin with."""


@dataclass
class Document:
    """One YAML file: its data, and the place of everything in it."""

    data: dict[str, Any]
    file: str
    problems: list[Problem] = field(default_factory=list)
    """What is wrong with the text itself, with places: repeated keys, missing environment variables …"""
    substituted: dict[Loc, tuple[str, str]] = field(default_factory=dict)
    """Loc of each value that holds references to the environment: as written, and with the references replaced."""
    root: yaml.Node | None = None
    lines: Lines = field(default_factory=lambda: Lines(""))

    def is_quoted(self, loc: Loc) -> bool:
        """Whether the value at `loc` is text because of its quotes, or because it is a block."""
        node = self._node(loc)
        return isinstance(node, yaml.ScalarNode) and bool(node.style) and node.tag == TAG + "str"

    def place(self, loc: Loc, offset: int = 0, *, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at `loc`, `offset` characters into it; with `key`, of its key.

        What does not exist stands where the mapping or list that should hold it begins.
        """
        node, key_node = self.root, None
        for part in loc:
            found = _child(node, part)
            if found is None:
                offset, key = 0, False
                break
            key_node, node = found
        if node is None:
            return 1, 1
        if key_node is not None and (key or _is_blank(node)):
            return self.lines.at(key_node.start_mark.index)
        if isinstance(node, yaml.ScalarNode) and (offset or node.style in ("|", ">")):
            return self.lines.at(index_of_character(self.lines.text, node, offset))
        return self.lines.at(node.start_mark.index)

    def has(self, loc: Loc) -> bool:
        """Whether there is a value (null is one) at `loc`."""
        return self._node(loc) is not None

    def _node(self, loc: Loc) -> yaml.Node | None:
        node = self.root
        for part in loc:
            found = _child(node, part)
            if found is None:
                return None
            node = found[1]
        return node

    def located(self, problem: Problem, *, key: bool = False) -> Problem:
        """The problem with this file's name, line and column; values from the environment are not shown in it."""
        line, column = self.place(problem.loc, problem.offset, key=key)
        message = problem.message
        for loc, (written, value) in self.substituted.items():
            if value and loc == problem.loc[: len(loc)]:
                message = message.replace(value, written).replace(repr(value)[1:-1], written)
        return replace(problem, message=message, file=self.file, line=line, column=column)


def _is_blank(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.style and node.value == ""


def merge_sources(node: yaml.Node) -> list[yaml.Node]:
    """The mappings that a `<<` names."""
    return list(node.value) if isinstance(node, yaml.SequenceNode) else [node]


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    """Key (None in a list) and value of one step down; None if there is no such thing."""
    if isinstance(node, yaml.SequenceNode):
        inside = isinstance(part, int) and 0 <= part < len(node.value)
        return (None, node.value[part]) if inside else None
    if not isinstance(node, yaml.MappingNode):
        return None
    for key_node, value_node in node.value:
        if isinstance(key_node, yaml.ScalarNode) and key_node.value == str(part):
            return key_node, value_node
    for key_node, value_node in node.value:
        if key_node.tag == TAG + "merge":
            for source in merge_sources(value_node):
                if source is not node and (found := _child(source, part)) is not None:
                    return found
    return None
