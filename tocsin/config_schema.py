"""JSON Schema of pydantic models as users write them (durations as text), and the keys that are known at a place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ByteSize
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from telemetry import format_duration, parse_duration

Schema = dict[str, Any]
DURATION: Schema = {
    "type": "string",
    "pattern": r"^([0-9]+(ns|us|ms|[ywdhms]))+$|^0$",
    "examples": ["30s", "5m", "1h30m"],
}
BYTES: Schema = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "examples": ["64KiB", "1GiB"]}]}


class _AsWritten(GenerateJsonSchema):
    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        if schema["function"]["function"] is parse_duration:
            return dict(DURATION)
        return super().function_before_schema(schema)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        written = super().default_schema(schema)
        default = schema.get("default")
        if isinstance(default, ByteSize):
            return BYTES | {"default": format_bytes(default)}
        if isinstance(default, int) and written.get("pattern") == DURATION["pattern"]:
            written["default"] = format_duration(default)
        return written


def json_schema(model: type[BaseModel]) -> Schema:
    """The schema of what a user may write in a YAML file for this model."""
    schema = model.model_json_schema(schema_generator=_AsWritten)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def format_bytes(n: int) -> str:
    """The shortest exact notation that pydantic's ByteSize reads: 67108864 is 64MiB."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if n and n % 1024**power == 0:
            return f"{n >> (10 * power)}{unit}"
    return f"{n}B"


def known_keys(schema: Schema, loc: Iterable[str | int]) -> list[str]:
    """The keys that the mapping at `loc` may have; empty where any key is allowed. `loc` is pydantic's, with tags."""
    places = _places(schema, loc)
    return sorted(
        {key for place in places for plain in alternatives(schema, place) for key in plain.get("properties", {})}
    )


def is_secret(schema: Schema, loc: Iterable[str | int]) -> bool:
    """Whether a password or the like is kept at `loc`."""
    return any("writeOnly" in plain for place in _places(schema, loc) for plain in alternatives(schema, place))


def alternatives(root: Schema, place: Schema) -> Iterator[Schema]:
    """The schema at a place, references resolved, and all that it offers as a choice."""
    place = _resolved(root, place)
    yield place
    for kind in ("anyOf", "oneOf", "allOf"):
        for inner in place.get(kind, ()):
            yield from alternatives(root, inner)


def _places(root: Schema, loc: Iterable[str | int]) -> list[Schema]:
    places = [root]
    for part in loc:
        places = [inner for place in places for inner in steps(root, place, part)]
    return places


def steps(root: Schema, place: Schema, part: str | int) -> Iterator[Schema]:
    tags = _resolved(root, place).get("discriminator", {}).get("mapping", {})
    if part in tags:
        yield {"$ref": tags[part]}
        return
    for plain in alternatives(root, place):
        inner = plain.get("items") if isinstance(part, int) else plain.get("properties", {}).get(part)
        if inner is None and not isinstance(part, int):
            inner = plain.get("additionalProperties")
        if isinstance(inner, dict):
            yield inner


def _resolved(root: Schema, place: Schema) -> Schema:
    while "$ref" in place:
        place = root["$defs"][place["$ref"].rsplit("/", 1)[1]]
    return place
