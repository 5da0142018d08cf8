"""schemathesis over the paths that need a key, with one: no 5xx, and no answer that the document does not describe."""

from contextlib import suppress

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from indexer.store import database
from indexer.store.access import keys
from tests.integration.api.test_api_fuzz import CHECKS, EXAMPLES

PATHS = ("/v1/keys", "/v1/jobs", "/v1/auth/token")


def test_the_document_is_kept_for_administrators(make_client, world_url, seed, subtests):
    seed.execute("SELECT setval('gapless.api_keys_id_seq', 4711)")  # no key that is guessed and revoked is this one
    engine = database.create_engine(world_url)
    with engine.begin() as connection:
        _, key = keys.create(connection, "operator", scopes=("read", "admin"))
    engine.dispose()
    schema = schemathesis.openapi.from_wsgi("/openapi.json", make_client().http.app)
    headers = {"Accept-Encoding": "identity", "Authorization": f"Bearer {key}"}
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if not operation.path.startswith(PATHS):
            continue
        for mode in GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=EXAMPLES * 3,
                deadline=None,
                derandomize=True,
                database=None,
                phases=(Phase.explicit, Phase.generate),
                suppress_health_check=list(HealthCheck),
            )
            def ask(case):
                nonlocal asked
                response = case.call_and_validate(checks=CHECKS, headers=headers)
                asked += response.status_code < 300

            with subtests.test(operation=operation.label, mode=mode.name), suppress(Unsatisfiable):
                ask()
    assert asked > 5 * EXAMPLES, "it must get past the door"
