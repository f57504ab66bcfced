"""Schemathesis reads the OpenAPI document of a real server, and asks it what the schemas allow and what they do not.

``SCHEMATHESIS_EXAMPLES=200 python -m pytest tests/modes/http/test_schemathesis.py`` asks more, and each time something else.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.modes.http.test_openapi import DEMO, LARGE, MIXED
from tests.serving import MODELS, Served, serving

MORE = os.environ.get("SCHEMATHESIS_EXAMPLES")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
AS_TEXT = ("image/png", "application/x-ndjson", "text/csv", "application/octet-stream")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real server without a key: nothing that is asked can take its models away."""
    models = {"text": MODELS["text"], "mixed": MIXED, "large": LARGE}
    with serving(tmp_path_factory.mktemp("schemathesis"), models=models, paths=[DEMO]) as served:
        yield served


@schemathesis.serializer(*AS_TEXT)
def _as_it_is(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "not allowed"])
def test_what_schemathesis_asks_is_answered_as_documented(mode: GenerationMode, served: Served) -> None:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{served.port}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    assert len(operations) > 60
    statuses: Counter[int] = Counter()
    with requests.Session() as session:
        for operation in operations:
            _ask(operation, mode, session, statuses)
    assert served.process.poll() is None
    assert statuses.total() > 2 * len(operations)
    assert {400} | ({200} if mode is GenerationMode.POSITIVE else set()) <= set(statuses)


def _ask(operation: Any, mode: GenerationMode, session: requests.Session, statuses: Counter[int]) -> None:
    @hypothesis.settings(
        max_examples=int(MORE or 3),
        derandomize=MORE is None,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        response = case.call(session=session, timeout=10, allow_redirects=False)
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    with suppress(hypothesis.errors.Unsatisfiable):  # nothing is forbidden here: there is no such request
        ask()
