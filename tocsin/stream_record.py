"""The streams and limits that a pipeline decodes with, kept beside its data, so that others can decode its journal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from ingest.streams import LimitsConfig, StreamConfig
from telemetry import TocsinError, format_duration
from telemetry.atomic_file import replace_file
from tocsin.config_schema import DURATION, Schema, alternatives, json_schema, steps
from tocsin.data_dir import DataDir

_MAX_FORMER = 1_000


def save_streams(directory: DataDir, streams: Sequence[StreamConfig], limits: LimitsConfig) -> None:
    """For `load_streams` of any process; replaces what was there."""
    record = {"streams": [as_written(stream) for stream in streams], "limits": as_written(limits)}
    replace_file(directory.streams, (json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode())


def remember_filters(directory: DataDir, filters: Sequence[str]) -> list[str]:
    """Topic filters of earlier configurations that are not wanted any more; these are remembered, too."""
    try:
        known = [str(name) for name in json.loads(directory.subscriptions.read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        known = []
    former = [name for name in known if name not in filters][-_MAX_FORMER:]
    known = [*former, *dict.fromkeys(filters)]
    replace_file(directory.subscriptions, (json.dumps(known, ensure_ascii=False) + "\n").encode())
    return former


def load_streams(directory: DataDir) -> tuple[list[StreamConfig], LimitsConfig]:
    """What the pipeline that writes there decodes with. Raises TocsinError if there is none, or of another version."""
    path = directory.require(directory.streams, "messages")
    try:
        record = json.loads(path.read_text())
        streams = [StreamConfig.model_validate(stream) for stream in record["streams"]]
        return streams, LimitsConfig.model_validate(record["limits"])
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise TocsinError(f"cannot use {path}: restart `tocsin run` with this version, which writes it anew") from error


def as_written(model: BaseModel) -> dict[str, Any]:
    """The model as plain data that validates to an equal model: durations as text. Secrets are masked."""
    schema = json_schema(type(model))
    written: dict[str, Any] = _written(model.model_dump(mode="json"), schema, schema)
    return written


def _written(value: Any, root: Schema, place: Schema) -> Any:
    if isinstance(value, int) and any(p.get("pattern") == DURATION["pattern"] for p in alternatives(root, place)):
        return format_duration(value)
    if isinstance(value, dict):
        return {key: _inside(item, root, place, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_inside(item, root, place, i) for i, item in enumerate(value)]
    return value


def _inside(value: Any, root: Schema, place: Schema, part: str | int) -> Any:
    return _written(value, root, next(steps(root, place, part), {}))
