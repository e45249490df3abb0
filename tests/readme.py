"""README.md in parts, for the tests that keep it true: its fenced blocks, its sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tocsin.config import LoadedConfig, load_config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SECRETS = dict.fromkeys(("MQTT_PASSWORD", "INFLUX_TOKEN", "HOOK_TOKEN", "HOOK_SECRET"), "secret")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str
    heading: str

    def __str__(self) -> str:
        return f"{self.heading}: {self.text[:30]!r}"


def blocks() -> Iterator[Block]:
    heading = ""
    for match in re.finditer(
        r"^#+ (?P<heading>[^\n]+)$|^```(?P<language>\w*)\n(?P<text>.*?)^```$", README, re.MULTILINE | re.DOTALL
    ):
        if match["heading"]:
            heading = match["heading"]
        else:
            yield Block(match["language"], match["text"], heading)


BLOCKS = list(blocks())


def block(heading: str, language: str, nth: int = 0) -> str:
    return [b.text for b in BLOCKS if b.heading == heading and b.language == language][nth]


def yaml_blocks(key: str) -> list[Block]:
    return [b for b in BLOCKS if b.language == "yaml" and key in yaml.safe_load(b.text)]


def loaded(text: str, directory: Path) -> LoadedConfig:
    """As `tocsin check` does; a fragment without streams gets one."""
    if "streams" not in yaml.safe_load(text):
        text += 'streams: [{name: telemetry, topic: "sensors/{site}/{device}/telemetry"}]\n'
    file = directory / "tocsin.yaml"
    file.write_text(text)
    return load_config(file, env=SECRETS)


PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
"""What is not in a block."""


def section(heading: str) -> str:
    """The text under a heading, up to the next one, without blocks."""
    return PROSE.split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
