"""Test files: promtool's format and what tocsin adds to it, as checked models, with all problems at their places.

Here: what a user may write, and reading it. Not here: running it (runner), the series notation (notation).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rules import ExpressionError, select
from telemetry import ConfigError, Problem, SeriesTable, parse_duration
from tocsin.config_problems import problems_of
from tocsin.rule_tests.faults import Fault
from tocsin.rule_tests.notation import NotationError, Values, parse_metric, parse_values
from tocsin.yaml_source import Document, Loc, parse_yaml

MAX_EVALUATIONS = 1_000_000
"""Of one test."""
_MINUTE = 60 * 10**9

Duration = Annotated[int, BeforeValidator(parse_duration)]
Labels = Annotated[
    dict[str, Annotated[str, BeforeValidator(lambda text: text or "")]], BeforeValidator(lambda d: d or {})
]
Text = Annotated[str, BeforeValidator(lambda text: "" if text is None else text)]
State = Literal["pending", "firing"]


def _items(value: Any) -> Any:
    """A key without a value is an empty list, as for promtool."""
    return [] if value is None else value


def _instant(value: Any) -> Any:
    """ns since the epoch, of RFC 3339 or seconds."""
    try:
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", str(value)):
            return round(float(value) * 1000) * 10**6
        moment = datetime.fromisoformat(str(value))
        if moment.tzinfo is not None:
            return round(moment.timestamp() * 1000) * 10**6
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{value!r} is not a time: write for example 2026-01-31T12:00:00Z, or seconds since 1970")


def _number(value: Any) -> Any:
    """A YAML number, as the library of promtool reads it (YAML 1.1 but for 60-based numbers)."""
    text = str(value or "0").replace("_", "")
    if re.fullmatch(r"[-+]?0[0-7]+", text):
        return float(int(text, 8))
    if re.fullmatch(r"[-+]?0(x[0-9a-fA-F]+|o[0-7]+|b[01]+)", text):
        return float(int(text, 0))
    if re.fullmatch(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", text):
        return float(text.replace(".", ""))
    if re.fullmatch(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", text):
        return float(text)
    raise ValueError(f"expected a number, not {value!r} (YAML writes .nan, .inf and -.inf)")


class Model(BaseModel):
    """What all models of a test file have in common: unknown keys are errors, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputSeries(Model):
    series: Text = Field("", description='The series, as in up{job="a"}.')
    values: Text = Field("", description="Its samples, one for each interval: 1 2+3x4 _ _x2 stale NaN.")


class ExpectedAlert(Model):
    exp_labels: Labels = Field({}, description="Labels of the alert, without alertname.")
    exp_annotations: Labels = Field({}, description="Its annotations, expanded.")
    exp_state: State | None = Field(None, description="tocsin: pending or firing, if not that of the whole entry.")


class AlertCase(Model):
    eval_time: Duration = Field(0, description="When to look, counted from the start of the test.")
    alertname: str = Field(min_length=1, description="Name of the alert.")
    exp_alerts: Annotated[list[ExpectedAlert] | None, BeforeValidator(_items)] = Field(
        None, description="All alerts of this name; empty: there is none."
    )
    exp_state: State | None = Field(
        None, description="tocsin: compare the alerts that are in this state (without exp_alerts: there must be one)."
    )


class ExpectedSample(Model):
    labels: Text = Field("", description='As in up{job="a"}, with the name if the result has one.')
    value: Annotated[float, BeforeValidator(_number)] = Field(0.0, description="Its value.")


class ExprCase(Model):
    expr: Text = Field("", description="PromQL.")
    eval_time: Duration = Field(0, description="At which time, counted from the start of the test.")
    exp_samples: Annotated[list[ExpectedSample], BeforeValidator(_items)] = Field([], description="The whole result.")


class ExpectedNotifications(Model):
    alertname: str | None = Field(None, description="Name of the alerts; all if it is missing.")
    state: Literal["firing", "resolved"] = Field(description="What was told.")
    count: int = Field(ge=0, description="How often, during the whole test.")


class RuleTest(Model):
    name: Text = Field("", description="Shown in the report.")
    interval: Duration = Field(0, description="Time between two samples; that between evaluations if it is missing.")
    start_timestamp: Annotated[int, BeforeValidator(_instant)] = Field(0, description="When the test begins.")
    input_series: Annotated[list[InputSeries], BeforeValidator(_items)] = Field([], description="What is measured.")
    alert_rule_test: Annotated[list[AlertCase], BeforeValidator(_items)] = Field([], description="Alerts to expect.")
    promql_expr_test: Annotated[list[ExprCase], BeforeValidator(_items)] = Field([], description="Results to expect.")
    external_labels: Labels = Field({}, description="What templates see as $externalLabels.")
    external_url: Text = Field("", description="What templates see as $externalURL.")
    exp_notifications: Annotated[list[ExpectedNotifications], BeforeValidator(_items)] = Field(
        [], description="tocsin: how often receivers were told, during the whole test."
    )
    faults: Annotated[list[Fault], BeforeValidator(_items)] = Field(
        [], description="tocsin: what happens to readings on their way."
    )
    seed: int = Field(0, ge=0, description="tocsin: another seed makes other choices for the faults.")

    @property
    def length(self) -> int:
        """ns until the last case."""
        times = [case.eval_time for case in self.alert_rule_test] + [case.eval_time for case in self.promql_expr_test]
        return max(times, default=0)


class Content(Model):
    """Everything that a test file may say."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="test file")

    rule_files: Annotated[list[str], BeforeValidator(_items)] = Field(
        [], description="Rule files, counted from this file; * stands for any part of a name."
    )
    evaluation_interval: Duration = Field(_MINUTE, description="Time between two evaluations of all groups.")
    group_eval_order: Annotated[list[str], BeforeValidator(_items)] = Field(
        [], description="Names of groups in the order of their evaluation."
    )
    fuzzy_compare: bool = Field(False, description="Numbers may differ in their last bit.")
    tests: Annotated[list[RuleTest], BeforeValidator(_items)] = Field([], description="The tests.")


@dataclass(frozen=True)
class RuleTestFile:
    """A test file that can be run."""

    path: Path
    document: Document
    content: Content

    def series(self, test: int) -> list[tuple[dict[str, str], Values]]:
        """Labels and samples of the input series of a test, in the order of the file."""
        return [(parse_metric(g.series), parse_values(g.values)) for g in self.content.tests[test].input_series]


def read_document(path: Path) -> Document:
    """The YAML of a file. Raises ConfigError with every problem of the text."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError([Problem(f"cannot be read: {error.strerror}", file=str(path))]) from error
    return parse_yaml(text, str(path), only_text=True)


def load_test_file(path: Path, document: Document | None = None) -> RuleTestFile:
    """The checked test file. Raises ConfigError with every problem and its place."""
    document = read_document(path) if document is None else document
    problems = list(document.problems)
    if any(not problem.loc for problem in problems):
        raise ConfigError(problems)
    problems += [document.located(problem) for problem in _mistakes_in_texts(document)]
    try:
        content = Content.model_validate(document.data)
    except ValidationError as error:
        raise ConfigError(_sorted(problems + problems_of(error, document, Content))) from error
    problems += [document.located(problem) for problem in _mismatches(content)]
    if problems:
        raise ConfigError(_sorted(problems))
    return RuleTestFile(path, document, content)


def _sorted(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.line, problem.column))


def _mistakes_in_texts(document: Document) -> Iterator[Problem]:
    """What is wrong in series and values; also of a file that has other problems, so its data may be anything."""
    for test, loc in _items_of(document.data, "tests", ()):
        for given, at in _items_of(test, "input_series", loc):
            yield from _mistake(parse_metric, given, "series", at)
            yield from _mistake(parse_values, given, "values", at)
            if given.get("series") is None or str(given["series"]).strip() in ("", "{}"):
                yield Problem('a series needs a name, as in up{job="a"}', (*at, "series"))
        for case, at in _items_of(test, "promql_expr_test", loc):
            for sample, of in _items_of(case, "exp_samples", at):
                yield from _mistake(parse_metric, sample, "labels", of)
                yield from _quoted_number(document, sample, (*of, "value"))
        for fault, at in _items_of(test, "faults", loc):
            yield from _mistake(lambda selector: select(selector, SeriesTable()), fault, "series", at)


def _quoted_number(document: Document, sample: Mapping[str, Any], loc: Loc) -> Iterator[Problem]:
    """What would be a number without its quotes; with them it is none, for promtool neither."""
    if document.is_quoted(loc):
        with contextlib.suppress(ValueError):
            yield Problem(f"a number stands without quotes: value: {_number(sample['value']):g}", loc)


def _items_of(owner: Mapping[str, Any], key: str, loc: Loc) -> Iterator[tuple[Mapping[str, Any], Loc]]:
    """The mappings of a list, with their places; nothing else."""
    items = owner.get(key)
    for i, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, Mapping):
            yield item, (*loc, key, i)


def _mistake(parse: Callable[[str], object], owner: Mapping[str, Any], key: str, loc: Loc) -> Iterator[Problem]:
    text = owner.get(key)
    if isinstance(text, str):
        try:
            parse(text)
        except (NotationError, ExpressionError) as error:
            yield Problem(str(error), (*loc, key), error.offset)


def _mismatches(content: Content) -> Iterator[Problem]:
    """What no model can see alone."""
    step = content.evaluation_interval
    if step == 0:
        yield Problem("the interval must be longer than 0", ("evaluation_interval",))
        return
    for i, name in enumerate(content.group_eval_order):
        if name in content.group_eval_order[:i]:
            yield Problem(f"the group {name!r} stands here twice", ("group_eval_order", i))
    for t, test in enumerate(content.tests):
        loc: Loc = ("tests", t)
        if test.length // step >= MAX_EVALUATIONS:
            words = f"more than {MAX_EVALUATIONS} evaluations: use a longer evaluation_interval or shorter eval_times"
            yield Problem(words, loc)
        if test.start_timestamp % step:
            yield Problem("start_timestamp must be a multiple of evaluation_interval", (*loc, "start_timestamp"))
        for f, fault in enumerate(test.faults):
            yield from (Problem(message, (*loc, "faults", f)) for message in fault.problems())
