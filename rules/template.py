"""Text with `{{ … }}` in labels and annotations: a small substituter, no template engine.

Known are `$labels.NAME`, `$value`, `$externalLabels.NAME` and `$externalURL` (`.Labels.NAME` … `.ExternalURL`), alone,
in `printf "%.1f"`, or piped into `humanize`, `humanizePercentage`, `humanizeDuration` or `printf`. Everything else is
refused when the rule is loaded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_ACTION = re.compile(r"\{\{-?\s*(?P<body>.*?)\s*-?\}\}", re.DOTALL)
_LABEL = re.compile(
    r"(?:\$labels|\$?\.Labels|(?P<external>\$externalLabels|\$?\.ExternalLabels))\.(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)"
)
_EXTERNAL_URL = re.compile(r"\$externalURL|\$?\.ExternalURL")
_VALUE = re.compile(r"\$value|\.Value|\$\.Value")
_PIPE = re.compile(r"""\|(?=(?:[^"]*"[^"]*")*[^"]*$)""")
_VERB = re.compile(r"%%|%[0-9]{0,2}(?:\.[0-9]{1,2})?[fegvs]")
_PRINTF = re.compile(
    r'printf\s+"(?P<format>(?:[^"%\\]|%%)*%[0-9]{0,2}(?:\.[0-9]{1,2})?[fegvs](?:[^"%\\]|%%)*)"(?:\s+(?P<of>\S+))?'
)

Operand = Callable[[Mapping[str, str], float], str | float]
Expand = Callable[[Mapping[str, str], float], str]


class TemplateError(ValueError):
    """The text cannot be expanded; `offset` is the place in it, in characters."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class External:
    """What tells a Prometheus from others, in Prometheus. Nothing does that here: empty but in unit tests of rules."""

    labels: Mapping[str, str] = field(default_factory=dict)
    url: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed text; `uses_value` tells whether it depends on `$value`."""

    text: str
    parts: tuple[str | Expand, ...]
    uses_value: bool

    def expand(self, labels: Mapping[str, str], value: float) -> str:
        """A label that the alert does not have expands to nothing."""
        return "".join(part if isinstance(part, str) else part(labels, value) for part in self.parts)


def parse_template(text: str, external: External | None = None) -> Template:
    """Raises TemplateError with the place of what is not known."""
    external = external or External()
    parts: list[str | Expand] = []
    at, uses_value, trims = 0, False, False
    for action in _ACTION.finditer(text):
        before = text[at : action.start()]
        before = before.lstrip() if trims else before
        parts.append(before.rstrip() if action[0].startswith("{{- ") else before)
        expand, of_value = _pipeline(action["body"], action.start(), external)
        parts.append(expand)
        uses_value |= of_value
        at, trims = action.end(), action[0].endswith(" -}}")
    rest = text[at:]
    if "{{" in rest:
        raise TemplateError("{{ has no }}", at + rest.index("{{"))
    parts.append(rest.lstrip() if trims else rest)
    return Template(text, tuple(p for p in parts if p), uses_value)


def _pipeline(body: str, offset: int, external: External) -> tuple[Expand, bool]:
    """What an action expands to, and whether that depends on the value."""
    head, *filters = (part.strip() for part in _PIPE.split(body))
    function, _, argument = head.partition(" ")
    if function in _FILTERS and argument and not filters:  # {{ humanize $value }} is {{ $value | humanize }}
        head, filters = argument.strip(), [function]
    printf = _PRINTF.fullmatch(head)
    name = printf["of"] if printf and printf["of"] and not filters else head
    source, of_value = _operand(name, body, offset, external)
    if printf and name is not head:
        return _formatted(source, printf["format"]), of_value
    if not filters:
        return lambda labels, value: _text(source(labels, value)), of_value
    if len(filters) == 1:
        printf = _PRINTF.fullmatch(filters[0])
        if printf and not printf["of"]:
            return _formatted(source, printf["format"]), of_value
        function = _FILTERS.get(filters[0])
        if function:
            return lambda labels, value: _filtered(function, source(labels, value)), of_value
    raise TemplateError(_unknown(body), offset)


def _operand(text: str, body: str, offset: int, external: External) -> tuple[Operand, bool]:
    """A label, the value, or what is external; and whether it is the value."""
    label = _LABEL.fullmatch(text)
    if label and label["external"]:
        constant = external.labels.get(label["name"], "")
        return lambda _labels, _value: constant, False
    if label:
        name = label["name"]
        return lambda labels, _: labels.get(name, ""), False
    if _EXTERNAL_URL.fullmatch(text):
        return lambda _labels, _value: external.url, False
    if _VALUE.fullmatch(text):
        return lambda _, value: value, True
    raise TemplateError(_unknown(body), offset)


def _unknown(body: str) -> str:
    known = '{{ $labels.NAME }} and {{ $value }}, alone, in {{ printf "%.1f" $value }}, or with humanize, '
    known += "humanizePercentage or humanizeDuration, and (empty) {{ $externalLabels.NAME }} and {{ $externalURL }}"
    return f"{{{{ {body} }}}} is not known here; known are {known}"


def _formatted(source: Operand, format_: str) -> Expand:
    def expand(labels: Mapping[str, str], value: float) -> str:
        return _VERB.sub(lambda verb: "%" if verb[0] == "%%" else _verb(verb[0], source(labels, value)), format_)

    return expand


def _verb(verb: str, operand: str | float) -> str:
    """One verb of printf, as Go formats it."""
    if verb in ("%v", "%s", "%g"):
        return _text(operand)
    try:
        number = float(operand)
    except ValueError:
        return str(operand)
    return verb % number if math.isfinite(number) else format_value(number)


def _text(operand: str | float) -> str:
    return operand if isinstance(operand, str) else format_value(operand)


def _filtered(function: Callable[[float], str], operand: str | float) -> str:
    try:
        return function(float(operand))
    except ValueError:
        return str(operand)


def format_value(value: float) -> str:
    """A float as Go prints it with %v: the shortest exact digits, with an exponent below 1e-4 and from 1e6 on.

    Source: Go strconv.FormatFloat(value, 'g', -1, 64).
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    mantissa, _, power = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    exponent = int(power or 0) + len(whole) - 1 - (len(whole + fraction) - len(digits) if digits else 0)
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0"
    if -4 <= exponent < 6:
        return sign + f"{abs(value):.{max(0, len(digits) - 1 - exponent)}f}"
    return f"{sign}{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e{exponent:+03d}"


def _humanize(value: float) -> str:
    """With an SI prefix and four significant digits, as Prometheus' humanize."""
    if value == 0 or not math.isfinite(value):
        return _four(value)
    prefixes = "kMGTPEZY" if abs(value) >= 1 else "munpfazy"
    factor = 1000.0 if abs(value) >= 1 else 1 / 1000.0
    shown = ""
    for prefix in prefixes:
        if (abs(value) < 1000) if factor > 1 else (abs(value) >= 1):
            break
        value, shown = value / factor, prefix
    return _four(value) + shown


def _humanize_duration(seconds: float) -> str:
    """Like `1d 2h 3m 4s`, as Prometheus' humanizeDuration."""
    if not math.isfinite(seconds):
        return _four(seconds)
    if abs(seconds) < 1:
        return _humanize(seconds) + "s"
    sign, whole = ("-" if seconds < 0 else ""), int(abs(seconds))
    amounts = ((whole // 86_400, "d"), (whole // 3_600 % 24, "h"), (whole // 60 % 60, "m"))
    parts: list[str] = []
    for amount, unit in amounts:
        if amount or parts:
            parts.append(f"{amount}{unit}")
    parts.append(f"{whole % 60}s" if parts else f"{_four(abs(seconds))}s")
    return sign + " ".join(parts)


def _four(value: float) -> str:
    """%.4g as Go prints it."""
    return f"{value:.4g}" if math.isfinite(value) else format_value(value)


_FILTERS: dict[str, Callable[[float], str]] = {
    "humanize": _humanize,
    "humanizePercentage": lambda value: _four(value * 100) + "%",
    "humanizeDuration": _humanize_duration,
}
