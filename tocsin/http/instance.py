"""http.json: where the tocsin that runs with a data directory answers, and the key by which its own commands may ask.

Not here: the server that writes it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import urllib3


@dataclass(frozen=True, slots=True)
class Instance:
    """A tocsin that says it runs."""

    url: str
    pid: int
    token: str = field(default="", repr=False, compare=False)
    """Of an operator, good for this run: whoever may read the file may do everything."""
    fingerprint: str = field(default="", compare=False)
    """With TLS, SHA-256 of its certificate in hex: what is issued for its public name is no proof for loopback."""

    def client(self, timeout: float | None) -> urllib3.PoolManager:
        """For requests to `url`, in its name and to nobody else; `timeout`: s. Follows no redirection."""
        pinned: dict[str, Any] = (
            {"cert_reqs": "CERT_NONE", "assert_fingerprint": self.fingerprint} if self.fingerprint else {}
        )
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else None
        return urllib3.PoolManager(retries=False, timeout=timeout, headers=headers, **pinned)


def write_instance(file: Path, instance: Instance) -> None:
    """For the owner only; whole or not at all. Raises OSError."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(asdict(instance), out)
    new.replace(file)


def read_instance(file: Path) -> Instance | None:
    """What http.json says; None if there is none. It may be left over from a crash: then nobody answers there."""
    try:
        said = json.loads(file.read_bytes())
        return Instance(
            str(said["url"]), int(said["pid"]), str(said.get("token", "")), str(said.get("fingerprint", ""))
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
