"""How to mend what made a dead letter, by its reason. Not here: what was wrong in this one (its detail says that)."""

from __future__ import annotations

from ingest.dead_letters import DeadLetter

_DEVICE = "this is wrong at the sender: mend it there; the letter itself can only be purged"
_LIMIT = "raise {limit} in the configuration, if the message is as it should be"
ADVICE = {
    "bad_encoding": "set the stream's format to what the device sends, or mend the device",
    "bad_json": "set the stream's format to what the device sends; JSON that is cut off or broken must be mended there",
    "bad_label": "take the name from another topic level or field, under the stream's topic, device or labels_from",
    "bad_name": "give the field a name of its own under fields.rename, or put it under fields.exclude",
    "bad_quality": _DEVICE,
    "bad_samples": "another version of tocsin has written it: go back to that one, or purge it",
    "bad_text": "put the field under fields.exclude, or map its words to numbers under fields.values",
    "bad_time": "set the stream's time.field and time.unit; without a usable time, time.unit: arrival",
    "decoder_error": "this is a bug: please report it, with `tocsin dead-letters show {id} --json`",
    "name_collision": "rename one of the fields under fields.rename",
    "no_device": "say where the name of the device is: a level of the stream's topic, or device.field",
    "no_metric": "set the stream's metric, or a level {{metric}} in its topic",
    "no_name": "set the stream's name_field to the field that names the metric",
    "no_records": "set the stream's records to where the array is, or leave it out",
    "no_such_series": _DEVICE,
    "not_admitted": "raise the limits of series, under limits",
    "not_an_object": "set the stream's records and format to what the device sends",
    "not_finite": _DEVICE,
    "number_too_long": _LIMIT.format(limit="limits.max_digits"),
    "payload_too_large": _LIMIT.format(limit="limits.max_payload_bytes"),
    "time_in_future": "set the device's clock, or raise limits.max_future, or set the stream's time.unit",
    "time_too_old": "set the device's clock, or raise limits.max_past, or set the stream's time.unit",
    "too_deep": _LIMIT.format(limit="limits.max_depth"),
    "too_many_fields": _LIMIT.format(limit="limits.max_fields"),
    "too_many_new_series": _LIMIT.format(limit="limits.max_new_series_per_hour") + "; or wait until the hour is over",
    "too_many_rows": _LIMIT.format(limit="limits.max_rows_per_message"),
    "too_many_series": _LIMIT.format(limit="limits.max_series"),
    "too_many_series_of_device": _LIMIT.format(limit="limits.max_series_per_device"),
    "too_many_states": "raise limits.max_states, or map the words to numbers under fields.values",
    "unknown_topic": "add a stream for the topic",
    "unmapped_word": "add the word under fields.values",
}
"""Reason: what to do."""


def advice(letter: DeadLetter) -> str:
    """What to do about it, on one line."""
    again = f"`tocsin dead-letters replay {letter.id}`"
    if letter.sink:
        return f"see what the sink {letter.sink} says against it, mend that there, then {again}"
    found = ADVICE.get(letter.reason, "mend the configuration").format(id=letter.id)
    return found if found == _DEVICE else f"{found}; restart tocsin, then {again}"
