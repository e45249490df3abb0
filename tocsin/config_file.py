"""The configuration file as it lies there, and the little of it that viewing commands need.

Not here: the models (config), which take a second to import.
"""

from __future__ import annotations

import os
from pathlib import Path

from telemetry import ConfigError, Problem
from tocsin import data_dir
from tocsin.yaml_source import parse_yaml


def read_file(path: Path) -> bytes:
    """A configuration or rule file. Raises ConfigError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        right = "`tocsin config init` writes a commented sample"
        raise ConfigError([Problem(f"there is no such file: {right}", file=str(path))]) from None
    except OSError as error:
        raise ConfigError([Problem(f"cannot be read: {error.strerror}", file=str(path))]) from error


def data_dir_of(path: Path) -> data_dir.DataDir:
    """The data directory that a configuration file names, whatever else is wrong in it (secrets may be missing)."""
    document = parse_yaml(read_file(path), str(path), env=os.environ)
    named = document.data.get("data_dir")
    return data_dir.DataDir(path.parent / (named if isinstance(named, str) else data_dir.DEFAULT))
