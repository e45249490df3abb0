"""Laws of the configuration: every problem at once, each with its exact place and what would be right."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ByteSize, TypeAdapter

from telemetry import ConfigError
from tocsin.config import Config, load_config
from tocsin.config_file import data_dir_of
from tocsin.config_schema import format_bytes, json_schema, known_keys
from tocsin.data_dir import DataDir
from tocsin.stream_record import load_streams, save_streams

VALID = """\
data_dir: data
mqtt:
  url: mqtt://localhost:1883
streams:
  - name: telemetry
    topic: sensors/{site}/{device}/telemetry
"""
RULES = """\
groups:
  - name: g
    rules:
      - alert: Hot
        expr: temperature > 30
"""


def problems(directory: Path, text: str, *, env=None, **rule_files: str) -> list[str]:
    """What is wrong with a configuration, without the directory's name."""
    (directory / "tocsin.yaml").write_text(text)
    for name, rules in rule_files.items():
        (directory / f"{name}.yaml").write_text(rules)
    with pytest.raises(ConfigError) as caught:
        load_config(directory / "tocsin.yaml", env=env or {})
    return [str(problem).replace(f"{directory}/", "") for problem in caught.value.problems]


BROKEN = [
    ("brokr:\n  url: x\n", "7:1: unknown key 'brokr'; known here: data_dir, http, journal, limits, mqtt, own_alerts,"),
    ("receiver: []\n", "7:1: unknown key 'receiver': did you mean 'receivers'?"),
    ("limits:\n  max_depht: 5\n", "8:3: unknown key 'max_depht': did you mean 'max_depth'?"),
    ("limits:\n  max_past: 5 minutes\n", "8:13: '5 minutes' is not a duration: write for example 30s, 5m, 1h30m or 7d"),
    ("limits:\n  max_past: 30\n", "8:13: 30 is not a duration: write for example 30s, 5m, 1h30m or 7d"),
    ("limits:\n  max_depth: deep\n", "8:14: expected a whole number, not 'deep'"),
    ("limits:\n  max_depth: 0\n", "8:14: must be at least 1"),
    ("limits:\n  max_depth: 1.5\n", "8:14: expected a whole number, not the number 1.5"),
    ("limits: 5\n", "7:9: expected keys with values (key: value), not the number 5"),
    ("limits:\n", "7:1: expected keys with values (key: value), but nothing stands here"),
    ("limits: []\n", "7:9: expected keys with values (key: value), not a list"),
    ("journal: {segment_bytes: huge}\n", "7:26: expected a size such as 64KiB or 1GiB, not 'huge'"),
    ("journal: {segment_bytes: 5 parsec}\n", "7:26: expected a size such as 64KiB or 1GiB, not '5 parsec'"),
    ("sinks:\n  - url: http://h\n    bucket: b\n    gzip: maybe\n", "10:11: expected true or false, not 'maybe'"),
    ("sinks:\n  - bucket: b\n", "8:5: the key 'url' is missing: it is required"),
    ("sinks:\n  - url: http://h\n", "8:5: api v2 needs a bucket"),
    ("receivers:\n  - type: webhok\n", "8:11: unknown type 'webhok': did you mean 'webhook'?"),
    ("receivers:\n  - name: x\n", "8:5: the key 'type' is missing: it says which kind this is"),
    (
        "receivers:\n  - {type: webhook, url: 'http://h', timeuot: 1s}\n",
        "8:38: unknown key 'timeuot': did you mean 'timeout'?",
    ),
    ("receivers:\n  - {type: log, to: lgo}\n", "8:21: expected 'log' or 'stdout', not 'lgo': did you mean 'log'?"),
    (
        "receivers:\n  - {type: log}\n  - {type: log}\n",
        "9:5: the name 'log' is used twice: give each of the sinks and receivers its own",
    ),
    (
        "sinks:\n  - {url: 'http://h', bucket: b, name: store}\n",
        "8:40: the name 'store' is taken by tocsin itself: give the sink another",
    ),
    ("receivers:\n  log: yes\n", "8:3: expected a list, not keys with values"),
    ("rules: rules.yaml\n", "7:8: expected a list, not 'rules.yaml'"),
    ("rules: [5]\n", "7:9: expected text, not the number 5"),
    ("store: {retention: '${AGE}'}\n", "7:20: the environment variable AGE is not set: set it,"),
    ("mqtt:\n  password: x\n", "7:1: the key 'mqtt' stands here twice: the first is in line 2"),
]


@pytest.mark.parametrize(("more", "problem"), BROKEN, ids=[problem for _, problem in BROKEN])
def test_a_mistake_is_shown_at_its_place_with_what_would_be_right(tmp_path, more, problem):
    (found,) = problems(tmp_path, VALID + more)

    assert found.startswith(f"tocsin.yaml:{problem}")


def test_all_problems_of_the_file_and_its_rules_come_at_once_in_order(tmp_path):
    text = (
        VALID
        + "rules: [bad*.yaml, none/*.yaml]\nlimits: {max_depth: x, max_depht: 1}\nreceivers: [{type: log, to: 5}]\n"
    )
    bad1 = "groups:\n  - name: g\n    rules:\n      - alert: A\n        exprr: up > 1\n"
    bad2 = (
        "groups:\n  - name: g\n    rules:\n      - alert: A\n"
        "        expr: |\n          up\n            > > 1\n        for: 5 minutes\n"
    )

    found = problems(tmp_path, text, bad1=bad1, bad2=bad2, bad3="\tgroups: []\n")

    assert [line.split(": ")[0] for line in found] == [
        "tocsin.yaml:7:20",
        "tocsin.yaml:8:21",
        "tocsin.yaml:8:24",
        "tocsin.yaml:9:29",
        "bad1.yaml:4:9",
        "bad1.yaml:5:9",
        "bad2.yaml:7:15",
        "bad2.yaml:8:14",
        "bad3.yaml:1:1",
    ]
    assert "no file matches 'none/*.yaml'" in found[0]


def test_secrets_are_never_shown_in_problems(tmp_path):
    text = VALID.replace("1883\n", "1883\n  username: u\n  password: 12345\n") + (
        "sinks:\n  - {url: 'ftp://${TOKEN}@h', bucket: b, token: [hunter2]}\n"
        "receivers:\n  - {type: webhook, url: 'ftp://hunter2', headers: {Auth: 77777}}\n"
    )

    found = problems(tmp_path, text, env={"TOKEN": "hunter2"})

    assert len(found) == 5
    assert not any(secret in line for line in found for secret in ("hunter2", "12345", "77777"))


def test_a_missing_file_says_how_to_write_one(tmp_path):
    with pytest.raises(ConfigError, match="tocsin config init"):
        load_config(tmp_path / "nope.yaml")


def test_paths_count_from_the_directory_of_the_file(tmp_path):
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a.yaml").write_text(RULES)
    text = (
        VALID.replace("mqtt://localhost:1883", "mqtts://h\n  ca_file: ca.pem")
        + "rules: ['rules/*.yaml', 'rules/a.*']\n"
    )
    (tmp_path / "tocsin.yaml").write_text(text)

    loaded = load_config(tmp_path / "tocsin.yaml", env={})

    assert loaded.data_dir.path == tmp_path / "data"
    assert loaded.rule_files == [tmp_path / "rules" / "a.yaml"]
    assert [rule.alert for group in loaded.groups for rule in group.rules] == ["Hot"]
    assert loaded.config.mqtt.ca_file == tmp_path / "ca.pem"


def test_labels_of_rules_are_the_text_that_is_written(tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES + "        labels: {version: 1.10, on: true}\n        for: 0\n")
    (tmp_path / "tocsin.yaml").write_text(VALID + "rules: [rules.yaml]\n")

    (group,) = load_config(tmp_path / "tocsin.yaml", env={}).groups

    written = {name: template.expand({}, 0.0) for name, template in group.rules[0].labels}
    assert written == {"version": "1.10", "on": "true"}


def test_the_data_directory_is_known_even_without_the_secrets_of_the_configuration(tmp_path):
    (tmp_path / "tocsin.yaml").write_text(VALID + "sinks: [{url: 'http://h', token: '${TOKEN_THAT_IS_NOT_SET}'}]\n")

    assert data_dir_of(tmp_path / "tocsin.yaml").path == tmp_path / "data"


def test_values_from_the_environment_become_numbers_and_durations_where_they_should(tmp_path):
    text = VALID + "limits: {max_depth: '${DEPTH}', max_past: '${PAST:-2h}'}\nreceivers: []\n"
    (tmp_path / "tocsin.yaml").write_text(text)

    limits = load_config(tmp_path / "tocsin.yaml", env={"DEPTH": "7"}).config.limits

    assert (limits.max_depth, limits.max_past) == (7, 2 * 3600 * 10**9)


def test_every_key_of_the_schema_has_a_description_a_user_can_read():
    schema = json_schema(Config)
    for name, definition in {"Config": schema, **schema["$defs"]}.items():
        for key, value in definition.get("properties", {}).items():
            target = schema["$defs"][value["$ref"].rsplit("/", 1)[1]] if "$ref" in value else value
            assert len(value.get("description", "") or target.get("description", "")) > 10, f"{name}.{key}"


def test_the_schema_is_plain_json_and_shows_durations_as_text():
    schema = json.loads(json.dumps(json_schema(Config)))
    limits = schema["$defs"]["LimitsConfig"]["properties"]

    assert limits["max_future"]["type"] == "string"
    assert limits["max_future"]["default"] == "5m"
    assert schema["$defs"]["JournalConfig"]["properties"]["segment_bytes"]["default"] == "64MiB"


def test_known_keys_follow_the_kind_of_a_receiver():
    schema = json_schema(Config)

    assert "to" in known_keys(schema, ("receivers", 0, "log"))
    assert "to" not in known_keys(schema, ("receivers", 0, "webhook"))


@given(st.integers(0, 2**50))
def test_sizes_are_written_so_that_they_read_back(n):
    assert TypeAdapter(ByteSize).validate_python(format_bytes(n)) == n


def test_streams_are_recorded_so_that_they_read_back_equal(tmp_path):
    text = VALID + (
        "    fields: {values: {door: {ON: 1, OFF: 0}}, rename: {a.b: c}}\n    time: {field: t, unit: ms}\n"
        "    labels: {plant: north}\nlimits: {max_past: 1h, max_depth: 3}\n"
    )
    (tmp_path / "tocsin.yaml").write_text(text)
    config = load_config(tmp_path / "tocsin.yaml", env={}).config
    data = DataDir(tmp_path / "data")
    data.create()

    save_streams(data, config.streams, config.limits)

    assert load_streams(data) == (config.streams, config.limits)


def test_a_file_that_is_missing_here_is_a_warning_with_its_place(tmp_path):
    (tmp_path / "tocsin.yaml").write_text(
        "streams: [{name: s, topic: 'a/{device}'}]\nmqtt: {url: 'mqtts://b', ca_file: ca.pem}\n"
    )

    (warning,) = load_config(tmp_path / "tocsin.yaml").warnings

    assert (warning.line, warning.column) == (2, 35)
    assert warning.message == f"there is no file {tmp_path / 'ca.pem'}"


def test_rules_of_the_same_name_in_two_files_have_ids_of_their_own(tmp_path):
    (tmp_path / "tocsin.yaml").write_text("streams: [{name: s, topic: 'a/{device}'}]\nrules: ['*.yml']\n")
    for name in ("one.yml", "two.yml"):
        (tmp_path / name).write_text("groups: [{name: g, rules: [{alert: A, expr: x > 1}]}]\n")

    ids = [rule.id for group in load_config(tmp_path / "tocsin.yaml").groups for rule in group.rules]

    assert ids == ["g/A", "g/A@two.yml"]
