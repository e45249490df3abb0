"""The configuration file: the model of the whole, loading with all problems at once, and the rule files it names.

Not here: the models of the parts; they live beside the code that they configure.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingest.config import JournalConfig, MqttConfig
from ingest.streams import LimitsConfig, StreamConfig
from rules import RuleGroup, load_rules
from sinks.config import InfluxConfig, LogConfig, ReceiverConfig
from sinks.store_sink import StoreConfig
from telemetry import ConfigError, Problem
from tocsin import data_dir
from tocsin.config_file import read_file
from tocsin.config_problems import problems_of
from tocsin.http.config import HttpConfig
from tocsin.tracing import TracingConfig
from tocsin.yaml_source import Document, Loc, parse_yaml

MAX_RULE_FILES = 1_000
_DEFAULT_NAMES = {"sinks": "influx"}
"""Of items that say neither name nor type; otherwise the type is the default name."""
_OURS = ("rules", "store", "session", "journal", "messages", "readings", "evaluation", "ingest", "alerts")
"""Consumers of the journal and stages of the accounts that are always there: cursors and counters have these names."""


class Config(BaseModel):
    """Everything that a tocsin.yaml may say."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="tocsin.yaml")

    data_dir: Path = Field(
        data_dir.DEFAULT,
        description="Directory for everything that is kept: journal, readings, alerts, dead letters. Relative paths, "
        "here and in all keys that end in _file, count from this file's directory.",
    )
    mqtt: MqttConfig = Field(default_factory=MqttConfig, description="The broker that the messages come from.")
    streams: Annotated[list[StreamConfig], Field(min_length=1)] = Field(
        description="Which messages become which readings; the first stream whose topic fits takes a message.",
    )
    limits: LimitsConfig = Field(
        default_factory=LimitsConfig,
        description="What is accepted from outside; what exceeds a limit is counted and kept as a dead letter.",
    )
    processes: Literal["auto", 1, 2] = Field(
        1,
        description="1: everything in one process. 2: receiving has a process of its own, which spares others from "
        "waiting for Python's lock. auto: 2 where there are four processors or more, else 1.",
    )
    journal: JournalConfig = Field(
        default_factory=JournalConfig, description="The log of raw messages that everything is computed from."
    )
    rules: list[str] = Field(
        [], description="Rule files in Prometheus' format; * and ** stand for any part of a name or of a path."
    )
    store: StoreConfig = Field(default_factory=StoreConfig, description="The embedded store of readings.")
    sinks: list[InfluxConfig] = Field([], description="Where readings are written besides the embedded store.")
    receivers: list[ReceiverConfig] = Field([LogConfig()], description="Who is told of alerts.")
    own_alerts: bool = Field(
        True, description="Whether receivers are also told when tocsin itself is in trouble (alerts named Tocsin…)."
    )
    http: HttpConfig = Field(default_factory=HttpConfig, description="Console, API, metrics and health.")
    tracing: TracingConfig = Field(
        default_factory=TracingConfig, description="Spans for OpenTelemetry; off by default."
    )


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration without problems, and the rules of the files it names."""

    config: Config
    file: Path
    rule_files: list[Path]
    groups: list[RuleGroup]
    warnings: list[Problem] = field(default_factory=list)
    """What is fine here and now only if this is not the machine that it is for: files that are missing."""

    @property
    def data_dir(self) -> data_dir.DataDir:
        return data_dir.DataDir(self.file.parent / self.config.data_dir)


def load_config(path: Path, *, env: Mapping[str, str] | None = None) -> LoadedConfig:
    """The configuration and its rules; `env` is the process' environment unless it is given.

    Raises ConfigError with every problem of the file and of all rule files, each with its place.
    """
    document = parse_yaml(read_file(path), str(path), env=os.environ if env is None else env)
    problems = list(document.problems)
    config = _validated(document, path.parent, problems)
    problems += [document.located(problem) for problem in _name_problems(document.data)]
    rule_files = list(_rule_files(document, path.parent, problems.append))
    groups: list[RuleGroup] = []
    for rule_file in rule_files:
        groups += _load_rule_file(rule_file, problems)
    groups = _told_apart(groups)
    if problems or config is None:
        first = [problem for problem in problems if problem.file == str(path)]
        others = [problem for problem in problems if problem.file != str(path)]
        raise ConfigError([*sorted(first, key=_place), *sorted(others, key=_place)])
    warnings = [document.located(problem) for problem in _missing_files(document.data, path.parent)]
    return LoadedConfig(config, path, rule_files, groups, warnings)


def at_port(loaded: LoadedConfig, port: int | None) -> LoadedConfig:
    """The same, but with HTTP at another port, unless that is None."""
    if port is None:
        return loaded
    host = loaded.config.http.listen.rpartition(":")[0]
    http = loaded.config.http.model_copy(update={"listen": f"{host}:{port}"})
    return replace(loaded, config=loaded.config.model_copy(update={"http": http}))


def load_rule_files(paths: Iterable[Path]) -> list[RuleGroup]:
    """The groups of these files, as a configuration that names them has them. Raises ConfigError."""
    problems: list[Problem] = []
    groups = _told_apart([group for path in paths for group in _load_rule_file(path, problems)])
    if problems:
        raise ConfigError(problems)
    return groups


def _validated(document: Document, base: Path, problems: list[Problem]) -> Config | None:
    if any(not problem.loc for problem in document.problems):
        return None
    try:
        return Config.model_validate(_anchored(document.data, base))
    except ValidationError as error:
        problems += problems_of(error, document, Config)
        return None


def _anchored(data: Any, base: Path) -> Any:
    """The data with the paths of `*_file` keys counted from the directory of the configuration file."""
    if isinstance(data, list):
        return [_anchored(item, base) for item in data]
    if not isinstance(data, dict):
        return data
    return {
        key: str(base / value) if key.endswith("_file") and isinstance(value, str) and value else _anchored(value, base)
        for key, value in data.items()
    }


def _name_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Names that are used twice, or are taken by tocsin itself: they name counters, cursors and deliveries."""
    for keys in (("streams",), ("sinks", "receivers")):
        seen: set[str] = set()
        for key in keys:
            items = data.get(key)
            for i, item in enumerate(items if isinstance(items, list) else ()):
                if not isinstance(item, dict):
                    continue
                loc: Loc = (key, i, "name") if "name" in item else (key, i)
                name = str(item.get("name", item.get("type", _DEFAULT_NAMES.get(key, ""))))
                if name and name in seen:
                    yield Problem(
                        f"the name {name!r} is used twice: give each of the {' and '.join(keys)} its own", loc
                    )
                if key != "streams" and name in _OURS:
                    yield Problem(f"the name {name!r} is taken by tocsin itself: give the {key[:-1]} another", loc)
                seen.add(name)


def _missing_files(data: Any, base: Path, loc: Loc = ()) -> Iterator[Problem]:
    """A problem for each `*_file` that is not there."""
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            if str(key).endswith("_file") and isinstance(value, str) and value and not (base / value).is_file():
                yield Problem(f"there is no file {(base / value).absolute()}", (*loc, key))
            yield from _missing_files(value, base, (*loc, key))


def _rule_files(document: Document, base: Path, complain: Callable[[Problem], None]) -> Iterable[Path]:
    """The files that the patterns name, each once, in order; also of a configuration that has other problems."""
    patterns = document.data.get("rules")
    found: dict[Path, Loc] = {}
    for i, pattern in enumerate(patterns if isinstance(patterns, list) else ()):
        loc = ("rules", i)
        if not isinstance(pattern, str) or any(problem.loc == loc for problem in document.problems):
            continue
        names = sorted(glob.glob(str(base / pattern), recursive=True))  # noqa: PTH207  # Path.glob refuses absolute patterns
        files = [Path(name) for name in names if Path(name).is_file()]
        if not files:
            complain(document.located(Problem(f"no file matches {pattern!r} in {base.absolute()}", loc)))
        found |= dict.fromkeys(files, loc)
    if len(found) > MAX_RULE_FILES:
        complain(document.located(Problem(f"more than {MAX_RULE_FILES} rule files match", ("rules",))))
        return []
    return found


def _load_rule_file(path: Path, problems: list[Problem]) -> list[RuleGroup]:
    try:
        document = parse_yaml(read_file(path), str(path), only_text=True)
    except ConfigError as error:
        problems += error.problems
        return []
    problems += document.problems
    if any(not problem.loc for problem in document.problems):
        return []
    groups, found = load_rules(document.data, file=str(path))
    # a key that nobody knows is shown itself, not its value
    problems += [document.located(p, key=p.message.startswith("unknown key")) for p in found]
    return groups


def _told_apart(groups: list[RuleGroup]) -> list[RuleGroup]:
    """Files may use the same names of groups and alerts; ids of rules, and so of events, are unique all the same."""
    seen: set[str] = set()
    apart = []
    for group in groups:
        rules = []
        for rule in group.rules:
            id_ = rule.id if rule.id not in seen else f"{rule.id}@{Path(group.file).name}"
            while id_ in seen:
                id_ += "'"
            seen.add(id_)
            rules.append(replace(rule, id=id_))
        apart.append(replace(group, rules=tuple(rules)))
    return apart


def _place(problem: Problem) -> tuple[str, int, int]:
    return problem.file, problem.line, problem.column
