"""No data: how far the messages of each stream come, and the answer to "connected, but no data: why?".

Here: the judgement and its words. Not here: where the figures come from (`pipeline_status`), how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tocsin.status import Snapshot, StreamRow

_STORE = "store"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFlow:
    """How far the messages of one stream have come since the start: seen ≥ decoded ≥ matched, in messages."""

    name: str
    topic: str
    """Its topic pattern."""
    guarantee: str = ""
    """What is promised now for its messages: G2, G0 or none; empty if that is not known."""
    seen: int = 0
    """Messages that came for it: it is the first stream that has their topic."""
    decoded: int = 0
    """Of them, those that were not refused as a whole; what was refused is in the dead letters."""
    matched: int = 0
    """Of them, those with a field that the stream wants."""
    stored: int = 0
    """Readings: stored, or on their way into the store; duplicates left out."""
    last_message: int = 0
    """Our clock at the newest message on its topics, ns; 0: none since the start."""
    last_error: str = ""
    """Why something was last refused; empty if nothing was."""
    why: str = ""
    """In words why there are no data, or not all, and what to do next; empty if all is well."""


def flows(snapshot: Snapshot, stored: Mapping[str, int]) -> Sequence[StreamFlow]:
    """Of each stream of a running tocsin. `stored`: readings by stream."""
    refused, barren = (snapshot.counters.get(f"ingest.{what}_of_stream", {}) for what in ("refused", "barren"))
    found = []
    for row in snapshot.streams:
        decoded = max(0, row.messages - refused.get(row.name, 0))
        matched = max(0, decoded - barren.get(row.name, 0))
        readings = stored.get(row.name, 0)
        found.append(
            StreamFlow(
                name=row.name,
                topic=row.topic,
                guarantee=row.guarantee,
                seen=row.messages,
                decoded=decoded,
                matched=matched,
                stored=readings,
                last_message=row.last_message,
                last_error=row.last_error,
                why=next(_reasons(snapshot, row, decoded, matched, readings), ""),
            )
        )
    return found


def unknown_flow(name: str, topic: str) -> StreamFlow:
    """Of a tocsin that does not run."""
    return StreamFlow(name=name, topic=topic, why="tocsin does not run: start it with `tocsin run -c FILE`")


def _reasons(snapshot: Snapshot, row: StreamRow, decoded: int, matched: int, readings: int) -> Iterator[str]:
    """The first one counts: what stops the messages earliest on their way."""
    yield from _not_received(snapshot)
    if row.messages == 0:
        yield _unheard(row)
    elif decoded == 0:
        yield (
            f"all {row.messages:,} messages were refused, the last one because of {row.last_error}; see "
            f"`tocsin dead-letters list --stream {row.name}`"
        )
    elif matched == 0:
        yield (
            f"none of {decoded:,} messages has a field that the stream wants: look at fields.include, fields.exclude "
            "and records of the stream, and at what comes (`mosquitto_sub -v -t '...'`)"
        )
    elif readings == 0:
        yield (
            "its messages hold only readings that are not stored: duplicates, or fields that were refused; see "
            f"`tocsin dead-letters list --stream {row.name}`"
        )
    for sink in snapshot.sinks:
        if sink.kind == "sink" and sink.name == _STORE and sink.state != "running":
            yield f"the store takes nothing now ({sink.error or sink.state}): what comes waits in the journal"
    if row.rejected:
        yield (
            f"{row.rejected:,} of its readings were refused, the last ones because of {row.last_error}; see "
            f"`tocsin dead-letters list --stream {row.name}`"
        )


def _not_received(snapshot: Snapshot) -> Iterator[str]:
    if snapshot.journal is not None and snapshot.journal.error:
        yield f"the journal cannot be written ({snapshot.journal.error}): free disk space, or check the disk"
    session = snapshot.session
    if session is not None and session.state != "connected":
        why = f" ({session.last_error})" if session.last_error else ""
        yield f"not connected to {session.url}{why}: `tocsin doctor` finds out why"


def _unheard(row: StreamRow) -> str:
    if row.last_message:
        return (
            "messages come on its topics, but an earlier stream takes them, or their topics give no usable device: put "
            "this stream before the others, or see `tocsin dead-letters list`"
        )
    if row.guarantee == "none" and row.notes:
        return f"nothing arrives: {'; '.join(row.notes)}; `tocsin doctor` looks closer"
    return (
        f"connected, but no message has come on {row.topic}: compare it with what the devices publish "
        "(`mosquitto_sub -t '#' -v`), and whether the broker lets tocsin read there (`tocsin doctor`)"
    )
