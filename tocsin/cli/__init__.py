"""The command line: which commands there are, and what holds for all of them (errors, exit codes, Ctrl-C).

Commands are imported when they are called, so that `tocsin --help` is instant: only click is imported here.
Exit codes: 0 well, 1 a problem was found or it failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from tocsin.cli.options import set_up_logging, verbose_option

COMMANDS = {
    "run": ("tocsin.cli.run:run", "Receive, store and alert, as a configuration file says."),
    "demo": ("tocsin.cli.demo:demo", "Show everything with a simulated fleet, without any set-up."),
    "serve": ("tocsin.cli.serve:serve", "Show the data of a tocsin that need not run: console and HTTP API."),
    "check": ("tocsin.cli.configure:check", "Check a configuration and its rules: all problems at once."),
    "config": ("tocsin.cli.configure:config", "Write a sample configuration, or the schema for editors."),
    "doctor": ("tocsin.cli.doctor:doctor", "Examine a broker, and say which settings to change."),
    "status": ("tocsin.cli.status:status", "Show how tocsin is doing."),
    "top": ("tocsin.cli.top:top", "Show what keeps the running tocsin busy."),
    "simulate": ("tocsin.cli.simulate:simulate", "Publish what a simulated fleet reports, to any broker."),
    "chaos": ("tocsin.cli.chaos:chaos", "Break tocsin in every way, and prove that nothing is lost."),
    "series": ("tocsin.cli.series:series", "List the series that are stored."),
    "query": ("tocsin.cli.query:query", "Draw or print stored series and expressions over them."),
    "alerts": ("tocsin.cli.alerts:alerts", "List the alerts that fire, or all of the past."),
    "tail": ("tocsin.cli.tail:tail", "Follow readings and alerts as they come."),
    "trace": ("tocsin.cli.trace:trace", "Tell the whole way of one message or alert."),
    "rules": ("tocsin.cli.rules:rules", "Unit tests of rules, as promtool's."),
    "password": ("tocsin.cli.password:password", "Print the hash of a password, for those who may log in."),
    "token": ("tocsin.cli.password:token", "Make a token, for programs that may ask over HTTP."),
    "journal": ("tocsin.cli.journal_replay:journal", "Look into the journal: check, print, export, replay it."),
    "dead-letters": ("tocsin.cli.replay:dead_letters", "Show what was refused and why; replay or purge it."),
}
"""Name: where it is, and its one line in `tocsin --help`."""


class _Commands(click.Group):
    """A group that imports its commands when they are needed, and turns every error into an exit code."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        formatter.write(_EXAMPLES)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(f"there is no command {args[0]!r}{_near(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **extra: Any) -> Any:
        extra["standalone_mode"] = False
        try:
            _check_crash_point()
            code = super().main(args, prog_name, **extra)
        except click.UsageError as error:
            error.show()
            sys.exit(2)
        except click.ClickException as error:
            click.echo(f"tocsin: error: {error.format_message()}", err=True)
            sys.exit(1)
        except click.Abort:
            sys.exit(130)
        except BrokenPipeError:
            # what reads us has gone, as `head` does: nothing is wrong, and nothing more can be said
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except Exception as error:
            if not _is_for_the_user(error):
                raise
            _show(error)
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)


def _check_crash_point() -> None:
    """Raises UsageError for a wrong name. Here, since whatever imports it next would fail with a traceback."""
    if "TOCSIN_CRASH_AT" in os.environ:
        try:
            importlib.import_module("telemetry.crash_points")
        except ValueError as error:
            raise click.UsageError(str(error)) from None


def _near(word: str) -> str:
    import difflib  # noqa: PLC0415  # only when something went wrong

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    return f": did you mean {near[0]!r}?" if near else ""


def _is_for_the_user(error: Exception) -> bool:
    """Whether it is a TocsinError; if telemetry was never imported, it cannot be one."""
    telemetry = sys.modules.get("telemetry")
    return telemetry is not None and isinstance(error, telemetry.TocsinError)


def _show(error: Exception) -> None:
    """One line; for a configuration, first one for each problem."""
    problems = getattr(error, "problems", None)
    if problems is None:
        click.echo(f"tocsin: error: {error}", err=True)
        return
    for problem in problems:
        click.echo(str(problem), err=True)
    n = len(problems)
    click.echo(f"tocsin: error: {n} problem{'s' if n != 1 else ''}, see above", err=True)


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        from tocsin import __version__  # noqa: PLC0415  # reads the package's metadata: slow, and needed here only

        click.echo(f"tocsin {__version__}")
        ctx.exit()


_EXAMPLES = """\
Begin with:
  tocsin demo                       see it at work
  tocsin config init                write tocsin.yaml, to be edited
  tocsin check -c tocsin.yaml       find what is wrong in it
  tocsin run -c tocsin.yaml         run it
  tocsin query 'temperature{device="d1"}' --since 1h
"""


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
@verbose_option
def main() -> None:
    """Prometheus-grade alerting for IoT: on every MQTT reading, in event time, with nothing lost."""
    set_up_logging()
