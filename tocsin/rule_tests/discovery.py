"""From what a user names on the command line to test files: files, directories, patterns."""

from __future__ import annotations

import glob
from pathlib import Path

from telemetry import ConfigError, TocsinError
from tocsin.rule_tests.test_file import read_document
from tocsin.yaml_source import Document

MAX_FILES = 10_000


def find_test_files(named: tuple[str, ...]) -> dict[Path, Document | None]:
    """The files, each once, in order; of a directory, all YAML files in it that hold tests (read already).

    Raises TocsinError if there is nothing behind a name.
    """
    found: dict[Path, Document | None] = {}
    for name in named:
        path = Path(name)
        if path.is_dir():
            found |= _in_directory(path)
        elif path.exists() or not glob.has_magic(name):
            found[path] = None
        else:
            names = sorted(glob.glob(name, recursive=True))  # noqa: PTH207  # Path.glob refuses absolute patterns
            if not names:
                raise TocsinError(f"no file matches {name!r}")
            found |= dict.fromkeys(map(Path, names))
    if len(found) > MAX_FILES:
        raise TocsinError(f"more than {MAX_FILES} files: name fewer of them")
    return found


def _in_directory(path: Path) -> dict[Path, Document | None]:
    found: dict[Path, Document | None] = {}
    for file in sorted(p for p in path.rglob("*") if p.suffix in (".yml", ".yaml") and p.is_file()):
        try:
            document = read_document(file)
        except ConfigError:
            continue  # who it belongs to cannot be told
        if "tests" in document.data and "groups" not in document.data:
            found[file] = document
    if not found:
        raise TocsinError(f"no YAML file in {path} holds tests (the key tests)")
    return found
