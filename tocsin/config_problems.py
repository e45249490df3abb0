"""pydantic's errors as Problems: in words that say what would be right, at the place in the file.

Used for every YAML file that pydantic models describe (configuration, scenarios).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from telemetry import Problem
from tocsin.config_schema import Schema, is_secret, json_schema, known_keys
from tocsin.yaml_source import Document, Loc

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "keys with values (key: value)",
    "model_type": "keys with values (key: value)",
    "model_attributes_type": "keys with values (key: value)",
    "path_type": "a path",
    "byte_size": "a size such as 64KiB or 1GiB",
    "byte_size_unit": "a size such as 64KiB or 1GiB",
    "timezone_aware": "a time with a time zone such as 2026-01-31T12:00:00Z",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def problems_of(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Problem]:
    """One located Problem for each place; places that already have a problem in the document are left out."""
    schema = json_schema(model)
    known = {problem.loc for problem in document.problems}
    found: dict[Loc, Problem] = {}
    for details in error.errors(include_url=False):
        loc = _existing(document, details)
        message = _message(details, schema)
        if loc in known:
            continue
        if loc in found:
            message = _either(found[loc].message, message)
        is_key = details["type"] == "extra_forbidden" or details["loc"][-1:] == ("[key]",)
        found[loc] = document.located(Problem(message, loc), key=is_key)
    return list(found.values())


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`: did you mean 'x'?`, or the known words if they are few, or nothing."""
    words = list(known)
    near = difflib.get_close_matches(str(word), words, n=1)
    if near:
        return f": did you mean {near[0]!r}?"
    return f"; known here: {', '.join(words)}" if 0 < len(words) <= 16 else ""


def _existing(document: Document, details: ErrorDetails) -> Loc:
    """pydantic's place without the steps that are not in the file (names of alternatives); a missing key stays."""
    loc: Loc = ()
    for i, part in enumerate(details["loc"]):
        last = i == len(details["loc"]) - 1
        if document.has((*loc, part)) or (last and details["type"] == "missing"):
            loc = (*loc, part)
    if details["type"] in ("union_tag_invalid", "union_tag_not_found"):
        tag = str(details["ctx"]["discriminator"]).strip("'")
        loc = (*loc, tag) if document.has((*loc, tag)) else loc
    return loc


def _message(details: ErrorDetails, schema: Schema) -> str:
    kind, context, loc = details["type"], details.get("ctx", {}), details["loc"]
    instead = "" if is_secret(schema, loc) else _instead(details["input"])
    if kind == "extra_forbidden":
        return f"unknown key {loc[-1]!r}{did_you_mean(loc[-1], known_keys(schema, loc[:-1]))}"
    if kind == "missing":
        return f"the key {loc[-1]!r} is missing: it is required"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}{instead}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"must be {words} {context[name]}"
    if kind in ("literal_error", "enum"):
        words = str(context["expected"])
        choices = [word.strip("'\" ") for word in words.replace(" or ", ", ").split(",")]
        near = difflib.get_close_matches(str(details["input"]), choices, n=1)
        return f"expected {words}{instead}" + (f": did you mean {near[0]!r}?" if near else "")
    if kind == "union_tag_invalid":
        tags = [tag.strip("' ") for tag in str(context["expected_tags"]).split(",")]
        key = str(context["discriminator"]).strip("'")
        return f"unknown {key} {context['tag']!r}{did_you_mean(context['tag'], tags)}"
    if kind == "union_tag_not_found":
        return f"the key {context['discriminator']} is missing: it says which kind this is"
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    return _sentence(details["msg"])


def _instead(value: Any) -> str:
    """What stands there instead."""
    if value is None:
        return ", but nothing stands here"
    if isinstance(value, dict):
        return ", not keys with values"
    if isinstance(value, list):
        return ", not a list"
    if isinstance(value, bool):
        return f", not {str(value).lower()}"
    if isinstance(value, int | float):
        return f", not the number {value}"
    return f", not {value!r}" if isinstance(value, str) and len(value) <= 40 else ""


def _either(first: str, second: str) -> str:
    if first == second:
        return first
    if second.startswith("expected "):
        second = second.removeprefix("expected ")
        common = first.split(", not ")
        return f"{common[0]} or {second}"
    return f"{first}; or {second}"


def _sentence(text: str) -> str:
    return text[:1].lower() + text[1:]
