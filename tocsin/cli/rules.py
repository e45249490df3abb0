"""`tocsin rules`: everything about rule files that needs no running pipeline."""

from __future__ import annotations

import re
import sys

import click

from telemetry import ConfigError
from tocsin.cli.options import command, json_option, print_json, wants_colour


class _Pattern(click.ParamType[re.Pattern[str]]):
    """A regular expression."""

    name = "regex"

    def convert(
        self, value: str | re.Pattern[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> re.Pattern[str]:
        try:
            return re.compile(value)
        except re.error as error:
            self.fail(f"{value!r} is not a regular expression: {error}", param, ctx)


@click.group
def rules() -> None:
    """Unit tests of rules, as promtool's."""


@command(
    "tocsin rules test tests/freezer.test.yml",
    "tocsin rules test tests/ --run 'door|window'",
    "tocsin rules test 'rules/**/*.test.yml' --json | jq '.files[] | select(.ok | not) .file'",
    "tocsin rules test --compat prometheus alerts.test.yml     (as in Prometheus)",
    group=rules,
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--compat",
    type=click.Choice(["prometheus"]),
    help="All groups behave as in Prometheus, as if they had the key compat: prometheus.",
)
@click.option("--run", "only", type=_Pattern(), metavar="REGEX", help="Only tests whose name has a match.")
@json_option("Print one JSON object.")
def test(files: tuple[str, ...], compat: str | None, only: re.Pattern[str] | None, as_json: bool) -> None:
    """Run unit tests of rules, as promtool does.

    FILE is a test file of `promtool test rules`, a directory that holds some, or a pattern in quotes. Such files work
    unchanged: rule_files, evaluation_interval, group_eval_order, fuzzy_compare, and tests with name, interval,
    start_timestamp, input_series, alert_rule_test, promql_expr_test, external_labels and external_url.

    \b
    What tocsin adds, in a test:
      alert_rule_test:
        - eval_time: 8m
          alertname: FreezerWarm
          exp_state: pending       alerts in this state, not those that fire;
                                   without exp_alerts, there must be one; an
                                   entry of exp_alerts may have its own, too
      exp_notifications:           how often receivers were told, in the test:
        - {alertname: FreezerWarm, state: firing, count: 1}
        - {state: resolved, count: 0}
      faults:                      what happens to readings on their way:
        - {kind: dropout, series: 'temperature{device="d1"}', at: 5m, for: 10m}
        - {kind: duplicate, rate: 0.5}
        - {kind: delay, by: 2m}
        - {kind: delayed_burst, at: 5m, for: 10m}
        - {kind: out_of_order}
        - {kind: clock_skew, offset: -1h}
      seed: 7                      other choices where rate is below 1

    Rules behave as in `tocsin run`: they see every reading, and keep alerts whose data has vanished. Where a case fails
    for that alone, the report says so.

    Exit code 0: all as expected, 1: something failed, 2: a file is broken.
    """  # noqa: D301  # click wants a backspace before what it must not wrap
    from tocsin.rule_tests.discovery import find_test_files  # noqa: PLC0415  # imports the engine: not for --help
    from tocsin.rule_tests.outcome import FileOutcome  # noqa: PLC0415
    from tocsin.rule_tests.report import as_object, file_lines, summary_line  # noqa: PLC0415
    from tocsin.rule_tests.runner import run_file  # noqa: PLC0415
    from tocsin.rule_tests.test_file import load_test_file  # noqa: PLC0415

    outcomes: list[FileOutcome] = []
    for path, document in find_test_files(files).items():
        try:
            outcome = run_file(load_test_file(path, document), compat=compat is not None, only=only)
        except ConfigError as error:
            outcome = FileOutcome(path, problems=error.problems)
        outcomes.append(outcome)
        if not as_json:
            for warning in outcome.warnings:
                click.echo(f"warning: {warning}", err=True)
            for line in file_lines(outcome):
                click.echo(line, color=wants_colour())
    if only is not None and not any(outcome.tests or outcome.problems for outcome in outcomes):
        raise click.UsageError(f"no test has a name that {only.pattern!r} matches")
    if as_json:
        print_json(as_object(outcomes))
    else:
        click.echo(summary_line(outcomes))
    if any(outcome.problems for outcome in outcomes):
        sys.exit(2)
    if not all(outcome.ok for outcome in outcomes):
        sys.exit(1)
