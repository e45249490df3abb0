"""Laws of `tocsin simulate`: scenario files with places of mistakes, a real broker, the truth beside it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from simulators.broker import EmbeddedBroker
from simulators.truth import read_expectations
from telemetry import ConfigError
from tocsin.cli import main
from tocsin.scenario_file import load_scenario

SCENARIO = """\
seed: 7
duration: 1h
fleets:
  - name: pump
    devices: 5
    interval: 1s
    qos: 1
    metrics:
      temperature: {level: 20, noise: 0.1}
faults:
  - {kind: spike, metric: temperature, at: 500ms, for: 1s, value: 99}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "fleet.yaml").write_text(SCENARIO)
    return tmp_path / "fleet.yaml"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("interval: 1s", "intervall: 1s", "6:5: unknown key 'intervall': did you mean 'interval'?"),
        ("level: 20", "level: hot", "9:28: expected a number, not 'hot'"),
        ("for: 1s", "for: 1 s", "11:56: '1 s' is not a duration: write for example 30s, 5m, 1h30m or 7d"),
        ("kind: spike", "kind: spkie", "11:12: "),
    ],
)
def test_a_mistake_in_a_scenario_is_shown_at_its_place(file, old, new, problem):
    file.write_text(SCENARIO.replace(old, new))

    with pytest.raises(ConfigError) as caught:
        load_scenario(file)

    assert str(caught.value.problems[0]).startswith(f"{file}:{problem}")


def test_options_win_over_the_scenario(file):
    scenario = load_scenario(file, duration=2 * 10**9, seed=3)

    assert (scenario.duration, scenario.seed) == (2 * 10**9, 3)
    assert load_scenario(file).seed == 7


def test_a_broker_that_is_not_there_is_one_line(file):
    done = CliRunner().invoke(main, ["simulate", str(file), "--url", "mqtt://127.0.0.1:1"])

    assert done.exit_code == 1
    assert done.stderr.startswith("tocsin: error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_scenario_is_published_and_its_truth_written(file, tmp_path):
    truth = tmp_path / "truth.json"
    with EmbeddedBroker() as broker:
        done = CliRunner().invoke(
            main, ["simulate", str(file), "--url", broker.url, "--duration", "2s", "--truth", str(truth), "--json"]
        )

    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["messages"] == result["acked"] == result["readings"] > 5
    assert result["complete"]
    assert len(read_expectations(truth)) == result["expected"]
