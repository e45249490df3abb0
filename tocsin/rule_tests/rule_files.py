"""The rule files that a test file names: found, read, and their groups in the order of evaluation."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rules import Record, Rule, RuleGroup, load_rules
from rules.template import External, parse_template
from telemetry import ConfigError, Problem
from tocsin.rule_tests.test_file import RuleTestFile, read_document
from tocsin.yaml_source import Document

MAX_RULE_FILES = 1_000


@dataclass
class Rules:
    """The groups of all rule files of a test file."""

    groups: list[RuleGroup]
    warnings: list[Problem] = field(default_factory=list)


def load_rule_files(file: RuleTestFile, *, compat: bool) -> Rules:
    """The groups, in the order in which they are evaluated; with `compat`, they behave as in Prometheus.

    Raises ConfigError with every problem of every rule file. A pattern that no file matches is a warning, as for
    promtool.
    """
    found = Rules([])
    problems: list[Problem] = []
    for path in _paths(file, found.warnings):
        try:
            document = read_document(path)
        except ConfigError as error:
            problems += error.problems
            continue
        problems += document.problems
        if all(problem.loc for problem in document.problems):
            found.groups += _groups(document, problems, compat=compat)
    if problems:
        raise ConfigError(problems)
    found.groups = _told_apart(_in_order(found.groups, file.content.group_eval_order))
    return found


def with_external(groups: Sequence[RuleGroup], external: External) -> Sequence[RuleGroup]:
    """The groups with what their texts see as `$externalLabels` and `$externalURL`."""
    if external == External():
        return groups
    return [replace(group, rules=tuple(_with_external(rule, external) for rule in group.rules)) for group in groups]


def _with_external(rule: Rule | Record, external: External) -> Rule | Record:
    if isinstance(rule, Record):
        return rule  # its labels are taken as they are written
    labels, annotations = (
        tuple((name, parse_template(template.text, external)) for name, template in texts)
        for texts in (rule.labels, rule.annotations)
    )
    return replace(rule, labels=labels, annotations=annotations)


def _paths(file: RuleTestFile, warnings: list[Problem]) -> list[Path]:
    """The files that the patterns name, each once, in order."""
    paths: dict[Path, None] = {}
    for i, pattern in enumerate(file.content.rule_files):
        names = sorted(glob.glob(str(file.path.parent / pattern)))  # noqa: PTH207  # Path.glob refuses absolute patterns
        if not names:
            words = f"no file matches {pattern!r} in {file.path.parent.absolute()}"
            warnings.append(file.document.located(Problem(words, ("rule_files", i))))
        paths |= dict.fromkeys(map(Path, names))
    if len(paths) > MAX_RULE_FILES:
        words = f"more than {MAX_RULE_FILES} rule files match"
        raise ConfigError([file.document.located(Problem(words, ("rule_files",)))])
    return list(paths)


def _groups(document: Document, problems: list[Problem], *, compat: bool) -> list[RuleGroup]:
    groups, found = load_rules(document.data, file=document.file, compat=compat)
    # a key that nobody knows is shown itself, not its value
    problems += [document.located(p, key=p.message.startswith("unknown key")) for p in found]
    return groups


def _in_order(groups: list[RuleGroup], names: list[str]) -> list[RuleGroup]:
    """Groups whose order is told, in that order; others with the first, as in promtool."""
    place = {name: i for i, name in enumerate(names)}
    return sorted(groups, key=lambda group: (place.get(group.name, 0), group.name not in place))


def _told_apart(groups: list[RuleGroup]) -> list[RuleGroup]:
    """With ids that no other rule has: files may use the same names of groups and rules."""
    seen: set[str] = set()
    apart = []
    for group in groups:
        rules = []
        for rule in group.rules:
            id_ = rule.id
            while id_ in seen:
                id_ += "'"
            seen.add(id_)
            rules.append(replace(rule, id=id_))
        apart.append(replace(group, rules=tuple(rules)))
    return apart
