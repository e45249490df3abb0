"""How long readings count, kept beside them for those who query: of series whose stream says so itself."""

from __future__ import annotations

import json
from collections.abc import Mapping

from telemetry.atomic_file import replace_file
from tocsin.data_dir import DataDir


def save_staleness(directory: DataDir, own: Mapping[int, int]) -> None:
    """For `load_staleness` of any process: ns by series id, where it is not the default."""
    replace_file(directory.staleness, json.dumps({str(series): ns for series, ns in own.items()}).encode())


def load_staleness(directory: DataDir) -> dict[int, int]:
    """What `save_staleness` saved; nothing if there is nothing."""
    try:
        return {int(series): int(ns) for series, ns in json.loads(directory.staleness.read_text()).items()}
    except (FileNotFoundError, ValueError, AttributeError):
        return {}
