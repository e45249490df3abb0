"""The laws of the OpenAPI document: whatever is asked by it is answered as it says, and nothing ends in a 500."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
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
DRAWN = settings(max_examples=6, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with stored(tmp_path_factory.mktemp("tocsin")) as backend:
        yield schemathesis.openapi.from_asgi(OPENAPI, make_app(backend), headers=HOST)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_whatever_is_asked_is_answered_as_the_document_says(document: Any, mode: schemathesis.GenerationMode) -> None:
    """What it allows, and what it does not."""
    operations = [found.ok() for found in document.exclude(path=ENDLESS).get_all_operations()]
    assert len(operations) > 30
    for operation in operations:

        @DRAWN
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS, headers=HOST)

        with suppress(Unsatisfiable):  # nothing can be wrong where nothing is asked
            ask()
