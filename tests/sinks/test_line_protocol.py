"""Laws of the line protocol: a slow, obvious parser reads back exactly what was encoded."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks.line_protocol import LineEncoder, line_prefix, plain, representable
from telemetry import ReadingBatch, Series, SeriesTable


def split_unescaped(text: str, separator: str, *, lenient: bool) -> list[str]:
    """Cut at separators without a backslash before them.

    Servers differ: some look only at the character before (lenient), others skip whatever follows a backslash.
    """
    parts, start, i = [], 0, 0
    while i < len(text):
        if text[i] == "\\" and not lenient:
            i += 2
            continue
        if text[i] == separator and not (lenient and i and text[i - 1] == "\\"):
            parts.append(text[start:i])
            start = i + 1
        i += 1
    return [*parts, text[start:]]


def unescape(text: str) -> str:
    for special in ", =":
        text = text.replace("\\" + special, special)
    return text


def parse(line: str, *, lenient: bool) -> tuple[str, dict[str, str], dict[str, float], int]:
    key, fields, time = split_unescaped(line, " ", lenient=lenient)
    measurement, *tags = split_unescaped(key, ",", lenient=lenient)
    pairs = [split_unescaped(tag, "=", lenient=lenient) for tag in tags]
    assert all(len(pair) == 2 and pair[0] and pair[1] for pair in pairs), line
    field, number = fields.split("=")
    assert not number.endswith(("i", "u", "t", "f")), "values are floats"
    return unescape(measurement), {unescape(n): unescape(v) for n, v in pairs}, {field: float(number)}, int(time)


awkward = st.text(st.sampled_from("\\\\,= \n\r\t\0a\"'#é☃"), min_size=1, max_size=8) | st.text(min_size=1, max_size=8)
label_names = st.from_regex(r"[a-zA-Z][a-z]{0,3}", fullmatch=True) | st.sampled_from(["time", "_field", "time_"])
metrics = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True)
series = st.builds(
    lambda metric, labels, device: Series.from_labels(metric, {**labels, "device": device}),
    metrics,
    st.dictionaries(label_names, awkward, max_size=4),
    awkward,
)
times = st.integers(-(2**63) + 2, 2**63 - 2)
values = st.floats(allow_nan=False, allow_infinity=False)
UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}


@given(
    st.lists(st.tuples(series, times, values), min_size=1, max_size=12), st.sampled_from(sorted(UNITS)), st.booleans()
)
def test_what_is_encoded_is_read_back(rows, precision, lenient):
    table = SeriesTable()
    ids = [table.add(s) for s, _, _ in rows]
    batch = ReadingBatch.of(ids, [t for _, t, _ in rows], [v for _, _, v in rows])
    lines = LineEncoder(table, precision=precision).encode(batch).decode().split("\n")

    assert lines.pop() == "", "every line has its newline"
    assert len(lines) == len(rows)
    for line, (s, time, value) in zip(lines, rows, strict=True):
        measurement, tags, fields, when = parse(line, lenient=lenient)
        assert measurement == s.metric
        assert list(tags.values()) == [plain(v) for _, v in s.labels]
        assert not {"time", "_field", "_measurement"} & set(tags)
        assert len(tags) == len(s.labels)
        assert struct.pack("d", fields["value"]) == struct.pack("d", value), "bit for bit, -0.0 too"
        assert when == time // UNITS[precision]


@given(awkward)
def test_plain_text_is_kept_unless_it_could_not_be_read_back(text):
    assert len(plain(text)) == len(text)
    assert plain(plain(text)) == plain(text)
    if text.isprintable() and "\\" not in text:
        assert plain(text) == text


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        ({"device": "d1"}, b"temperature,device=d1 value="),
        ({"device": "a b,c=d"}, b"temperature,device=a\\ b\\,c\\=d value="),
        ({"device": r"C:\data"}, b"temperature,device=C:\\data value="),
        ({"device": "end\\"}, "temperature,device=end\u29f5 value=".encode()),
        ({"device": "two\\\\x"}, "temperature,device=two\u29f5\\x value=".encode()),
        ({"device": "a\nb"}, "temperature,device=a\u240ab value=".encode()),
        ({"device": "d", "time": "t", "time_": "u"}, b"temperature,device=d,time__=t,time_=u value="),
        ({"device": 'q"'}, b'temperature,device=q" value='),
        ({"device": "\ud800"}, b"temperature,device=? value="),
    ],
)
def test_labels_are_escaped_as_the_specification_says(labels, line):
    assert line_prefix(Series.from_labels("temperature", labels)) == line


def test_a_measurement_escapes_comma_and_space_only():
    assert line_prefix(Series("a b,c=d", (("device", "x"),))) == b"a\\ b\\,c=d,device=x value="


def test_an_integer_is_written_as_a_float_since_the_first_value_fixes_the_type():
    table = SeriesTable()
    batch = ReadingBatch.of([table.add(Series.of("m", device="d"))], [1], [2.0])
    assert LineEncoder(table).encode(batch) == b"m,device=d value=2.0 1\n"


def test_series_that_join_the_table_later_are_encoded():
    table = SeriesTable()
    encoder = LineEncoder(table)
    for i in range(5):
        table.add(Series.of("m", device=f"d{i}"))
        assert encoder.encode(ReadingBatch.of([i], [7], [1.5])) == f"m,device=d{i} value=1.5 7\n".encode()
    assert encoder.encode(ReadingBatch.empty()) == b""


def test_nan_infinity_and_the_ends_of_time_are_not_representable():
    ends = [2**63 - 1, -(2**63), -(2**63) + 1]
    batch = ReadingBatch.of([0] * 8, [1, 1, 1, 2**63 - 2, -(2**63) + 2, *ends], [np.nan, np.inf, -np.inf, *[1.0] * 5])
    assert representable(batch).tolist() == [False, False, False, True, True, False, False, False]
