"""Options and conventions that several commands share. Imports click only."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class ExampleCommand(click.Command):
    """A command whose help ends with examples."""

    def __init__(self, *args: Any, examples: Sequence[str], **more: Any) -> None:
        super().__init__(*args, **more)
        self.examples = examples

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")


def verbose_option(command: Decorated) -> Decorated:
    """-v: show what is done, in detail. May stand before or after the command's name."""
    return click.option(
        "-v", "--verbose", is_flag=True, expose_value=False, callback=_be_verbose, help="Show debug messages."
    )(command)


def command(
    *examples: str, group: click.Group | None = None, name: str | None = None
) -> Callable[[Callable[..., Any]], click.Command]:
    """A command with examples and -v; named like its function, unless it has a name."""
    register = click.command if group is None else group.command

    def decorated(function: Callable[..., Any]) -> click.Command:
        made: click.Command = register(name, cls=ExampleCommand, examples=examples)(verbose_option(function))
        return made

    return decorated


def _be_verbose(_context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        set_up_logging(logging.DEBUG)


def config_option(command: Decorated) -> Decorated:
    """-c FILE: the configuration."""
    return click.option(
        "-c",
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        default="tocsin.yaml",
        show_default=True,
        envvar="TOCSIN_CONFIG",
        help="Configuration file.",
    )(command)


def data_options(command: Decorated) -> Decorated:
    """-c FILE or --data-dir DIR: where the data is that a viewing command shows."""
    command = click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        envvar="TOCSIN_DATA_DIR",
        help="Directory with the data; wins over -c.",
    )(command)
    return click.option(
        "-c",
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        envvar="TOCSIN_CONFIG",
        help="Configuration that names the data directory.  [default: tocsin.yaml if there is one, else ./tocsin-data]",
    )(command)


def port_option(command: Decorated) -> Decorated:
    """--port N: of the HTTP server."""
    return click.option(
        "--port",
        type=click.IntRange(0, 65_535),
        help="Port of the console and the HTTP API, instead of that of http.listen; 0: any that is free.",
    )(command)


def json_option(help_: str) -> Callable[[Decorated], Decorated]:
    """--json: for machines."""
    return click.option("--json", "as_json", is_flag=True, help=help_)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what is standard error now: tests and the live view replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _value: TextIO) -> None:
        pass


def set_up_logging(level: int = logging.INFO) -> None:
    """Our log to standard error; a later call may only make it show more. Libraries speak from warnings on."""
    root, ours = logging.getLogger(), logging.getLogger("tocsin")
    if not any(isinstance(handler, _StandardError) for handler in root.handlers):
        handler = _StandardError()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
        root.addHandler(handler)
        root.setLevel(logging.WARNING)
    if ours.level == logging.NOTSET or level < ours.level:
        ours.setLevel(level)


def wants_colour(stream: TextIO | None = None) -> bool:
    """Whether to write colours: only to a terminal, and not if NO_COLOR is set (https://no-color.org)."""
    out = stream or sys.stdout
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def print_json(value: Any) -> None:
    """One JSON document; lines broken only where a person looks at it."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None, allow_nan=False))
