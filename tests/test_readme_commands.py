"""README.md is true: every command in it exists, with these options; those that end soon are run."""

import json
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sinks.outbox import Outbox
from sinks.store import Store
from telemetry import AlertEvent, AlertState, ReadingBatch, Series, SeriesTable, SystemClock
from tests.offline import SECOND
from tests.readme import BLOCKS, PROSE, ROOT, block
from tocsin.cli import main
from tocsin.data_dir import DataDir


def words(command: str) -> list[str]:
    """As a shell splits it, without comment and redirection."""
    split = shlex.split(command, comments=True)
    return split[: split.index(">")] if ">" in split else split


def commands() -> list[str]:
    """Every command of the README: the lines of its sh blocks, and `tocsin …`, `make …`, `source …` in the text."""
    lines = [line for b in BLOCKS if b.language == "sh" for line in b.text.splitlines() if words(line)]
    inline = re.findall(r"`((?:tocsin|make|source) [^`]+)`", PROSE)
    return list(dict.fromkeys([*lines, *inline]))


TOCSIN = [c for c in commands() if c.startswith("tocsin ")]


def parse_command(arguments: list[str]) -> None:
    """As the program reads it; runs nothing. Raises UsageError."""
    context = click.Context(main)
    command: click.Command = main
    rest = arguments
    while isinstance(command, click.Group):
        name, *rest = rest
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name}"
        command = found
    try:
        command.make_context(command.name, list(rest), parent=context)
    except click.MissingParameter:
        assert rest == []  # only the name of the command stands in the text


@pytest.mark.parametrize("command", TOCSIN)
def test_every_command_line_is_understood(command: str):
    parse_command(words(command)[1:])


def test_every_command_of_the_program_is_in_the_readme():
    used = {words(command)[1] for command in TOCSIN}
    assert used == set(main.list_commands(click.Context(main)))


def test_every_make_target_exists_and_passes_arguments_that_are_understood():
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    asked = [shlex.split(c)[1:] for c in commands() if c.startswith("make ")]
    assert asked
    for target, *settings in asked:
        assert target in targets
        for setting in settings:
            name, _, value = setting.partition("=")
            assert name == "ARGS"
            parse_command([target, *shlex.split(value)])


def test_nothing_else_is_asked_of_the_reader():
    others = {c.split()[0] for c in commands()} - {"tocsin", "make"}
    assert others == {"mosquitto_pub", "source", "promtool", "curl"}


def test_config_init_check_work_as_the_quick_start_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    lines = block("Your own broker", "sh").splitlines()
    assert lines == ["tocsin config init", "tocsin check", "tocsin run"]
    for line in lines[:2]:
        done = CliRunner().invoke(main, words(line)[1:])
        assert done.exit_code == 0, done.output
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.yaml")) == [
        "rules/example.yaml",
        "tocsin.yaml",
    ]
    assert json.loads(CliRunner().invoke(main, ["config", "schema"]).stdout)["title"] == "tocsin.yaml"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a reading, a state, an alert."""
    directory = DataDir(tmp_path_factory.mktemp("data"))
    directory.create()
    now = SystemClock().now()
    table = SeriesTable(directory.series)
    names = ("temperature", "pressure_in", "pressure_out")
    ids = [table.add(Series.of(name, device="d1", site="north")) for name in names]
    table.sync()
    batch = ReadingBatch.of(ids, [now - SECOND] * 3, [21.5, 500, 400])
    with Store(directory.store) as store:
        store.append(batch.series, batch.time, batch.value)
    outbox = Outbox(directory.alerts)
    labels = (("alertname", "TooHot"), ("device", "d1"))
    outbox.publish([AlertEvent("plant/TooHot", labels, AlertState.FIRING, 82.0, now - SECOND, 0, now)], offset=1)
    outbox.close()
    return directory.path


VIEWS = [c for c in block("In the terminal", "sh").splitlines() if not c.startswith(("tocsin tail", "tocsin dead"))]


@pytest.mark.parametrize("command", VIEWS)
def test_the_views_show_something(command: str, data: Path):
    done = CliRunner().invoke(main, words(command)[1:], env={"TOCSIN_DATA_DIR": str(data)})
    assert done.exit_code == 0, done.output
    assert "d1" in done.stdout


@pytest.mark.integration
@pytest.mark.slow
def test_the_demo_prints_what_the_readme_shows(tmp_path: Path):
    shown = json.loads(block("See it", "json"))
    done = CliRunner().invoke(main, ["demo", "--headless", "--json", "--duration", "12", "--data-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout.splitlines()[-1])
    assert list(result) == list(shown)
    assert list(result["truth"]) == list(shown["truth"])
    assert result["ok"]
