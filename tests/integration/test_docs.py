"""The documents' queries run as shown."""

import re

import psycopg
import pytest

from indexer.demo.manifest import manifest_text
from indexer.sync import balances
from tests.conftest import REPOSITORY
from tests.integration.sync.rig import rig

QUERIES = re.findall(r"```sql\n(.*?)```", (REPOSITORY / "docs" / "tables.md").read_text(), flags=re.DOTALL)


@pytest.fixture
def demo_database(shared_history, migrated_url, tmp_path):
    url = shared_history.world.w3.provider.endpoint_uri
    with rig(manifest_text(shared_history.world), tmp_path, url, migrated_url) as one:
        follower = one.follower()
        one.catch_up(follower)
        follower.close()
        balances.catch_up(one.engine, one.chain.chain_id)
        yield migrated_url


def test_queries_of_the_tables_document(demo_database):
    assert len(QUERIES) >= 6
    with psycopg.connect(demo_database) as connection:
        for query in QUERIES:
            cursor = connection.execute(query)
            # The demo's chain has all but tokens and snapshots here, which other jobs read.
            if "gapless.tokens" not in query:
                assert cursor.fetchall(), query
