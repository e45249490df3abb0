"""Laws of the configuration of session and journal: what is wrong is told, and secrets stay secret."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from ingest.config import JournalConfig, MqttConfig
from ingest.credentials import password, tls_context
from telemetry import ConfigError


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"url": "http://x"}, "must begin with mqtt://, mqtts://, ws:// or wss://"),
        ({"url": "broker:1883"}, "must begin with mqtt://"),
        ({"url": "mqtt://"}, "has no host"),
        ({"url": "mqtt://x:99999"}, "Port out of range"),
        ({"url": "mqtt://x/path"}, "takes no path"),
        ({"url": "mqtt://ada:pw@x"}, "do not belong into the URL"),
        ({"protocol": "4"}, "'5' or '3.1.1'"),
        ({"username": "a", "password": "x", "password_file": "y"}, "either password or password_file"),
        ({"password": "x"}, "a password needs a username"),
        ({"url": "mqtts://x", "key_file": "k"}, "key_file needs cert_file"),
        ({"ca_file": "ca.pem"}, "ca_file is about TLS: use mqtts:// or wss://"),
        ({"insecure": True}, "insecure is about TLS"),
        ({"url": "mqtts://x", "insecure": True, "ca_file": "ca.pem"}, "remove one of them"),
        ({"keepalive": "0"}, "keepalive must lie between 1s and 18h"),
        ({"session_expiry": "5"}, "is not a duration: write for example 30s"),
        ({"pasword": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_is_told(fields: dict[str, object], expected: str):
    with pytest.raises(ValidationError, match=expected):
        MqttConfig(**fields)


@pytest.mark.parametrize(
    ("url", "address", "tls", "path"),
    [
        ("mqtt://broker", "mqtt://broker:1883", False, "/mqtt"),
        ("mqtts://broker", "mqtts://broker:8883", True, "/mqtt"),
        ("ws://broker:9001", "ws://broker:9001", False, "/mqtt"),
        ("wss://broker/a/b?token=x", "wss://broker:443", True, "/a/b?token=x"),
        ("mqtt://[::1]:1884", "mqtt://[::1]:1884", False, "/mqtt"),
    ],
)
def test_urls_are_taken_apart(url: str, address: str, tls: bool, path: str):
    config = MqttConfig(url=url)
    assert (config.address, config.tls, config.path) == (address, tls, path)


def test_the_protocol_may_be_written_as_a_yaml_number():
    assert MqttConfig(protocol=5).protocol == "5"


def test_the_defaults_keep_a_session_under_a_stable_name():
    config = MqttConfig()
    assert config.client_id == MqttConfig().client_id
    assert config.client_id.startswith("tocsin-")
    assert config.session_expiry >= 24 * 3600 * 10**9
    assert 500 <= config.receive_maximum <= 1000


def test_secrets_do_not_show():
    config = MqttConfig(username="ada", password="s3cret")
    assert "s3cret" not in repr(config) + str(config) + config.model_dump_json()
    assert password(config) == "s3cret"


def test_a_password_comes_from_the_first_line_of_its_file(tmp_path: Path):
    file = tmp_path / "password"
    config = MqttConfig(username="ada", password_file=file)
    with pytest.raises(ConfigError, match=r"mqtt.password_file: cannot use .*No such file"):
        password(config)
    file.write_text("")
    with pytest.raises(ConfigError, match="it is empty"):
        password(config)
    file.write_text("pa ss\nword\n")
    assert password(config) == "pa ss"


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path):
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    for field in ("ca_file", "cert_file"):
        with pytest.raises(ConfigError, match=rf"mqtt\.{field}: cannot use .*junk.pem") as caught:
            tls_context(MqttConfig(url="mqtts://x", **{field: junk}))
        assert caught.value.problems[0].loc == ("mqtt", field)
    with pytest.raises(ConfigError, match=r"mqtt\.ca_file: cannot use .*No such file"):
        tls_context(MqttConfig(url="mqtts://x", ca_file=tmp_path / "nothing"))


def test_sizes_and_durations_are_written_with_units():
    config = JournalConfig(segment_bytes="1MiB", retention_age="2d")
    assert (config.segment_bytes, config.retention_age) == (1 << 20, 2 * 86_400 * 10**9)


def test_every_field_is_described_and_the_schema_takes_the_notation_of_the_file():
    for model in (MqttConfig, JournalConfig):
        properties = model.model_json_schema()["properties"]
        assert all(field.get("description") for field in properties.values())
    assert JournalConfig.model_json_schema()["properties"]["retention_age"]["type"] == "string"
