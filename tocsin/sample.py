"""The sample configuration that `tocsin config init` writes: every key with its description, from the models.

Keys that are commented out show their default, or an example where there is none. What is explained stands as `# text`,
what can be switched on as `#key: value`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

from tocsin.config import Config
from tocsin.config_schema import Schema, alternatives, json_schema

_WIDTH = 100
_HEAD = """\
# Configuration of tocsin. `tocsin check -c FILE` finds what is wrong in it, `tocsin run -c FILE` runs it.
#
# A line such as #key: value shows a default or an example; remove the # to change it. Durations are written 30s, 5m,
# 1h30m or 7d, sizes 64KiB or 1GiB. ${NAME} stands for an environment variable, ${NAME:-text} has a default, and $${ is
# a plain ${. Passwords and tokens belong into the environment or into files (keys that end in _file).
"""
_ACTIVE: dict[str, Any] = {
    "data_dir": "tocsin-data",
    "mqtt": ...,
    "mqtt.url": "mqtt://localhost:1883",
    "streams": ...,
    "streams.name": "telemetry",
    "streams.topic": "sensors/{site}/{device}/telemetry",
    "rules": ["rules/*.yaml"],
    "receivers": ...,
    "receivers.log": ...,
}
"""What a first run needs, by path of keys; all else is commented out. `...`: switched on for what is inside."""
_EXAMPLES: dict[str, Any] = {
    "mqtt.client_id": "tocsin-plant-1",
    "mqtt.username": "tocsin",
    "mqtt.password": "${MQTT_PASSWORD}",
    "mqtt.password_file": "/run/secrets/mqtt",
    "mqtt.ca_file": "/etc/tocsin/ca.pem",
    "mqtt.cert_file": "/etc/tocsin/client.pem",
    "mqtt.key_file": "/etc/tocsin/client.key",
    "streams.metric": "{device}_value",
    "streams.prefix": "plant_",
    "streams.device.field": "meta.serial",
    "streams.labels": {"plant": "north"},
    "streams.labels_from": {"firmware": "meta.fw"},
    "streams.fields.include": ["env.*", "battery"],
    "streams.fields.exclude": ["debug"],
    "streams.fields.rename": {"env.t": "temperature_celsius"},
    "streams.fields.values": {"door": {"OPEN": 1, "CLOSED": 0}},
    "streams.records": "values",
    "streams.name_field": "id",
    "streams.value_field": "v",
    "streams.quality_field": "q",
    "streams.historical_field": "backlog",
    "sinks.influx.url": "http://localhost:8086",
    "sinks.influx.org": "plant",
    "sinks.influx.bucket": "telemetry",
    "sinks.influx.database": "telemetry",
    "sinks.influx.retention_policy": "autogen",
    "sinks.influx.token": "${INFLUX_TOKEN}",
    "sinks.influx.token_file": "/run/secrets/influx",
    "sinks.influx.username": "tocsin",
    "sinks.influx.password": "${INFLUX_PASSWORD}",
    "sinks.influx.ca_file": "/etc/tocsin/ca.pem",
    "receivers.webhook.url": "https://hooks.example.org/alerts",
    "receivers.webhook.headers": {"Authorization": "Bearer ${HOOK_TOKEN}"},
    "receivers.webhook.secret": "${HOOK_SECRET}",
    "receivers.webhook.secret_file": "/run/secrets/hook",
    "receivers.webhook.allow_private": ["192.168.1.0/24"],
    "receivers.webhook.external_url": "https://tocsin.example.org",
    "receivers.webhook.ca_file": "/etc/tocsin/ca.pem",
    "http.users.name": "ada",
    "http.users.password_hash": (
        "$argon2id$v=19$m=65536,t=3,p=4$M14kODfxwvd1FPAgH6YmPA$Lh7sCvGa4xMp8SMtI1wHsaR1QQUbgBz2GQSP9zmjHGE"
    ),
    "http.users.password_file": "/run/secrets/ada",
    "http.tokens.name": "grafana",
    "http.tokens.token_hash": "sha256:fc21fab7d998d7abeea028be6b57076b22dc2945250706a1cfe3f7c8c12fb0b3",
    "http.tokens.token_file": "/run/secrets/grafana",
    "http.hosts": ["tocsin.example.org"],
    "http.cert_file": "/etc/tocsin/server.pem",
    "http.key_file": "/etc/tocsin/server.key",
}

SAMPLE_RULES = """\
# Alerting rules in Prometheus' format: files written for Prometheus load as they are.
groups:
  - name: example
    rules:
      # fires for every device whose temperature stays above 80 for a minute, by the device's own clock
      - alert: TemperatureHigh
        expr: temperature > 80
        for: 1m
        labels:
          severity: critical
        annotations:
          summary: "{{ $labels.device }} is at {{ $value }} degrees"

      # fires for every device that has sent no temperature for five minutes
      - alert: DeviceSilent
        expr: age(temperature) > 300
        labels:
          severity: warning
        annotations:
          summary: "nothing from {{ $labels.device }} for {{ $value }} s"
"""


def sample_config() -> str:
    """The sample as YAML text; valid as it stands."""
    schema = json_schema(Config)
    return _HEAD + "\n".join(_Writer(schema).keys(schema, "", 0)) + "\n"


class _Writer:
    def __init__(self, schema: Schema) -> None:
        self._root = schema

    def keys(self, place: Schema, path: str, indent: int) -> Iterator[str]:
        for key, value in place["properties"].items():
            if not indent:
                yield ""
            yield from self._key(key, value, f"{path}.{key}" if path else key, indent)

    def _key(self, key: str, value: Schema, path: str, indent: int) -> Iterator[str]:
        begin = " " * indent + ("" if path in _ACTIVE else "#")
        inner = self._objects(value)
        yield from _comment(value.get("description") or (inner[0].get("description", "") if inner else ""), indent)
        items = [item for plain in alternatives(self._root, value) for item in self._objects(plain.get("items", {}))]
        if items:
            yield f"{begin}{key}:"
            for item in items:
                yield from self._item(item, path, indent + 2)
        elif inner:
            yield f"{begin}{key}:"
            yield from self.keys(inner[0], path, indent + 2)
        else:
            yield f"{begin}{key}: {_flow(self._shown(path, value))}"

    def _item(self, item: Schema, path: str, indent: int) -> Iterator[str]:
        (first, value), *others = item["properties"].items()
        kind = value.get("const")
        path = f"{path}.{kind}" if kind else path
        yield from _comment(item.get("description", ""), indent)
        begin = " " * indent + ("" if path in _ACTIVE else "#")
        yield f"{begin}- {first}: {_flow(self._shown(f'{path}.{first}', value))}"
        for key, inner in others:
            yield from self._key(key, inner, f"{path}.{key}", indent + 2)

    def _objects(self, place: Schema) -> list[Schema]:
        """The mappings with fixed keys among what may stand at a place."""
        return [plain for plain in alternatives(self._root, place) if "properties" in plain]

    def _shown(self, path: str, value: Schema) -> Any:
        for given in (_ACTIVE, _EXAMPLES):
            if path in given:
                return given[path]
        if "const" in value:
            return value["const"]
        return value.get("default", {} if value.get("type") == "object" else None)


def _comment(text: str, indent: int) -> list[str]:
    begin = " " * indent + "# "
    return textwrap.wrap(text, _WIDTH, initial_indent=begin, subsequent_indent=begin, break_on_hyphens=False)


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
