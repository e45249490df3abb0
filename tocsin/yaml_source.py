"""YAML text as plain data that knows the place of every value, so that each problem is shown as file:line:column.

Scalars are read as YAML 1.2 reads them (`on`, `yes`, `1:30` and dates are text), keys are always text.
Not here: what the values mean (config, rules, simulators).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from telemetry import ConfigError, Problem
from tocsin.yaml_document import TAG, Document, Loc
from tocsin.yaml_scalar import Lines
from tocsin.yaml_text import decode_text, syntax_problem
from tocsin.yaml_values import MAX_DEPTH, Builder

__all__ = ["Document", "Loc", "load_yaml", "parse_yaml"]


class _Bounded:
    """A composer of nodes that stops at the depth limit."""

    depth = 0

    def compose_node(self: Any, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Stops at once: the cost of parsing grows with the square of the depth."""
        self.depth += 1
        if self.depth > MAX_DEPTH + 2:  # a mapping and its scalars inside of the deepest list
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, f"nested more than {MAX_DEPTH} deep", mark)
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[misc]  # the loaders that it is mixed into have it
        self.depth -= 1
        return node


class _Loader(_Bounded, yaml.SafeLoader):
    """Composes nodes with YAML 1.2's core schema instead of 1.1's."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # as PyYAML declares it


for _name, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(TAG + _name, re.compile(rf"(?:{_pattern})\Z"), list(_first))


_loaders: list[type[Any]] = [_Loader]
if yaml.__with_libyaml__:

    class _FastLoader(_Bounded, yaml.composer.Composer, yaml.CSafeLoader):
        """As _Loader, with libyaml's scanner: several times faster, but what it says of errors is harder to follow."""

        yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

        def __init__(self, stream: str) -> None:
            yaml.CSafeLoader.__init__(self, stream)
            yaml.composer.Composer.__init__(self)

    _loaders.insert(0, _FastLoader)


def load_yaml(text: str | bytes, file: str, *, env: Mapping[str, str] | None = None) -> Document:
    """The document; references to the environment are replaced only when `env` is given.

    Raises ConfigError with every problem of the text.
    """
    document = parse_yaml(text, file, env=env)
    if document.problems:
        raise ConfigError(document.problems)
    return document


def parse_yaml(
    text: str | bytes, file: str, *, env: Mapping[str, str] | None = None, only_text: bool = False
) -> Document:
    """As `load_yaml`, but reports in `Document.problems`, so that the caller can look for more of them.

    With `only_text`, numbers and booleans stay the text that they are written as (a label `1.10` is no 1.1).
    """
    document = Document({}, file)
    text, broken = decode_text(text)
    document.lines = Lines(text)
    if broken is not None:
        document.problems.append(replace(broken, file=file))
        return document
    try:
        root = _compose(text)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two: "\\UFFFFFFFF" is no character
        document.problems.append(replace(syntax_problem(error, document.lines), file=file))
        return document
    document.root = root
    if isinstance(root, yaml.MappingNode):
        document.data = Builder(document, env, only_text=only_text).build(root)
    elif root is not None and root.tag != TAG + "null":
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        problem = Problem(f"the file holds {kind}: expected keys with values (key: value)")
        document.problems.append(document.located(problem))
    return document


def _compose(text: str) -> yaml.Node | None:
    """The nodes, by the fastest loader that takes the text; errors are the last one's."""
    for loader in _loaders[:-1]:
        with contextlib.suppress(yaml.YAMLError):
            return yaml.compose(text, loader)
    return yaml.compose(text, _loaders[-1])
