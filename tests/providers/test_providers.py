"""Every provider of the table: same rows, and few requests. ``make bench-providers`` takes ten times the history."""

from dataclasses import replace

import pytest

from indexer.chain.rpc.config import ClientSettings
from tests.providers.backfill import backfill
from tests.providers.history import make_history
from tests.providers.node import Fragments
from tests.providers.profiles import PROFILES, Profile

# A tenth of everything: the number of requests stays what it is. Limits of blocks stay, and are met by starting wide.
SMALL = ClientSettings(start_blocks=1_000, target_logs=700, target_bytes=800_000, first_backoff=0.001, read_timeout=10)


@pytest.fixture(scope="module")
def small() -> Fragments:
    return Fragments(make_history(20_000, 5_000, seed=12))


@pytest.mark.promise("N-03")
@pytest.mark.parametrize("profile", [pytest.param(each.smaller(), id=each.name) for each in PROFILES])
def test_same_rows_with_few_requests(profile: Profile, small: Fragments) -> None:
    # One request at a time: then the number does not hang on how threads happen to run.
    settings = replace(SMALL, start_blocks=20_000, target_logs=7_000) if profile.limit == "blocks" else SMALL
    result = backfill(profile, small, settings, in_flight=1)
    assert result.right
    assert result.refused >= 1, "else it was not the provider's limit that was tested"
    assert result.requests >= result.least
    if profile.in_the_table:
        assert result.requests <= result.allowed
    else:
        assert result.requests <= 3 * result.least + 15


def test_many_at_once_bring_the_same_rows(small: Fragments) -> None:
    for profile in PROFILES[::7]:
        assert backfill(profile.smaller(), small, SMALL, in_flight=6).right
