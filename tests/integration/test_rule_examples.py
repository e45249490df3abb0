"""The example rules of README.md and deploy/ are Prometheus rule files: promtool takes them, without what is ours."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.readme import ROOT, block

EXAMPLES = {
    "README.md": block("Write a rule", "yaml"),
    **{path.name: path.read_text() for path in sorted((ROOT / "deploy/rules").glob("*.yml"))},
}


def without_ours(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Without age() and no_data; and without the labels of groups, which only Prometheus 3 knows."""
    for group in groups:
        rules = [{key: rule[key] for key in rule if key != "no_data"} for rule in group["rules"]]
        yield {"name": group["name"], "rules": [rule for rule in rules if "age(" not in rule["expr"]]}


@pytest.mark.parametrize("name", EXAMPLES)
def test_promtool_takes_the_example(name: str, promtool: Path, tmp_path: Path) -> None:
    groups = list(without_ours(yaml.safe_load(EXAMPLES[name])["groups"]))
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))

    done = subprocess.run(
        [promtool, "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{sum(len(group['rules']) for group in groups)} rules found" in done.stdout
