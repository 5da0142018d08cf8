"""A retired source gives way where it is covered, and nowhere else: what displaced it before keeps its rows."""

from __future__ import annotations

import pytest

from indexer.demo.world import manifest_text
from indexer.sync.history.backfill import Selection
from tests.integration.sync.rig import rig

COUNT = "SELECT count(*) FROM coins.transfer WHERE contract_address = %s AND block_number BETWEEN %s AND %s"


@pytest.fixture
def anywhere(shared_history, migrated_url, tmp_path):
    """The transfers of any coin, indexed; then the manifest names two coins, and later a third."""
    text = manifest_text(shared_history.world)
    start = text.index("[contracts.odd_coins]")
    coins = text[:start][: text[:start].index("address =")]
    with rig(coins + 'address = "any"\nevents = ["Transfer"]\n', tmp_path, _url(shared_history), migrated_url) as one:
        one.text = coins
        follower = one.follower()
        one.catch_up(follower)
        follower.close()
        yield one


def _url(history) -> str:
    return history.world.w3.provider.endpoint_uri


def test_a_second_source_over_the_edge_of_what_is_displaced(anywhere, shared_history, tmp_path):
    gold, silver = (shared_history.world.addresses[name] for name in ("gold", "silver"))
    raw = bytes.fromhex(gold[2:])
    truth = anywhere.query(COUNT, raw, 10, 120)
    assert truth[0][0] > 5
    anywhere.apply(f'{anywhere.text}address = ["{gold}"]\nevents = ["Transfer"]\n', tmp_path, _url(shared_history))
    anywhere.backfill(selection=Selection("coins", None, (10, 60))).run()
    assert anywhere.query(COUNT, raw, 10, 120) == truth
    # The range of the second begins inside what the first has displaced, and ends beyond it.
    anywhere.apply(
        f'{anywhere.text}address = ["{gold}", "{silver}"]\nevents = ["Transfer"]\n', tmp_path, _url(shared_history)
    )
    with anywhere.engine.begin() as connection:
        # Gold is not asked for again: only silver's gap is filled, over the edge.
        connection.exec_driver_sql("UPDATE gapless.sources SET end_block = 60 WHERE active AND coverage <> '{}'")
    anywhere.backfill(selection=Selection("coins", None, (30, 90))).run()
    assert anywhere.query(COUNT, raw, 10, 60) == _within(shared_history, gold, 10, 60)


def _within(history, address: str, first: int, last: int) -> list[tuple[int]]:
    topic = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    logs = history.world.w3.eth.get_logs({"fromBlock": first, "toBlock": last, "address": address, "topics": [topic]})
    return [(len(logs),)]
