"""Laws of the texts in labels and annotations: what `{{ … }}` gives, as Go's templates in Prometheus give it."""

from __future__ import annotations

import math
import re
from decimal import Decimal

import hypothesis.strategies as st
import pytest
from hypothesis import given

from rules.template import External, TemplateError, format_value, parse_template

NAN, INF = math.nan, math.inf
LABELS = {"device": "d1", "site": "Zürich", "floor": "-2.5"}


def expanded(text: str, value: float = NAN) -> str:
    return parse_template(text).expand(LABELS, value)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", ""), ("plain } { text", "plain } { text"), ("{{ $labels.device }}", "d1"), ("{{$labels.device}}", "d1"),
        ("{{ .Labels.site }}!", "Zürich!"), ("{{ $.Labels.site }}", "Zürich"), ("{{ $labels.nothing }}", ""),
        ("{{ $value }}", "21.5"), ("{{ .Value }}", "21.5"), ("{{ $.Value }}", "21.5"), ("{{\n  $value\n}}", "21.5"),
        ("{{ $labels.device }}: {{ $value }} °C", "d1: 21.5 °C"), ("{{$value}}{{$value}}", "21.521.5"),
        ('{{ printf "%.2f" $value }}', "21.50"), ('{{ $value | printf "%.2f" }}', "21.50"),
        ('{{ printf "%.0f %%" $value }}', "22 %"), ('{{ printf "about %.1f°" $value }}', "about 21.5°"),
        ('{{ printf "%v" $value }}', "21.5"), ('{{ printf "%.3e" $value }}', "2.150e+01"),
        ('{{ printf "%s!" $labels.device }}', "d1!"), ('{{ printf "%v%%" $labels.site }}', "Zürich%"),
        ('{{ printf "%.1f" $labels.floor }}', "-2.5"), ("{{ $labels.floor | humanize }}", "-2.5"),
        ("{{ $labels.device | humanize }}", "d1"), ("{{ $value|humanize }}", "21.5"),
    ],
)  # fmt: skip
def test_texts_expand(text: str, result: str):
    assert expanded(text, 21.5) == result


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "-0"), (1.0, "1"), (100.0, "100"), (-21.5, "-21.5"), (0.1, "0.1"),
        (1 / 3, "0.3333333333333333"), (123456.0, "123456"), (999999.9, "999999.9"), (1e6, "1e+06"),
        (1234567.0, "1.234567e+06"), (1e21, "1e+21"),
        (0.0001, "0.0001"), (0.00012, "0.00012"), (0.00001234, "1.234e-05"), (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"), (NAN, "NaN"), (INF, "+Inf"), (-INF, "-Inf"),
    ],
)  # fmt: skip
def test_a_value_is_written_as_go_writes_it(value: float, text: str):
    assert expanded("{{ $value }}", value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_value_is_exact_and_as_short_as_can_be(value: float):
    text, exact = format_value(value), Decimal(repr(value))

    assert Decimal(text) == exact
    assert text.startswith("-") == (math.copysign(1, value) < 0)
    assert ("e" in text) == (value != 0 and not -4 <= exact.adjusted() < 6)
    assert not re.search(r"\.[0-9]*0(e|$)|\.(e|$)|^-?0[0-9]", text), "no zeros that say nothing"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1"), (1234567.0, "1.235M"), (0.12, "120m"), (999.0, "999"), (1000.0, "1k"),
        (-1500.0, "-1.5k"), (1e24, "1Y"), (1e-6, "1u"), (-0.000_025, "-25u"), (1e9, "1G"), (123456.0, "123.5k"),
        (NAN, "NaN"),
        (INF, "+Inf"),
    ],
)  # fmt: skip
def test_humanize_takes_si_prefixes(value: float, text: str):
    assert expanded("{{ $value | humanize }}", value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0%"), (0.1234567, "12.35%"), (1.23456, "123.5%"), (-0.22222, "-22.22%"), (1.0, "100%"), (NAN, "NaN%")],
)
def test_humanize_percentage(value: float, text: str):
    assert expanded("{{ $value | humanizePercentage }}", value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0s"), (1.0, "1s"), (60.0, "1m 0s"), (3600.0, "1h 0m 0s"), (86_400.0, "1d 0h 0m 0s"),
        (90_000.0, "1d 1h 0m 0s"), (-(86_400 * 2 + 3_600 * 3 + 60 * 4 + 5.0), "-2d 3h 4m 5s"), (899.99, "14m 59s"),
        (0.1, "100ms"), (0.0001, "100us"), (0.12345, "123.5ms"), (60.1, "1m 0s"), (1.2345, "1.234s"),
        (12.345, "12.35s"), (-0.5, "-500ms"), (-1.5, "-1.5s"), (NAN, "NaN"), (-INF, "-Inf"),
    ],
)  # fmt: skip
def test_humanize_duration(value: float, text: str):
    assert expanded("{{ $value | humanizeDuration }}", value) == text


@pytest.mark.parametrize(
    ("text", "uses_value"),
    [
        ("{{ $labels.device }}", False), ("$value", False), ("{{ $value }}", True), ("x {{ .Value | humanize }}", True),
        ('{{ printf "%.1f" $value }}', True), ("{{ $.Value }}", True), ("{{ $labels.value }}", False), ("", False),
    ],
)  # fmt: skip
def test_a_text_knows_whether_it_depends_on_the_value(text: str, *, uses_value: bool):
    assert parse_template(text).uses_value is uses_value


@pytest.mark.parametrize(
    "text",
    [
        "¦{{ if gt $value 3 }}high{{ end }}", "{{ $value }} ¦{{ $value | humanize1024 }}", "a ¦{{ $value", "}} ¦{{",
        "¦{{ }}", '¦{{ printf "%d" $value }}', '¦{{ printf "%.1f" }}', '¦{{ "text" }}', "¦{{ $labels }}",
        "¦{{ $values }}", '¦{{ printf "%.1f and %.1f" $value $value }}', '¦{{ query "up" }}',
        "é ☃\n¦{{ $externalLabels }}", "¦{{ . }}", "¦{{ $externalURL.host }}", "¦{{ $externalURLs }}",
        "¦{{ ExternalURL }}", "¦{{ $ExternalURL }}", "¦{{ .externalURL }}",
        "¦{{ $value | humanize | humanize }}", '¦{{ printf "%.1f" $value | humanize }}',
        "¦{{ $labels.device | toUpper }}", '¦{{ printf "%s" "{{" }}', "¦{{ $labels.a.b }}", "¦{{ $labels.1 }}",
        '¦{{ printf "%.100f" $value }}',
        '¦{{ printf "%*f" $value }}', "{{ $value }}¦{{ $value",
    ],
)  # fmt: skip
def test_everything_else_is_refused_at_its_place(text: str):
    place = text.index("¦")

    with pytest.raises(TemplateError) as caught:
        parse_template(text.replace("¦", ""))

    assert caught.value.offset == place


@given(
    st.lists(
        st.sampled_from(["{{", "}}", " ", "$value", "$labels.device", "|", "humanize", 'printf "%.1f"', "-", "x", "%"]),
        max_size=10,
    ).map("".join)
)
def test_any_text_is_expanded_or_refused(text: str):
    """What it was refused for is in the text; what it expands to has nothing left to expand."""
    place, result = 0, ""
    try:
        result = expanded(text, 1.5)
    except TemplateError as error:
        place = error.offset

    assert text.startswith("{{", place) or place == 0
    assert "{{" not in result


@pytest.mark.parametrize(
    ("text", "value", "result"),
    [
        ('{{ printf "%g" $value }}', 123.456789, "123.456789"),  # %g is as short as exact, not six digits
        ('{{ printf "%.1f" $value }}', NAN, "NaN"),
        ('{{ printf "%.1f" $value }}', INF, "+Inf"),
        ("{{ $value | humanizePercentage }}", 123.45, "1.234e+04%"),
        ("{{ $value | humanize }}", 1e28, "1e+04Y"),
        ("a {{- $value -}} b", 5.0, "a5b"),
        ('{{ printf "%.1f | %%" $value }}', 5.0, "5.0 | %"),
    ],
)
def test_corners_are_as_upstream(text: str, value: float, result: str):
    assert expanded(text, value) == result


EXTERNAL = External({"region": "eu", "n": "1500"}, "https://p/")


@pytest.mark.parametrize(
    ("text", "set_", "unset"),
    [
        ("{{ $externalLabels.region }}!", "eu!", "!"), ("{{ .ExternalLabels.region }}", "eu", ""),
        ("{{ $.ExternalLabels.region }}", "eu", ""), ("{{ $externalLabels.device }}", "", ""),
        ("{{ $externalURL }}graph", "https://p/graph", "graph"), ("{{ .ExternalURL }}", "https://p/", ""),
        ("{{ $.ExternalURL }}", "https://p/", ""), ("{{ $externalLabels.n | humanize }}", "1.5k", ""),
        ('{{ printf "%s" $externalURL }}', "https://p/", ""), ("{{ $labels.region }}", "", ""),
    ],
)  # fmt: skip
def test_what_is_external_is_empty_unless_it_is_given(text: str, set_: str, unset: str):
    assert parse_template(text, EXTERNAL).expand(LABELS, NAN) == set_
    assert parse_template(text).expand(LABELS, NAN) == unset
    assert not parse_template(text).uses_value


@pytest.mark.parametrize("text", ["{{ $labels.Value }}", "{{ $labels.ValueSet }}"])
def test_a_label_named_value_is_not_the_value(text: str):
    assert not parse_template(text).uses_value
