"""`tocsin trace`: the whole way of one message or alert, after the fact. Here: what is asked for, and the words.

Not here: looking it up (tocsin.trace), JSON (trace_json).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click

from sinks.alert_receipts import PublishedEvent, Receipt
from telemetry import SystemClock
from tocsin.cli.alerts import event_line
from tocsin.cli.opening import chosen_data
from tocsin.cli.options import command, data_options, json_option, print_json, wants_colour
from tocsin.cli.parameters import INSTANT, instant
from tocsin.cli.trace_json import alert_object, flag_words, message_object
from tocsin.trace import AlertTrace, Kept, MessageTrace, Reader, Row, Tracer
from tocsin.words import count, local, number, printable, span

_MOST_OFFSET_DIGITS = 18
_SHOWN_PAYLOAD = 500
_NEAR = 5
_WHERE = 10


@command(
    "tocsin trace 120734              (a message: its offset in the journal)",
    "tocsin trace 3f9c1b02            (an alert: the beginning of its id)",
    "tocsin trace d1@10m              (a device, and a time: the nearest message)",
    "tocsin trace d1@2026-01-31T12:00:00Z --json | jq .sinks",
)
@click.argument("what", metavar="MESSAGE|ALERT|DEVICE@TIME")
@data_options
@json_option("Print one JSON object.")
def trace(what: str, config_file: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Tell the whole way of one message or alert.

    A message is named by its offset in the journal, or by its device and a time: so long ago, or as
    2026-01-31T12:00:00Z. An alert is named by the id of one of its events, or the beginning of it, as `tocsin alerts
    --json` shows them. Read from the data directory, beside a running tocsin or without one; nothing is changed.
    """
    device, at, time = what.rpartition("@")
    data = chosen_data(config_file, data_dir)
    with closing(Tracer(data)) as tracer:
        if at:
            _trace_near(tracer, device, instant(INSTANT.convert(time, None, None), SystemClock().now()), as_json)
        elif what.isdecimal() and len(what) <= _MOST_OFFSET_DIGITS:
            _tell_message(tracer.message(int(what)), [], as_json)
        else:
            found = tracer.alert(what.lower())
            if as_json:
                print_json(alert_object(found))
            else:
                _echo(_alert_lines(found))


def _trace_near(tracer: Tracer, device: str, time: int, as_json: bool) -> None:
    if not device:
        raise click.UsageError("write a device before the @, as in d1@10m")
    offsets = tracer.near(device, time, _NEAR)
    if not offsets:
        raise click.ClickException(f"there is no message of {device} around {local(time):%Y-%m-%d %H:%M:%S}")
    _tell_message(tracer.message(offsets[0]), offsets[1:], as_json)


def _tell_message(found: MessageTrace, others: list[int], as_json: bool) -> None:
    if as_json:
        print_json(message_object(found, others))
        return
    _echo(_message_lines(found))
    if others:
        _echo([_field("others", "messages of this device nearby: " + ", ".join(map(str, others)))])


def _echo(lines: Iterator[str] | list[str]) -> None:
    for line in lines:
        click.echo(line, color=wants_colour())


def _message_lines(found: MessageTrace) -> Iterator[str]:
    if found.is_tick:
        yield click.style(f"tick {found.offset}", bold=True) + f"  our clock showed {_time(found.received)}"
    else:
        what = "recorded samples" if found.is_samples else "message"
        marks = "".join(f", {mark}" for mark in found.marks)
        topic = printable(found.records.topics[0])
        yield click.style(f"{what} {found.offset}", bold=True) + f"  {topic}"
        yield _field("received", f"{_time(found.received)}, QoS {found.qos}{marks}")
        yield _field("payload", _payload(found.records.payloads[0]))
        for i, row in enumerate(found.rows):
            yield _field("" if i else "readings", _row_words(row))
        for refusal in found.refusals:
            letter = f"dead letter {refusal.letter}" if refusal.letter else "no dead letter of it by now"
            yield _field("refused", printable(f"{refusal.reason} ({letter}): {refusal.detail}"))
        if not found.rows and not found.refusals:
            yield _field("readings", "none")
        if found.looked_back is not None and found.rows:
            yield _field("", f"(late and duplicate: as far as the {count(found.looked_back)} records before it tell)")
        for reader in found.sinks:
            yield from _sink_lines(reader)
    yield _field("rules", _progress(found.rules))
    for published in found.alerts:
        yield from _event_lines("alert", published)
    if not found.alerts:
        yield _field("alerts", "none began or ended with it")
    for published in found.later:
        yield from _event_lines("later", published)


def _row_words(row: Row) -> str:
    flags = "".join(f", {word}" for word in flag_words(row.flags))
    kept = {
        Kept.STORED: "stored",
        Kept.OTHER: f"the store has {number(row.stored or 0.0)} for this time by now",
        Kept.MISSING: "not stored (any more)",
        Kept.WAITING: "waits for the store",
    }[row.kept]
    return f"{printable(str(row.series))} {number(row.value)} at {_time(row.time)}{flags}: {kept}"


def _sink_lines(reader: Reader) -> Iterator[str]:
    yield _field(printable(reader.name), _progress(reader))
    for letter in reader.parked:
        yield _field("", printable(f"refused {letter.topic} (dead letter {letter.id}): {letter.detail}"))


def _progress(reader: Reader) -> str:
    if reader.passed:
        return "has passed it"
    return f"not yet: its cursor is at {reader.offset}, {count(reader.lag)} records behind"


def _event_lines(name: str, published: PublishedEvent, shown_by: str = "") -> Iterator[str]:
    yield _field(name, f"{event_line(published.event)}  id {published.event.id}")
    if shown_by:
        yield _field("", f"detected {_time(published.event.detected_at)} {shown_by}")
    for receipt in published.receipts:
        yield _field("", f"{printable(receipt.receiver)}: {_receipt_words(receipt, published.event.detected_at)}")
    if not published.receipts:
        yield _field("", "there was no receiver to be told")


def _receipt_words(receipt: Receipt, detected_at: int) -> str:
    tries = f"{receipt.attempts} {'try' if receipt.attempts == 1 else 'tries'}"
    error = f": {printable(receipt.last_error)}" if receipt.last_error else ""
    if receipt.state == "sent":
        took = span(max(0, receipt.sent_at - detected_at))
        return f"delivered {_time(receipt.sent_at)}, {took} after it was detected, {tries}"
    if receipt.state == "dead":
        return f"given up after {tries}{error}"
    return f"waiting, {tries} so far{error}"


def _alert_lines(found: AlertTrace) -> Iterator[str]:
    event = found.events[0].event
    yield click.style(f"alert {printable(dict(event.labels).get('alertname', event.rule))}", bold=True)
    text = (
        f"{found.rule.expr}{f'  for {found.rule.hold}' if found.rule.hold else ''}" if found.rule else "not known now"
    )
    yield _field("rule", printable(f"{event.rule}: {text}"))
    for readings in found.readings:
        told = ", ".join(
            f"{number(value)} at {_time(time)}" for time, value in zip(readings.time, readings.value, strict=True)
        )
        yield _field("readings", f"{printable(str(readings.series))}: {told or 'none in the hour before'}")
    for published, source, by_tick in zip(found.events, found.sources, found.by_tick, strict=True):
        yield from _event_lines(str(published.event.state), published, _shown_by(published, source, by_tick=by_tick))


def _shown_by(published: PublishedEvent, source: int | None, *, by_tick: bool) -> str:
    if not published.offset:
        return "by tocsin itself, not from the journal"
    if source is None:
        return f"before record {published.offset}: what showed it is gone from the journal"
    what = "a tick of the clock" if by_tick else "message"
    return f"by {what} {source}, published with all before record {published.offset}"


def _payload(payload: bytes) -> str:
    text = payload[:_SHOWN_PAYLOAD].decode("utf-8", "backslashreplace")
    more = f" … ({count(len(payload))} bytes)" if len(payload) > _SHOWN_PAYLOAD else ""
    return printable(text) + more


def _time(ns: int) -> str:
    return f"{local(ns):%Y-%m-%d %H:%M:%S.%f}"[:-3]


def _field(name: str, text: str) -> str:
    return f"  {name:<{_WHERE}}{text}"
