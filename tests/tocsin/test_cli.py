"""Laws of the command line: what it says, where it says it, and how it ends."""

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from telemetry import RetryLater
from tocsin.cli import COMMANDS, main
from tocsin.cli import configure as configure_commands
from tocsin.cli.options import wants_colour

VALID = """\
data_dir: data
streams:
  - name: telemetry
    topic: sensors/{device}
rules: [rules.yaml]
"""
RULES = """\
groups:
  - name: g
    rules:
      - alert: Hot
        expr: temperature > 30
      - alert: Cold
        expr: temperature < 0
"""


def run(*args: str, env=None):
    return CliRunner().invoke(main, args, env=env)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "tocsin.yaml").write_text(VALID)
    (tmp_path / "rules.yaml").write_text(RULES)
    return tmp_path / "tocsin.yaml"


def test_help_needs_nothing_heavy():
    """What makes `tocsin --help` instant; a law on time itself would depend on the machine."""
    code = (
        "import sys\n"
        "from tocsin.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pydantic', 'paho', 'influxdb_client', 'telemetry', 'rich', 'plotext', 'yaml'}\n"
        "print(*(heavy & set(sys.modules)), file=sys.stderr, end='')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert "dead-letters" in done.stdout


@pytest.mark.slow
def test_a_query_for_machines_needs_neither_the_models_of_the_configuration_nor_the_chart():
    """It is called again and again, by scripts and by impatient people."""
    code = (
        "import sys, tocsin.cli.query\n"
        "heavy = {'pydantic', 'paho', 'influxdb_client', 'rich', 'plotext'}\n"
        "print(*(heavy & set(sys.modules)), file=sys.stderr, end='')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples_and_the_line_that_the_overview_shows(name):
    command = main.get_command(click.Context(main), name)
    assert command.name == name
    assert command.help.startswith(COMMANDS[name][1])
    for arguments in [[name], *([name, inner] for inner in getattr(command, "commands", ()))]:
        shown = run(*arguments, "--help")
        assert shown.exit_code == 0, shown.output
        leaf = not (len(arguments) == 1 and hasattr(command, "commands"))
        assert not leaf or f"tocsin {' '.join(arguments)}" in shown.output.split("Examples:")[1]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["chek"], "did you mean 'check'?"),
        (["--nope"], "No such option"),
        (["check", "--nope"], "No such option"),
        (["query"], "Missing argument 'EXPR'"),
        (["query", "x", "--since", "soon"], "'soon' is neither a duration such as 1h nor a time"),
        (["query", "x", "--csv", "--json"], "exclude each other"),
        (["simulate", "x.yaml", "--url", "mqtt://h", "--duration", "5 min"], "is not a duration"),
        (["dead-letters", "nope"], "No such command"),
    ],
)
def test_wrong_usage_ends_with_2(args, said):
    done = run(*args)

    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


def test_check_counts_what_is_right(config):
    done = run("check", "-c", str(config))

    assert (done.exit_code, done.output) == (0, "OK: 1 stream, 1 rule file, 2 rules\n")


def test_check_prints_every_problem_and_ends_with_1(config):
    config.write_text(VALID + "limits: {max_depth: x}\n")
    (config.parent / "rules.yaml").write_text(RULES + "        fro: 5m\n")

    done = run("check", "-c", str(config))

    assert done.exit_code == 1
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [
        f"{config}:6:21",
        f"{config.parent / 'rules.yaml'}:8:9",
    ]


def test_check_gives_problems_to_machines_as_one_object(config):
    assert json.loads(run("check", "-c", str(config), "--json").stdout) == {
        "ok": True, "problems": [], "warnings": [], "streams": 1, "rule_files": 1, "rules": 2, "recording_rules": 0,
    }  # fmt: skip
    config.write_text(VALID + "limits: {max_depth: x}\n")

    done = run("check", "-c", str(config), "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["problems"] == [
        {"file": str(config), "line": 6, "column": 21, "message": "expected a whole number, not 'x'"}
    ]


def test_an_initialised_configuration_passes_its_check(tmp_path):
    file = tmp_path / "new" / "tocsin.yaml"

    assert run("config", "init", str(file)).exit_code == 0

    assert run("check", "-c", str(file)).output == "OK: 1 stream, 1 rule file, 2 rules\n"


def test_init_overwrites_only_by_force(config):
    done = run("config", "init", str(config))

    assert done.exit_code == 1
    assert done.stderr == f"tocsin: error: {config} exists: choose another name, or overwrite it with --force\n"
    assert config.read_text() == VALID
    assert run("config", "init", str(config), "--force").exit_code == 0
    assert config.read_text() != VALID


def test_init_prints_to_standard_output(tmp_path):
    assert run("config", "init", "-").stdout.startswith("# Configuration of tocsin.")


def test_the_schema_is_printed_as_json():
    schema = json.loads(run("config", "schema").stdout)

    assert schema["title"] == "tocsin.yaml"
    assert "streams" in schema["required"]


def test_errors_for_the_user_are_one_line_without_a_traceback(monkeypatch):
    def fails() -> str:
        raise RetryLater("the disk is full: make room")

    monkeypatch.setattr(configure_commands, "sample_config", fails)

    done = run("config", "init", "-")

    assert (done.exit_code, done.stderr) == (1, "tocsin: error: the disk is full: make room\n")


def test_ctrl_c_ends_with_130_and_says_nothing(monkeypatch):
    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(configure_commands, "sample_config", interrupted)

    done = run("config", "init", "-")

    assert (done.exit_code, done.stderr.strip()) == (130, "")


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error():
    script = f"{sys.executable} -c 'from tocsin.cli import main; main()' config init - | head -n 1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)

    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("args", "debug"), [(["check"], False), (["-v", "check"], True), (["check", "-v"], True)], ids=str
)
def test_debug_messages_are_asked_for_before_or_after_the_command(config, args, debug):
    ours = logging.getLogger("tocsin")
    before = ours.level
    ours.setLevel(logging.NOTSET)
    try:
        assert run(*args, "-c", str(config)).exit_code == 0
        assert ours.isEnabledFor(logging.DEBUG) == debug
        assert ours.isEnabledFor(logging.INFO)
    finally:
        ours.setLevel(before)


@pytest.mark.parametrize(
    "args", [["series"], ["query", "x"], ["alerts"], ["tail"], ["dead-letters", "list"]], ids=lambda args: args[0]
)
def test_viewing_without_data_says_in_one_line_how_to_get_some(args, tmp_path):
    done = run(*args, "--data-dir", str(tmp_path / "none"))

    assert done.exit_code == 1
    assert done.stderr == (
        f"tocsin: error: there is no data directory {tmp_path / 'none'}: start `tocsin run -c FILE` or `tocsin demo`, "
        "or name another with --data-dir or -c\n"
    )


def test_the_data_directory_comes_from_the_configuration(config):
    done = run("series", "-c", str(config))

    assert f"there is no data directory {config.parent / 'data'}:" in done.stderr


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "env", "colour"),
    [
        (_Terminal(), {"TERM": "xterm"}, True),
        (io.StringIO(), {"TERM": "xterm"}, False),
        (_Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (_Terminal(), {"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(monkeypatch, stream, env, colour):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    assert wants_colour(stream) == colour


def test_a_crash_point_that_is_none_is_one_line_and_wrong_usage():
    program = [sys.executable, "-c", "from tocsin.cli import main; main()", "status"]
    environment = os.environ | {"TOCSIN_CRASH_AT": "journal.sinced"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: TOCSIN_CRASH_AT: 'journal.sinced' is no crash point: use one of")
    assert done.stderr.count("\n") == 1
