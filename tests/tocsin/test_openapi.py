"""The laws of the OpenAPI document: whatever is asked by it is answered as it says, and nothing ends in a 500."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from tests.tocsin.resource_rig import stored
from tocsin.http.app import OPENAPI, make_app

HOST = {"Host": "127.0.0.1"}
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
]
ENDLESS = "/api/v1/tocsin/events"
"""Ends when tocsin does: see test_events."""
DRAWN = settings(
    max_examples=6, deadline=None, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck)
)
WORDS = st.one_of(
    st.text(max_size=20), st.sampled_from(["", "-1", "1e999", "NaN", "0" * 5_000, "\x00", "a=b", "{}", "#/#"])
)
BODIES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["ids", "all", "since"]), inner),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    with stored(tmp_path_factory.mktemp("tocsin")) as backend:
        document = schemathesis.openapi.from_asgi(OPENAPI, make_app(backend), headers=HOST)
        found = [result.ok() for result in document.exclude(path=ENDLESS).get_all_operations()]
        assert len(found) > 30
        yield found


@pytest.mark.slow
def test_what_the_document_allows_is_answered_as_it_says(operations: list[Any]) -> None:
    for operation in operations:

        @DRAWN
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS, headers=HOST)

        ask()


@pytest.mark.slow
def test_what_nobody_should_ask_is_answered_as_the_document_says(operations: list[Any]) -> None:
    for operation in operations:

        @DRAWN
        @given(case=_nonsense(operation))
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS, headers=HOST)

        ask()


@st.composite
def _nonsense(draw: st.DrawFn, operation: Any) -> schemathesis.Case:
    names, within = ([p.name for p in part] for part in (operation.query, operation.path_parameters))
    body = {"body": draw(BODIES), "media_type": "application/json"} if operation.body else {}
    return operation.Case(
        query=draw(st.fixed_dictionaries({}, optional=dict.fromkeys(names, WORDS))),
        path_parameters=draw(st.fixed_dictionaries(dict.fromkeys(within, WORDS.filter(bool)))),
        **body,
    )
