"""The documents' queries run as shown."""

import re

import psycopg
import pytest

from indexer.demo.manifest import manifest_text
from indexer.sync import balances
from indexer.sync.include import Includer
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
        Includer(one.engine, one.client, one.chain.chain_id).run()
        yield migrated_url


def test_queries_of_the_tables_document(demo_database):
    assert len(QUERIES) >= 6
    with psycopg.connect(demo_database) as connection:
        for query in QUERIES:
            cursor = connection.execute(query)
            # The demo's chain has all but tokens and snapshots here, which other jobs read.
            if "gapless.tokens" not in query:
                rows = cursor.fetchall()
                assert rows, query
                # A column that is always null shows a reader nothing.
                if "gapless.transactions" in query:
                    assert all(None not in row for row in rows), query
