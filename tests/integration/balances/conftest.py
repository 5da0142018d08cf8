from __future__ import annotations

import pytest

from indexer.demo.world import manifest_text
from indexer.sync.tokens import balances
from tests.integration.sync.rig import rig


def text_of(history) -> str:
    return manifest_text(history.world).replace(
        'contracts = ["coins", "portraits", "items"]', 'contracts = ["coins", "odd_coins", "portraits", "items"]'
    )


@pytest.fixture
def history(make_world):
    """A chain of this test's own: busy, and longer than what is not finalized."""
    return make_world(transactions=150, blocks=80)


@pytest.fixture
def indexed(history, migrated_url, tmp_path):
    """That chain, everything of it in a database, and balances at its tip."""
    with rig(text_of(history), tmp_path, history.world.w3.provider.endpoint_uri, migrated_url) as one:
        one.following = one.follower()
        one.catch_up(one.following)
        balances.catch_up(one.engine, one.chain.chain_id)
        yield one
        one.following.close()
