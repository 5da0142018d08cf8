"""schemathesis over the whole document: no 5xx, and no answer that the document does not describe."""

import os
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.further import examples
from tests.integration.api.expanded import expanded

EXAMPLES = int(os.environ.get("API_FUZZ_EXAMPLES", examples(3)))


def nonsense_is_refused(ctx, response, case):
    """As schemathesis' own check, which does not know that a URL may be too long."""
    return None if response.status_code == 414 else negative_data_rejection(ctx, response, case)


CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    nonsense_is_refused,
)


@pytest.mark.promise("A-07")
def test_the_document_is_kept(api, api_context, subtests):
    whole = expanded(api.get("/openapi.json"), api_context.catalog.current())
    schema = schemathesis.openapi.from_dict(whole)
    schema.app = api.http.app
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.endswith("/stream"):
            continue  # without the server's loop they are 503; test_api_streams.py tries what they refuse
        for mode in GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                database=None,
                phases=(Phase.explicit, Phase.generate),
                suppress_health_check=list(HealthCheck),
            )
            def ask(case):
                case.call_and_validate(checks=CHECKS, headers={"Accept-Encoding": "identity"})

            # Unsatisfiable: a path without parameters has none to get wrong.
            with subtests.test(operation=operation.label, mode=mode.name), suppress(Unsatisfiable):
                ask()
