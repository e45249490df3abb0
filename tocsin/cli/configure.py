"""`tocsin check` and `tocsin config`: everything about configuration files, without running anything."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from rules import Record
from telemetry import ConfigError, TocsinError
from tocsin.cli.options import command, config_option, json_option, print_json
from tocsin.config import Config, LoadedConfig, load_config
from tocsin.config_schema import json_schema
from tocsin.sample import SAMPLE_RULES, sample_config


@command("tocsin check -c tocsin.yaml", "tocsin check -c tocsin.yaml --json | jq .problems")
@config_option
@json_option("Print the problems as one JSON object.")
def check(config_file: Path, as_json: bool) -> None:
    """Check a configuration and its rules: all problems at once.

    Each problem is one line, file:line:column: what is wrong and what would be right. Exit code 1 if there are any.
    """
    try:
        loaded = load_config(config_file)
    except ConfigError as error:
        if as_json:
            print_json({"ok": False, "problems": [_plain(problem) for problem in map(asdict, error.problems)]})
        else:
            for problem in error.problems:
                click.echo(str(problem))
        sys.exit(1)
    counts = _counts(loaded)
    if as_json:
        warnings = [_plain(problem) for problem in map(asdict, loaded.warnings)]
        print_json({"ok": True, "problems": [], "warnings": warnings, **counts})
    else:
        for warning in loaded.warnings:
            click.echo(f"warning: {warning}", err=True)
        recording = counts.pop("recording_rules")
        shown = ", ".join(_counted(n, what.replace("_", " ")) for what, n in counts.items())
        click.echo(f"OK: {shown}" + (f" ({recording} of them recording)" if recording else ""))


def _plain(problem: dict[str, object]) -> dict[str, object]:
    return {key: problem[key] for key in ("file", "line", "column", "message")}


def _counts(loaded: LoadedConfig) -> dict[str, int]:
    rules = [rule for group in loaded.groups for rule in group.rules]
    return {
        "streams": len(loaded.config.streams),
        "rule_files": len(loaded.rule_files),
        "rules": len(rules),
        "recording_rules": sum(isinstance(rule, Record) for rule in rules),
    }


def _counted(n: int, what: str) -> str:
    return f"{n} {what.removesuffix('s') if n == 1 else what}"


@click.group
def config() -> None:
    """Write a sample configuration, or the schema for editors."""


@command(
    "tocsin config init",
    "tocsin config init /etc/tocsin/tocsin.yaml",
    "tocsin config init -            (to standard output)",
    group=config,
)
@click.argument("file", type=click.Path(path_type=Path), default="tocsin.yaml")
@click.option("--force", is_flag=True, help="Overwrite the file if there is one.")
def init(file: Path, force: bool) -> None:
    """Write a commented sample to FILE (tocsin.yaml).

    Every key is explained in it. Example rules are written beside it, to rules/example.yaml.
    """
    if str(file) == "-":
        click.echo(sample_config(), nl=False)
        return
    _write(file, sample_config(), force=force)
    click.echo(f"wrote {file}: name your broker and topics in it, then run `tocsin check -c {file}`")
    rules = file.parent / "rules" / "example.yaml"
    if not rules.exists():
        _write(rules, SAMPLE_RULES, force=force)
        click.echo(f"wrote {rules}: example rules")


def _write(file: Path, text: str, *, force: bool) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w" if force else "x") as out:
            out.write(text)
    except FileExistsError:
        raise TocsinError(f"{file} exists: choose another name, or overwrite it with --force") from None
    except OSError as error:
        raise TocsinError(f"cannot write {file}: {error.strerror}") from error


@command(
    "tocsin config schema > tocsin.schema.json",
    "# yaml-language-server: $schema=tocsin.schema.json     (first line of tocsin.yaml)",
    group=config,
)
def schema() -> None:
    """Print the JSON Schema, for editors."""
    print_json(json_schema(Config))
