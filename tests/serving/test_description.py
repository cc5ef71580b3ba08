"""The API's description is true: whatever it allows or forbids is answered as it says, and never by a failure."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance

from .conftest import Running


@pytest.fixture(scope="module")
def description(running: Running) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{running.url}/openapi.json")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_the_description_is_true(description: BaseSchema, mode: GenerationMode) -> None:
    """A filter's grammar and a model's context are no matter of JSON Schema, so what it allows may still be refused."""
    tried = 0
    for found in description.get_all_operations():
        operation = found.ok()
        if mode == GenerationMode.NEGATIVE and not operation.body:
            continue

        @settings(
            max_examples=12, derandomize=True, deadline=None, database=None, phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def every(case: schemathesis.Case) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        every()
    assert tried > 50
