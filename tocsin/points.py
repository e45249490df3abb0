"""Points: readings that a sink has refused, as dead letters. Not here: when they are tried again (`replay`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from ingest.dead_letters import DeadLetter, DeadLetters
from ingest.rejection import Rejection
from sinks.second_try import Park
from telemetry import ReadingBatch, Series, SeriesTable
from tocsin.words import exact

REASON = "refused_by_"
"""Before the sink's name, the reason of such dead letters."""


def parking(dead_letters: DeadLetters, table: SeriesTable, sink: str) -> Park:
    """Rows that a sink can never take become dead letters: an object of JSON each, with all there is to know."""

    def park(rows: ReadingBatch, why: str) -> None:
        dead_letters.add([_rejection(rows, i, table[int(rows.series[i])], sink, why) for i in range(len(rows))])

    return park


def rows_of(letters: Iterable[DeadLetter], table: SeriesTable) -> tuple[ReadingBatch, Sequence[int], Sequence[int]]:
    """The rows of dead letters that are points, the letter of each row, and letters whose series is not known here."""
    rows: list[ReadingBatch] = []
    ids: list[int] = []
    unknown: list[int] = []
    for letter in letters:
        try:
            point = json.loads(letter.payload)
            labels = dict(point["series"])
            series = table.find(Series(labels.pop("__name__"), tuple(sorted(labels.items()))))
            time, value, flags = int(point["time"]), float(point["value"]), int(point["flags"])
        except (ValueError, KeyError, TypeError):
            series = None
        if series is None:
            unknown.append(letter.id)
            continue
        received, offset = [letter.received], [letter.offset]
        rows.append(ReadingBatch.of([series], [time], [value], received=received, flags=[flags], offset=offset))
        ids.append(letter.id)
    return ReadingBatch.concatenate(rows), ids, unknown


def _rejection(rows: ReadingBatch, i: int, series: Series, sink: str, why: str) -> Rejection:
    point = {
        "series": {"__name__": series.metric, **dict(series.labels)},
        "time": int(rows.time[i]),
        "value": exact(float(rows.value[i])),
        "flags": int(rows.flags[i]),
    }
    return Rejection(
        offset=int(rows.offset[i]),
        received=int(rows.received[i]),
        topic=str(series),
        payload=json.dumps(point, ensure_ascii=False).encode("utf-8", "surrogatepass"),
        reason=REASON + sink,
        detail=why,
        stream="",
        sink=sink,
    )
