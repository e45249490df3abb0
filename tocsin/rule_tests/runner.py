"""Test files, run: their rule files loaded, each test played, its cases compared, and failures explained."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rules import Record, Rule, RuleGroup
from rules.rule_file import NoData
from rules.template import External
from telemetry import ConfigError, Problem, format_duration
from tocsin.rule_tests.cases import Case, alert_case, expr_case, notifications_case
from tocsin.rule_tests.outcome import Failure, FileOutcome, TestOutcome
from tocsin.rule_tests.playback import play
from tocsin.rule_tests.rule_files import load_rule_files, with_external
from tocsin.rule_tests.test_file import RuleTest, RuleTestFile

_BY_DESIGN = "differs by design: {why}; `compat: prometheus` on the group gives Prometheus' behaviour"
_VANISHED = "an alert whose data has vanished stays as it is (no_data: keep)"
_EACH_READING = "rules see each reading at its own time, not only what is newest at an evaluation"


def run_file(file: RuleTestFile, *, compat: bool = False, only: re.Pattern[str] | None = None) -> FileOutcome:
    """Run the tests of a file whose name fits `only`; problems of its rule files are in the outcome.

    `compat`: all groups behave as in Prometheus.
    """
    outcome = FileOutcome(file.path)
    try:
        rules = load_rule_files(file, compat=compat)
    except ConfigError as error:
        outcome.problems = error.problems
        return outcome
    outcome.warnings = rules.warnings + list(_unknown_names(file, rules.groups, only))
    for t, test in enumerate(file.content.tests):
        if only is None or only.search(test.name):
            outcome.tests.append(_Test(file, t).outcome(rules.groups, compat=compat))
    return outcome


def _unknown_names(file: RuleTestFile, groups: Sequence[RuleGroup], only: re.Pattern[str] | None) -> Iterator[Problem]:
    """Where a name of alerts stands first that no rule has: that there are none of them says nothing, then."""
    known = sorted({rule.alert for group in groups for rule in group.rules if isinstance(rule, Rule)})
    told: set[str] = set()
    for t, test in enumerate(file.content.tests):
        if only is not None and not only.search(test.name):
            continue
        names = [("alert_rule_test", i, case.alertname) for i, case in enumerate(test.alert_rule_test)]
        names += [("exp_notifications", i, n.alertname) for i, n in enumerate(test.exp_notifications) if n.alertname]
        for key, i, name in names:
            if name not in known and name not in told:
                told.add(name)
                close = difflib.get_close_matches(name, known, 1)
                hint = f": did you mean {close[0]}?" if close else ""
                words = f"no rule makes alerts of the name {name!r}{hint}"
                yield file.document.located(Problem(words, ("tests", t, key, i, "alertname")))


class _Test:
    """One test of a file."""

    def __init__(self, file: RuleTestFile, number: int) -> None:
        self._file, self._number = file, number
        self._test: RuleTest = file.content.tests[number]
        self._series = file.series(number)
        self._step = file.content.evaluation_interval

    def outcome(self, groups: Sequence[RuleGroup], *, compat: bool) -> TestOutcome:
        cases = list(self._cases(groups))
        if not compat and not all(case.ok for case in cases):
            cases = self._explained(cases, groups)
        line, column = self._file.document.place(("tests", self._number))
        failures = tuple(self._failure(case) for case in cases if not case.ok)
        return TestOutcome(self._test.name or f"test {self._number + 1}", line, column, len(cases), failures)

    def _cases(self, groups: Sequence[RuleGroup]) -> Iterator[Case]:
        """What became of each expectation; of nothing else than the error if a rule cannot be evaluated."""
        test, step, start = self._test, self._step, self._test.start_timestamp
        groups = with_external(groups, External(test.external_labels, test.external_url))
        played = play(
            test,
            self._series,
            groups,
            evaluation_interval=step,
            look_at=frozenset(case.eval_time // step for case in test.alert_rule_test),
        )
        for at, rule_id, why in played.errors:
            name, place = _rule_named(groups, rule_id)
            yield Case((), f"rule {name} at {format_duration(at - start)}", ok=False, problem=why, notes=(place,))
        if played.errors:
            return
        for i, case in enumerate(test.alert_rule_test):
            yield alert_case(case, ("alert_rule_test", i), played.alerts[case.eval_time // step], start)
        for i, expr in enumerate(test.promql_expr_test):
            fuzzy = self._file.content.fuzzy_compare
            yield expr_case(expr, ("promql_expr_test", i), played.store, start=start, step=step, fuzzy=fuzzy)
        for i, told in enumerate(test.exp_notifications):
            yield notifications_case(told, ("exp_notifications", i), played.events)

    def _explained(self, cases: list[Case], groups: Sequence[RuleGroup]) -> list[Case]:
        """The cases; those that would be as expected in Prometheus have a note that says what makes the difference."""
        theirs = list(self._cases(load_rule_files(self._file, compat=True).groups))
        if len(theirs) != len(cases) or not any(a.ok and not b.ok for a, b in zip(theirs, cases, strict=True)):
            return cases
        resolving = list(self._cases([_resolving(group) for group in groups]))
        explained = []
        for i, case in enumerate(cases):
            notes = case.notes
            if theirs[i].ok and not case.ok:
                notes = (*notes, _BY_DESIGN.format(why=_VANISHED if resolving[i].ok else _EACH_READING))
            explained.append(replace(case, notes=notes))
        return explained

    def _failure(self, case: Case) -> Failure:
        line, column = self._file.document.place(("tests", self._number, *case.loc), case.offset)
        return Failure(case.what, line, column, case.expected, case.got, case.problem, case.notes)


def _rule_named(groups: Sequence[RuleGroup], rule_id: str) -> tuple[str, str]:
    """The name of a rule, and where it stands."""
    for group in groups:
        for rule in group.rules:
            if rule.id == rule_id:
                name = rule.record if isinstance(rule, Record) else rule.alert
                return name, f"the rule stands in the group {group.name!r} of {group.file}"
    return rule_id, ""


def _resolving(group: RuleGroup) -> RuleGroup:
    """The group with alerts that end when their data vanishes."""
    return replace(
        group,
        rules=tuple(replace(rule, no_data=NoData.RESOLVE) if isinstance(rule, Rule) else rule for rule in group.rules),
    )
