"""Laws of the sample configuration: it is valid, shows every key, and every line can be switched on."""

import re

import yaml
from pydantic import ValidationError

from tocsin.config import Config, load_config
from tocsin.config_schema import alternatives, json_schema
from tocsin.sample import SAMPLE_RULES, sample_config
from tocsin.yaml_source import parse_yaml


def switched_on() -> dict:
    """The sample with every commented key switched on."""
    document = parse_yaml(re.sub(r"^( *)#(?! )", r"\1", sample_config(), flags=re.MULTILINE), "sample")
    assert document.problems == []
    return document.data


def test_the_sample_is_valid_as_it_stands_with_its_rules(tmp_path):
    (tmp_path / "tocsin.yaml").write_text(sample_config())
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "example.yaml").write_text(SAMPLE_RULES)

    loaded = load_config(tmp_path / "tocsin.yaml", env={})

    assert loaded.config.streams[0].name == "telemetry"
    assert [rule.alert for group in loaded.groups for rule in group.rules] == ["TemperatureHigh", "DeviceSilent"]


def keys_of_schema(root: dict, place: dict, path: str = "") -> set[str]:
    found: set[str] = set()
    for plain in alternatives(root, place):
        found |= keys_of_schema(root, plain["items"], path) if "items" in plain else set()
        for key, value in plain.get("properties", {}).items():
            found |= {f"{path}.{key}", *keys_of_schema(root, value, f"{path}.{key}")}
    return found


def keys_of_data(data: object, path: str = "") -> set[str]:
    if isinstance(data, list):
        return set().union(*(keys_of_data(item, path) for item in data))
    if not isinstance(data, dict):
        return set()
    return set().union(*({f"{path}.{key}", *keys_of_data(value, f"{path}.{key}")} for key, value in data.items()))


def test_the_sample_shows_every_key_there_is():
    schema = json_schema(Config)

    assert keys_of_schema(schema, schema) - keys_of_data(switched_on()) == set()


def test_every_line_of_the_sample_has_a_valid_value():
    """Some keys exclude each other (that is a problem of a mapping); but no value is wrong by itself."""
    try:
        Config.model_validate(switched_on())
    except ValidationError as error:
        wrong = [details for details in error.errors() if not isinstance(details["input"], dict)]
        assert wrong == []


def test_every_default_in_the_sample_is_written_as_yaml_reads_it():
    for line in re.findall(r"^ *#?([a-z_]+: .+)$", sample_config(), flags=re.MULTILINE):
        if not line.startswith(("http", "use ", "rows ")):
            assert isinstance(yaml.safe_load(line), dict), line
