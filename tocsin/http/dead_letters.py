"""/api/v1/tocsin/dead-letters: what was refused, with the reason; replay and purge for operators.

Not here: who does the replay (`tocsin.replay`), its queue (`ingest.replay_queue`).
"""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from ingest.dead_letters import DeadLetter, Selection
from ingest.replay_queue import Progress, ReplayQueue, State
from ingest.topics import TopicPattern
from tocsin.backend import Backend
from tocsin.http.access import requires_operator
from tocsin.http.dead_letter_bodies import Choice, Id, Letter, LetterDetail, LetterPage, Purged, Reason, Reasons
from tocsin.http.dead_letter_bodies import Replay as ReplayBody
from tocsin.http.prometheus_answers import ApiError
from tocsin.http.resource import (
    FORBIDDEN,
    NOT_FOUND,
    Cursor,
    Limit,
    Since,
    Words,
    from_cursor,
    instant,
    not_found,
    resources,
    since,
    to_cursor,
)
from tocsin.mending import advice

_ReplayId = Annotated[int, Path(ge=1, lt=1 << 63, description="As the request for it was answered.")]


def router(backend: Backend) -> APIRouter:
    """Its routes."""
    routes = resources("dead letters")
    _looking(routes, backend)
    _replaying(routes, backend)

    @routes.post(
        "/dead-letters/purge",
        summary="Delete dead letters for ever",
        operation_id="purge_dead_letters",
        dependencies=[Depends(requires_operator)],
        responses=FORBIDDEN,
    )
    def purge(chosen: Choice) -> Purged:
        """Deletes those that are chosen, but none that come meanwhile."""
        selected = _chosen(backend, chosen)
        with backend.dead_letters_to_change() as letters:
            return Purged(purged=letters.purge(selected))

    @routes.get("/dead-letters/{id}", summary="One dead letter", operation_id="show_dead_letter", responses=NOT_FOUND)
    def show(id: Id) -> LetterDetail:  # noqa: A002  # as it stands in the path
        """All that is known of it, and how to mend what was wrong."""
        letter = backend.dead_letters.find(id)
        if letter is None:
            raise not_found(f"there is no dead letter {id}: it was replayed, purged, or dropped for newer ones")
        payload = base64.b64encode(letter.payload).decode()
        return LetterDetail(**_fields(letter), payload_base64=payload, advice=advice(letter))

    return routes


def _looking(routes: APIRouter, backend: Backend) -> None:
    @routes.get("/dead-letters", summary="Dead letters, the newest first", operation_id="list_dead_letters")
    def letters(
        stream: Annotated[Words, Query(description="Only those of this stream.")] = None,
        reason: Annotated[Words, Query(description="Only those with this reason.")] = None,
        topic: Annotated[Words, Query(description="Only these topics: an MQTT filter with + and #.")] = None,
        received_since: Annotated[Since, Query(alias="since")] = None,
        received_until: Annotated[Since, Query(alias="until")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> LetterPage:
        """What was refused, in pages."""
        after = from_cursor(cursor, int, int, int)
        selected = _selection(backend, None, stream, reason, topic, received_since, received_until)
        found = backend.dead_letters.list(selected, limit=limit + 1, after=None if after is None else tuple(after))
        last = found[limit - 1] if len(found) > limit else None
        return LetterPage(
            letters=[Letter(**_fields(letter)) for letter in found[:limit]],
            next_cursor=to_cursor(last.received, last.offset, last.id) if last else None,
        )

    @routes.get("/dead-letters/reasons", summary="How much was refused, by reason", operation_id="list_reasons")
    def reasons(
        stream: Annotated[Words, Query(description="Only those of this stream.")] = None,
        topic: Annotated[Words, Query(description="Only these topics: an MQTT filter with + and #.")] = None,
        received_since: Annotated[Since, Query(alias="since")] = None,
        received_until: Annotated[Since, Query(alias="until")] = None,
    ) -> Reasons:
        """Of the dead letters that are still there."""
        selected = _selection(backend, None, stream, None, topic, received_since, received_until)
        return Reasons(
            reasons=[
                Reason(
                    reason=row.reason,
                    letters=row.letters,
                    readings=row.readings,
                    first=instant(row.first),
                    last=instant(row.last),
                )
                for row in backend.dead_letters.summary(selected)
            ]
        )


def _replaying(routes: APIRouter, backend: Backend) -> None:
    @routes.post(
        "/dead-letters/replays",
        summary="Let dead letters go through once more",
        operation_id="replay_dead_letters",
        status_code=202,
        dependencies=[Depends(requires_operator)],
        responses=FORBIDDEN,
    )
    def replay(chosen: Choice) -> ReplayBody:
        """Asks for it; the tocsin that runs does it, or the next one that does.

        A message is decoded as a whole, so all its letters come along.
        """
        selected = _chosen(backend, chosen)
        with backend.dead_letters_to_change() as letters:
            queue = ReplayQueue(letters)
            id_, _ = queue.request(selected, now=backend.clock.now())
            return _told(id_, queue.progress(id_))

    @routes.get(
        "/dead-letters/replays/{replay}",
        summary="What became of a replay",
        operation_id="show_replay",
        responses=NOT_FOUND,
    )
    def progress(replay: _ReplayId) -> ReplayBody:
        """What was replayed long ago is forgotten."""
        found = ReplayQueue(backend.dead_letters).progress(replay)
        if not found.waiting and not found.states:
            raise not_found(
                f"nothing is known of a replay {replay}: it had no letters, or they were purged or forgotten"
            )
        return _told(replay, found)


def _told(id_: int, progress: Progress) -> ReplayBody:
    waiting = sum(progress.waiting.values())
    return ReplayBody(
        replay=id_,
        letters=waiting + sum(progress.states.values()),
        to_come=waiting + progress.states.get(State.APPENDED, 0),
        decoded=progress.states.get(State.DECODED, 0),
        written=progress.states.get(State.WRITTEN, 0),
        refused=progress.states.get(State.REFUSED, 0),
        done=progress.is_done,
    )


def _selection(
    backend: Backend,
    ids: list[int] | None,
    stream: str | None,
    reason: str | None,
    topic: str | None,
    received_since: str | None,
    received_until: str | None,
) -> Selection:
    """Raises ApiError."""
    if topic is not None:
        try:
            TopicPattern.parse(topic)
        except ValueError as error:
            raise ApiError("bad_data", f'invalid parameter "topic": {error}') from error
    now = backend.clock.now()
    return Selection(
        ids=tuple(ids) if ids is not None else None,
        reason=reason,
        stream=stream,
        topic=topic,
        since=since("since", received_since, now),
        until=since("until", received_until, now),
    )


def _chosen(backend: Backend, chosen: Choice) -> Selection:
    """Raises ApiError unless it says clearly which."""
    filters = (chosen.stream, chosen.reason, chosen.topic, chosen.since, chosen.until)
    filtered = any(given is not None for given in filters)
    if (chosen.ids is not None, filtered, chosen.all).count(True) != 1:
        raise ApiError("bad_data", "say which: ids, or filters such as reason, or all: true; and only one of these")
    return _selection(backend, chosen.ids, *filters)


def _fields(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "received": instant(letter.received),
        "topic": letter.topic,
        "stream": letter.stream,
        "sink": letter.sink,
        "reason": letter.reason,
        "detail": letter.detail,
        "readings": letter.readings,
        "offset": letter.offset,
        "bytes": letter.size,
        "payload": letter.payload[:1_000].decode(errors="backslashreplace"),
    }
