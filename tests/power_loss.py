"""A disk that loses what was not synced: notes system calls on a directory, and makes what power loss leaves of it.

What POSIX promises, and no more: data is there after fsync or fdatasync of its file, a name after fsync of its
directory. Of everything else any part may be there or not, in any order, by pages; what an fsync that failed was to
write may be lost even if a later one succeeds.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

PAGE = 64
"""Bytes that are written or lost together; small, so that there are many in the small files of tests."""


class EndError(BaseException):
    """The process has ended, or the machine: nothing of the program may go on, so it is no Exception."""


_REAL = {
    name: getattr(os, name)
    for name in ("open", "close", "write", "ftruncate", "posix_fallocate", "fsync", "fdatasync", "unlink", "replace")
}


@dataclass
class _Change:
    """To a file or a directory: `apply(state)`."""

    apply: Callable[[Any], None]
    state: str = "pending"
    """pending | synced | doubtful"""


@dataclass
class _File:
    changes: list[_Change] = field(default_factory=list)


def _write(at: int, data: bytes) -> Callable[[bytearray], None]:
    def apply(content: bytearray) -> None:
        content.extend(bytes(max(0, at + len(data) - len(content))))
        content[at : at + len(data)] = data

    return apply


def _truncate(size: int) -> Callable[[bytearray], None]:
    def apply(content: bytearray) -> None:
        del content[size:]
        content.extend(bytes(size - len(content)))

    return apply


def _extend(size: int) -> Callable[[bytearray], None]:
    return lambda content: content.extend(bytes(max(0, size - len(content))))


class Disk:
    """A directory, and what of it is safe. Calls are carried out, too, but for the syncing."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.calls = 0
        self.cut_at: int | None = None
        """At this call and from then on, the end comes."""
        self.failing_syncs = 0
        """So many of the next syncs of files fail."""
        self._files: dict[Path, _File] = {}
        self._names: dict[Path, list[_Change]] = {}
        """By directory: changes of {name: file}."""
        self._open: dict[int, _File | Path] = {}
        self._descriptors: set[int] = set()
        for path in root.rglob("*"):
            if path.is_file() and self._is_ours(path):
                self._found(path)
        for name in _REAL:
            patch.setattr(os, name, getattr(self, f"_{name}_"))

    def end_process(self) -> None:
        """What a kill does: every descriptor is closed, with the locks on it."""
        self.cut_at = None
        for fd in self._descriptors.copy():
            self._close_(fd)

    def lose_power(self, random: Random, target: Path) -> None:
        """Makes in `target` (new) what may be left of the directory."""
        keep = random.choice((0.0, 0.2, 0.5, 0.8, 1.0))
        target.mkdir()
        for directory, changes in self._names.items():
            names: dict[str, _File] = {}
            for change in changes:
                if change.state == "synced" or random.random() < keep:
                    change.apply(names)
            place = target / directory.relative_to(self.root)
            place.mkdir(parents=True, exist_ok=True)
            for name, file in names.items():
                content = bytearray()
                for change in file.changes:
                    if change.state == "synced" or random.random() < keep:
                        change.apply(content)
                (place / name).write_bytes(content)

    def _found(self, path: Path) -> None:
        file = self._files[path] = _File([_Change(_write(0, path.read_bytes()), "synced")])
        self._name(path, lambda names: names.__setitem__(path.name, file))
        self._names[path.parent][-1].state = "synced"

    def _count(self) -> None:
        self.calls += 1
        if self.cut_at is not None and self.calls >= self.cut_at:
            raise EndError

    def _is_ours(self, path: Path) -> bool:
        return path.is_relative_to(self.root) and path.name != "lock"

    def _name(self, path: Path, change: Callable[[dict[str, _File]], None]) -> None:
        self._names.setdefault(path.parent, []).append(_Change(change))

    def _open_(self, path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        at = Path(path)
        is_new = not at.exists()
        if flags & os.O_CREAT and self._is_ours(at):
            self._count()
        fd = _REAL["open"](path, flags, mode, **more)
        if at.is_relative_to(self.root):
            self._descriptors.add(fd)
        if not self._is_ours(at):
            return int(fd)
        if at.is_dir():
            self._open[fd] = at
            return int(fd)
        if is_new:
            file = self._files[at] = _File()
            self._name(at, lambda names: names.__setitem__(at.name, file))
        elif flags & os.O_TRUNC:
            self._files[at].changes.append(_Change(_truncate(0)))
        self._open[fd] = self._files[at]
        return int(fd)

    def _close_(self, fd: int) -> None:
        self._open.pop(fd, None)
        self._descriptors.discard(fd)
        _REAL["close"](fd)

    def _change(self, fd: int, *changes: Callable[[bytearray], None]) -> None:
        file = self._open.get(fd)
        if isinstance(file, _File):
            file.changes += map(_Change, changes)

    def _write_(self, fd: int, data: Any) -> int:
        if fd not in self._open:
            return int(_REAL["write"](fd, data))
        at = os.lseek(fd, 0, os.SEEK_CUR)
        whole = bytes(data)
        cuts = [0, *range(PAGE - at % PAGE, len(whole), PAGE), len(whole)]
        self._change(fd, *(_write(at + a, whole[a:b]) for a, b in itertools.pairwise(cuts)))
        self._count()  # lost in the middle of it, any part of it may be there
        return int(_REAL["write"](fd, data))

    def _ftruncate_(self, fd: int, size: int) -> None:
        if fd in self._open:
            self._count()
        _REAL["ftruncate"](fd, size)
        self._change(fd, _truncate(size))

    def _posix_fallocate_(self, fd: int, offset: int, size: int) -> None:
        self._count()
        _REAL["posix_fallocate"](fd, offset, size)
        self._change(fd, _extend(offset + size))

    def _fsync_(self, fd: int) -> None:
        of = self._open.get(fd)
        if of is None:
            return
        self._count()
        changes = self._names.get(of, []) if isinstance(of, Path) else of.changes
        fails = isinstance(of, _File) and self.failing_syncs > 0
        for change in changes:
            if change.state == "pending":
                change.state = "doubtful" if fails else "synced"
        if fails:
            self.failing_syncs -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    _fdatasync_ = _fsync_

    def _unlink_(self, path: Any, **more: Any) -> None:
        at = Path(path)
        if self._is_ours(at):
            self._count()
        _REAL["unlink"](path, **more)
        if self._is_ours(at):
            self._files.pop(at)
            self._name(at, lambda names: names.pop(at.name, None))

    def _replace_(self, source: Any, target: Any) -> None:
        old, new = Path(source), Path(target)
        if not self._is_ours(new):
            _REAL["replace"](source, target)
            return
        self._count()
        _REAL["replace"](source, target)
        file = self._files[new] = self._files.pop(old)

        def rename(names: dict[str, _File]) -> None:
            names.pop(old.name, None)
            names[new.name] = file

        self._name(new, rename)
