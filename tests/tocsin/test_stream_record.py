"""Laws of what is kept beside the data about streams and subscriptions."""

from pathlib import Path

from tocsin.data_dir import DataDir
from tocsin.staleness_file import load_staleness, save_staleness
from tocsin.stream_record import remember_filters


def test_filters_that_were_ever_used_are_remembered_until_they_are_used_again(tmp_path: Path):
    data = DataDir(tmp_path)

    assert remember_filters(data, ["a/#", "b/+"]) == []
    assert remember_filters(data, ["b/+"]) == ["a/#"]
    assert remember_filters(data, ["b/+", "c"]) == ["a/#"]
    assert remember_filters(data, ["a/#"]) == ["b/+", "c"]


def test_a_damaged_record_is_begun_anew(tmp_path: Path):
    data = DataDir(tmp_path)
    data.subscriptions.write_text("[")

    assert remember_filters(data, ["a"]) == []
    assert remember_filters(data, ["b"]) == ["a"]


def test_staleness_is_read_back_and_missing_or_damaged_is_none(tmp_path: Path):
    data = DataDir(tmp_path)
    assert load_staleness(data) == {}

    save_staleness(data, {3: 5, 7: 10**15})
    assert load_staleness(data) == {3: 5, 7: 10**15}

    data.staleness.write_text("[1")
    assert load_staleness(data) == {}
