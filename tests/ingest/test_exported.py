"""Laws of exported journals: what is read is what was written, or an error that says that it is not."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.block import DUP, QOS_SHIFT, REPLAYED, RETAIN, SAMPLES, TICK, Records
from ingest.exported import Export, ExportError, as_line, as_object, write_export

flags = st.one_of(
    st.just(TICK),
    st.sampled_from([SAMPLES, SAMPLES | REPLAYED]),
    st.builds(
        lambda qos, *bits: qos << QOS_SHIFT | sum(bits),
        st.integers(0, 2),
        *(st.sampled_from([0, bit]) for bit in (RETAIN, DUP, REPLAYED)),
    ),
)
rows = st.tuples(
    flags,
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=20),
    st.one_of(st.binary(max_size=40), st.text(max_size=40).map(lambda text: text.encode("utf-8", "ignore"))),
    st.integers(0, 65_535),
    st.integers(0, 3),  # offsets that are missing before it
)


def records_of(given_rows: list[tuple[int, int, str, bytes, int, int]]) -> list[Records]:
    """Each record by itself, with gaps between them; ticks have nothing but their time."""
    found, offset = [], 5
    for flag, received, said, content, number, gap in given_rows:
        offset += gap
        topic, payload, mid = ("", b"", 0) if flag == TICK else (said, content, number)
        columns = np.array([received], np.int64), np.array([flag], np.uint8), [topic], [payload]
        found.append(Records(offset, *columns, np.array([mid], np.uint16)))
        offset += 1
    return found


def lines(parts: list[Records]) -> list[tuple[object, ...]]:
    return [
        (r.first + i, int(r.received[i]), int(r.flags[i]), r.topics[i], r.payloads[i], int(r.mids[i]))
        for r in parts
        for i in range(len(r))
    ]


@given(st.lists(rows, max_size=30))
def test_what_is_read_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, given_rows: list[tuple[int, int, str, bytes, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("export") / "x.jsonl.gz"
    written = records_of(given_rows)
    assert write_export(path, {"streams": ["s"]}, written) == len(written)
    export = Export(path)
    assert export.said["streams"] == ["s"]
    read = list(export.parts())
    assert lines(read) == lines(written)
    for line in (as_line(as_object(records, 0)) for records in written):
        assert line.isprintable()
        assert json.loads(line)["offset"] >= 5


def exported(path: Path) -> bytes:
    rows = [(1 << QOS_SHIFT, 10**18 + i, f"t/{i}", b"%d" % i, 0, 0) for i in range(20)]
    write_export(path, {}, records_of(rows))
    return path.read_bytes()


def test_a_damaged_or_cut_file_is_an_error_and_never_other_records(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    whole = exported(path)
    expected = lines(list(Export(path).parts()))
    for at in range(len(whole)):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :]):
            path.write_bytes(damaged)
            read = []
            try:
                for part in Export(path).parts():
                    read += lines([part])
            except ExportError:
                pass
            else:
                # some bits of gzip's header and padding mean nothing
                assert read == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"offset": 5}', "record 1: KeyError"),
        ('{"offset": 5, "received": "yesterday", "qos": 0}', "record 1: ValueError"),
        ('{"offset": "x", "received": "2026-01-01T00:00:00.0Z", "qos": 0}', "is wrong: export it again"),
        ('{"offset": 5, "received": "2026-01-01T00:00:00.0Z", "qos": 900}', "is wrong: export it again"),
        ('{"end": 6, "records": 7}', "has lost records"),
        ("[1]", "cannot read"),
        ('{"offset": -5, "received": "2026-01-01T00:00:00.0Z", "qos": 0}', "out of range"),
        ("no json", "cannot read"),
    ],
)
def test_what_is_wrong_in_a_file_is_told(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "x.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write('{"format": "tocsin journal", "version": 1}\n' + line + "\n")
    with pytest.raises(ExportError, match=message):
        list(Export(path).parts())


def test_another_file_is_not_taken_for_an_export(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"hello")
    with pytest.raises(ExportError, match="cannot read"):
        Export(path)
    path.write_bytes(gzip.compress(b'{"format": "tocsin journal", "version": 2}\n'))
    with pytest.raises(ExportError, match="not an exported journal of this version"):
        Export(path)
