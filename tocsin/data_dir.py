"""The data directory: which file is where, for the pipeline that writes them and the commands that only look."""

from __future__ import annotations

from pathlib import Path

from telemetry import TocsinError

DEFAULT = Path("tocsin-data")


class DataDir:
    """The files of one tocsin. Nothing is created before `create`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def series(self) -> Path:
        """telemetry.SeriesTable."""
        return self.path / "series.jsonl"

    @property
    def store(self) -> Path:
        """sinks.store.Store."""
        return self.path / "store.db"

    @property
    def alerts(self) -> Path:
        """sinks.outbox.Outbox."""
        return self.path / "alerts.db"

    @property
    def dead_letters(self) -> Path:
        """ingest.dead_letters.DeadLetters."""
        return self.path / "dead_letters.db"

    @property
    def journal(self) -> Path:
        """Directory of ingest.journal.Journal."""
        return self.path / "journal"

    @property
    def streams(self) -> Path:
        """The streams and limits that the running pipeline decodes with, so that others can decode its journal."""
        return self.path / "streams.json"

    @property
    def rules(self) -> Path:
        """What the rules of the last start say (tocsin.rule_record)."""
        return self.path / "rules.json"

    @property
    def subscriptions(self) -> Path:
        """Topic filters that the session at the broker may have: today's and former ones."""
        return self.path / "subscriptions.json"

    @property
    def session(self) -> Path:
        """When the broker last had our session (ingest.session_record)."""
        return self.path / "session.json"

    @property
    def snapshots(self) -> Path:
        """Directory of states of the feed and of the rules (tocsin.snapshot_file)."""
        return self.path / "snapshots"

    @property
    def http(self) -> Path:
        """Where the running tocsin answers (tocsin.http.server)."""
        return self.path / "http.json"

    @property
    def staleness(self) -> Path:
        """How long readings count, of the series of streams that say so themselves."""
        return self.path / "staleness.json"

    def cursor(self, consumer: str) -> Path:
        """telemetry.Cursor of one consumer of the journal."""
        return self.path / "cursors" / f"{consumer}.json"

    def create(self) -> None:
        """Make the directories, readable by their owner only."""
        try:
            for directory in (self.path, self.path / "cursors", self.snapshots, self.journal):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise TocsinError(
                f"cannot create the data directory {self.path}: {reason}; choose another in data_dir"
            ) from error

    def require(self, file: Path, what: str) -> Path:
        """The file, if it is there; else TocsinError saying how to get it."""
        if file.exists():
            return file
        found = "there is no data directory" if not self.path.is_dir() else f"there are no {what} yet in"
        raise TocsinError(
            f"{found} {self.path}: start `tocsin run -c FILE` or `tocsin demo`, or name another with --data-dir or -c"
        )
