"""Snapshot as JSON and back: what /api/v1/status/tocsin gives and `tocsin status` reads.

Names and units are those of the Snapshot; NaN and infinities, which JSON does not have, are null.
"""

from __future__ import annotations

from functools import cache

from pydantic import TypeAdapter, ValidationError

from telemetry import TocsinError
from tocsin.status import Snapshot


@cache
def _adapter() -> TypeAdapter[Snapshot]:
    return TypeAdapter(Snapshot)


def to_json(snapshot: Snapshot) -> bytes:
    return _adapter().dump_json(snapshot)


def from_json(text: bytes) -> Snapshot:
    """Raises TocsinError if it is none, or of another version of tocsin."""
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        raise TocsinError("the running tocsin is of another version: use its own `tocsin status`") from error
