"""What the page of dead letters shows: a filter as a Selection, letters as rows, payloads as text or hexadecimal."""

from __future__ import annotations

from ingest.block import DUP, QOS_SHIFT, RETAIN
from ingest.dead_letters import DeadLetter, Selection
from ingest.replay_queue import Progress, State
from ingest.topics import TopicPattern
from telemetry import TocsinError
from telemetry.duration import parse_duration
from tocsin.console.filtering import Filter
from tocsin.words import count, local, printable

HEX_BYTES = 2_048
TEXT_CHARACTERS = 8_192
_PER_LINE = 16
_SHOWN_CHARACTERS = 120
FIELDS = ("reason", "stream", "topic", "since", "id")


def selection_of(wanted: Filter, reason: str, now: int) -> Selection:
    """The letters that a filter and a reason mean. Raises TocsinError for what cannot be asked."""
    given = {"reason": reason}
    ids: list[int] = []
    for term in wanted.terms:
        name, value = term.name, term.value
        if not name and ("/" in value or value in ("+", "#")):
            name = "topic"
        if not term.wanted or name not in FIELDS:
            known = ", ".join(f"{field}=…" for field in FIELDS)
            raise TocsinError(f"{value!r} cannot be looked for: write {known}; a topic may have + and #")
        if name == "id":
            ids += [int(value)] if value.isascii() and value.isdecimal() and len(value) < 19 else [0]
        elif given.get(name, "") not in ("", value):
            return Selection(ids=())
        else:
            given[name] = value
    return Selection(
        ids=tuple(ids) or None,
        reason=given["reason"] or None,
        stream=given.get("stream") or None,
        topic=_topic(given.get("topic", "")),
        since=_since(given.get("since", ""), now),
    )


def _topic(text: str) -> str | None:
    if not text:
        return None
    try:
        TopicPattern.parse(text)
    except ValueError as error:
        raise TocsinError(f"topic={text}: {error}") from error
    return text


def _since(text: str, now: int) -> int | None:
    if not text:
        return None
    try:
        return now - parse_duration(text)
    except ValueError as error:
        raise TocsinError(f"since={text}: {error}") from error


def table_row(letter: DeadLetter) -> dict[str, object]:
    """For the browser."""
    text = letter.payload[:_SHOWN_CHARACTERS].decode(errors="backslashreplace")
    return {
        "key": letter.id,
        "id": letter.id,
        "received": f"{local(letter.received):%m-%d %H:%M:%S}",
        "reason": letter.reason,
        "topic": printable(letter.topic),
        "detail": printable(letter.detail),
        "payload": printable(text) + ("…" if letter.size > _SHOWN_CHARACTERS else ""),
        "size": count(letter.size),
        "href": f"/dead-letters?open={letter.id}",
    }


def facts(letter: DeadLetter) -> list[tuple[str, str]]:
    """All that is known of one, beside its payload."""
    marks = [f"QoS {letter.flags >> QOS_SHIFT & 3}"]
    marks += [word for bit, word in ((RETAIN, "retained"), (DUP, "sent again")) if letter.flags & bit]
    origin = (
        [("sink", letter.sink)] if letter.sink else [("stream", letter.stream or "none"), ("sent", ", ".join(marks))]
    )
    return [
        ("reason", letter.reason),
        ("detail", printable(letter.detail)),
        ("received", f"{local(letter.received):%Y-%m-%d %H:%M:%S.%f}"),
        ("series" if letter.sink else "topic", printable(letter.topic)),
        *origin,
        ("readings", count(letter.readings)),
        ("journal offset", str(letter.offset)),
        ("payload", f"{count(letter.size)} bytes"),
    ]


def payload_text(payload: bytes) -> str | None:
    """As text, bounded, each control character but line ends written out; None if it is no text."""
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        if error.start < len(payload) - 3 or error.reason != "unexpected end of data":
            return None
        text = payload[: error.start].decode()
    shown = "\n".join(printable(line) for line in text[:TEXT_CHARACTERS].split("\n"))
    more = len(text) - TEXT_CHARACTERS
    return shown + (f"\n… and {count(more)} more characters" if more > 0 else "")


def payload_hex(payload: bytes) -> str:
    """Offset, bytes, characters; bounded."""
    lines = []
    for at in range(0, min(len(payload), HEX_BYTES), _PER_LINE):
        part = payload[at : min(at + _PER_LINE, HEX_BYTES)]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:06x}  {part.hex(' '):{3 * _PER_LINE}} {text}")
    if len(payload) > HEX_BYTES:
        lines.append(f"… and {count(len(payload) - HEX_BYTES)} more bytes")
    return "\n".join(lines)


def progress_text(progress: Progress, total: int) -> tuple[int, str]:
    """(how many are done, in words) of a replay of so many letters."""
    left = sum(progress.waiting.values()) + progress.states.get(State.APPENDED, 0)
    words = {State.DECODED: "decoded", State.WRITTEN: "written", State.REFUSED: "refused again"}
    done = [f"{count(progress.states[state])} {words[state]}" for state in words if progress.states.get(state)]
    return max(0, total - left), ", ".join([*done, *([f"{count(left)} to come"] if left else [])]) or "nothing to do"
