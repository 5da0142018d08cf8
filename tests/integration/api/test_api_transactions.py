"""A transaction by its hash: on every path, and with all that is indexed of it."""

import pytest

from tests.integration.api.seed import hex_of, tx_hash
from tests.integration.api.test_api_included import WHOLE, keep
from tests.integration.api.world import ALICE, BOB, BRIDGE, GOLD, PAIR_A, TIP, USDC

HASH = tx_hash(1299, 3)
PATH = f"/v1/transactions/{hex_of(HASH)}"


@pytest.fixture
def busy(own, seed):
    """One transaction in three tables of one chain, with a log that two of them have."""
    approval = {"block": 1299, "log": 5, "address": GOLD, "owner": ALICE, "spender": BOB, "value": 9}
    seed.rows("coins", "Approval", [approval])
    seed.rows("gold_alone", "Approval", [approval])
    seed.rows("pair", "Sync", [{"block": 1299, "log": 6, "address": PAIR_A, "reserve0": 1, "reserve1": 2}])
    for table in ("coins.approval", "gold_alone.approval", "pair.sync"):
        seed.execute(f"UPDATE {table} SET tx_hash = %s WHERE block_number = 1299", (HASH,))
    return own


def names(one) -> list[tuple[str, str, str]]:
    return [(row["id"], row["contract"], row["event"]) for row in one["events"]]


EXPECTED = [("1299-3", "usdc", "Transfer"), ("1299-5", "coins", "Approval"), ("1299-6", "pair", "Sync")]


def test_every_event_of_it_in_order(busy):
    (one,) = busy.get(PATH)["data"]
    assert names(one) == EXPECTED
    assert one["events"][1]["contracts"] == ["coins", "gold_alone"]
    assert (one["chain_id"], one["chain"], one["tx_hash"]) == (1, "ethereum", hex_of(HASH))
    assert (one["block_number"], one["block_time"]) == (1299, one["events"][0]["block_time"])
    assert one["transaction"] is None
    assert one["meta"]["complete"] is True
    same = busy.get(f"/v1/events?chain=1&order=asc&tx_hash={hex_of(HASH)}")["data"]
    assert one["events"] == same
    assert busy.get(f"{PATH}?chain=ethereum")["data"][0]["events"] == same
    busy.refused(f"{PATH}?chain=base", 404, "NOT_FOUND")
    busy.refused(f"{PATH}?chain=nowhere", 404, "CHAIN_NOT_FOUND")
    busy.refused(f"/v1/transactions/0x{'00' * 32}", 404, "NOT_FOUND")
    for wrong in ("0x12", "latest", hex_of(HASH)[2:], f"{hex_of(HASH)}00"):
        busy.refused(f"/v1/transactions/{wrong}", 400, "INVALID_PARAMETER")


def test_with_the_transaction_where_it_is_kept(busy, seed):
    keep(seed, 1299, 3, **WHOLE)
    (one,) = busy.get(PATH)["data"]
    assert one["transaction"]["from"] == hex_of(ALICE)
    assert one["transaction"]["complete"] is True
    assert names(one) == EXPECTED


def test_the_same_hash_on_two_chains(busy, seed):
    row = {"block": 1200, "log": 1, "address": BRIDGE, "from": BOB, "to": ALICE, "value": 3}
    seed.rows("bridge", "Transfer", [row], chain_id=8453)
    seed.execute("UPDATE bridge.transfer SET tx_hash = %s WHERE block_number = 1200", (HASH,))
    data = busy.get(PATH)["data"]
    assert [(one["chain"], len(one["events"])) for one in data] == [("ethereum", 3), ("base", 1)]
    assert [one["chain"] for one in busy.get(f"{PATH}?chain=8453")["data"]] == ["base"]


def test_more_events_than_a_page_has(busy, seed):
    rows = [
        {"block": 1299, "log": log, "address": GOLD, "from": ALICE, "to": BOB, "value": log} for log in range(10, 1600)
    ]
    seed.rows("coins", "Transfer", rows)
    seed.execute("UPDATE coins.transfer SET tx_hash = %s WHERE block_number = 1299 AND log_index >= 10", (HASH,))
    (one,) = busy.get(PATH)["data"]
    assert [row["log_index"] for row in one["events"]] == [3, 5, 6, *range(10, 1600)]


def test_tables_without_an_index_on_hashes_are_read_where_others_know_the_block(busy, seed):
    seed.execute("DROP INDEX pair.sync_chain_id_tx_hash_block_number_log_index_idx")
    seed.execute("UPDATE gapless.catalog SET version = version + 1")
    (one,) = busy.get(PATH)["data"]
    assert names(one) == EXPECTED
    (one,) = busy.get(PATH)["data"]
    assert names(one) == EXPECTED


def test_it_changes_with_what_is_indexed(busy, seed):
    first = busy.ask(PATH)
    assert busy.ask(PATH, if_none_match=first.headers["etag"]).status_code in (200, 304)
    seed.reorg(1290, TIP, branch=1)
    busy.refused(PATH, 404, "NOT_FOUND")
    final = busy.get(f"/v1/transactions/{hex_of(tx_hash(1100, 3))}")["data"][0]
    assert final["events"][0]["finality"] == "finalized"


@pytest.mark.parametrize("path", [
    "/v1/contracts/usdc/events/Transfer?x", "/v1/contracts/usdc/events/Transfer/daily?x", "/v1/events?chain=1",
    f"/v1/tokens/{hex_of(USDC)}/transfers?chain=1", f"/v1/addresses/{hex_of(ALICE)}/transfers?chain=1",
])  # fmt: skip
def test_a_filter_on_the_hash_needs_no_window(make_client, path):
    client = make_client(api_unindexed_window=1)
    path = path.removesuffix("x")
    rows = client.get(f"{path}{'&' if '=' in path else ''}tx_hash={hex_of(tx_hash(1290, 3))}")["data"]
    assert rows
    if "daily" not in path:
        assert {row["tx_hash"] for row in rows} <= {hex_of(tx_hash(1290, 3))}
