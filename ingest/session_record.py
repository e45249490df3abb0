"""What the broker should still know of us, kept in a file: so a forgotten session is noticed after a restart, too."""

from __future__ import annotations

import json
import logging
from collections import deque
from pathlib import Path

from ingest.config import MqttConfig
from ingest.guarantee import SessionLoss
from telemetry.atomic_file import replace_file

_log = logging.getLogger("tocsin.ingest")
_SAVE_NS = 30 * 10**9
_MAX_LOSSES = 100


class SessionRecord:
    """When the broker last had our session, and when it had forgotten it. Without a path, of this process only.

    A file that is damaged or is about another session counts as none. One that cannot be written is told of once.
    """

    def __init__(self, path: Path | None, config: MqttConfig) -> None:
        self._path, self._config = path, config
        self._saved = 0
        self._complained = False
        self.known: int | None = None
        """Our clock when the broker last had our session, ns; None: there is none that it could forget."""
        self.losses: deque[SessionLoss] = deque(maxlen=_MAX_LOSSES)
        if path is not None and config.lasting:
            self._load(path)

    def heard(self, now: int, *, save: bool = False) -> None:
        """The broker has our session at this instant, ns; goes to disk now and then, or at once with `save`."""
        if not self._config.lasting:
            return
        self.known = now
        if save or not 0 <= self.known - self._saved < _SAVE_NS:
            self._save()

    def lost(self, until: int) -> SessionLoss:
        """It had forgotten the session since `known`, and has a new one at `until`, ns."""
        loss = SessionLoss(until if self.known is None else min(self.known, until), until)
        self.losses.append(loss)
        self.heard(until, save=True)
        return loss

    def _load(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text())
            losses = [SessionLoss(int(since), int(until)) for since, until in found["lost"]]
            if (found["broker"], found["client_id"]) == self._name:
                self.known = int(found["known"])
                self.losses.extend(losses)
        except (OSError, ValueError, TypeError, KeyError):
            return

    def _save(self) -> None:
        if self._path is None or self.known is None:
            return
        broker, client_id = self._name
        losses = [[loss.since, loss.until] for loss in self.losses]
        record = {"broker": broker, "client_id": client_id, "known": self.known, "lost": losses}
        try:
            replace_file(self._path, (json.dumps(record) + "\n").encode())
        except OSError as error:
            if not self._complained:
                _log.warning(
                    "cannot write %s (%s): a session that the broker forgets may go unnoticed after a restart",
                    self._path,
                    error.strerror or error,
                )
            self._complained = True
        self._saved = self.known

    @property
    def _name(self) -> tuple[str, str]:
        return f"{self._config.host}:{self._config.port}", self._config.client_id
