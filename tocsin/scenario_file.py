"""Scenario files: YAML to a simulators.Scenario, with all problems at their places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simulators.scenario import Scenario
from telemetry import ConfigError, Problem, format_duration
from tocsin.config_problems import problems_of
from tocsin.yaml_source import parse_yaml


def load_scenario(file: Path, *, duration: int | None = None, seed: int | None = None) -> Scenario:
    """The scenario of a YAML file, with another duration (ns) or seed if they are given.

    Raises ConfigError with every problem and its place.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigError([Problem(f"cannot be read: {error.strerror}", file=str(file))]) from error
    document = parse_yaml(text, str(file))
    changes: dict[str, Any] = {}
    if duration is not None:
        changes["duration"] = format_duration(duration)
    if seed is not None:
        changes["seed"] = seed
    problems = document.problems
    try:
        scenario = Scenario.model_validate(document.data | changes)
    except ValidationError as error:
        if all(problem.loc for problem in problems):
            problems = problems + problems_of(error, document, Scenario)
        raise ConfigError(problems) from error
    if problems:
        raise ConfigError(problems)
    return scenario
