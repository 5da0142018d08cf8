"""``include`` while nodes do not give everything: what can be had is there, the rest is marked."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from indexer.store.rows import transaction_rows
from indexer.sync.history.transactions import Includer
from tests.chaos.chain import CHAIN_ID, COINS
from tests.chaos.node import RpcError
from tests.chaos.stage import contract, stage

_numbers = itertools.count()
INCLUDING = contract(
    "coins", "coin", f'address = "{COINS[0]}"', start_block="0", include='["block", "transaction", "receipt"]'
)
COUNTS = """
    SELECT (SELECT count(*) FROM gapless.block_details), (SELECT count(nonce) FROM gapless.transactions),
           (SELECT count(gas_used) FROM gapless.transactions), (SELECT count(*) FROM gapless.missing_details)
"""


@pytest.fixture
def scene(chaos):
    with stage(chaos, f"details/{next(_numbers)}") as one:
        one.chain.mine(150)
        one.chain.finalize(180)
        one.apply(INCLUDING)
        follower = one.follower()
        one.settle(follower)
        follower.close()
        yield one


def run(scene) -> int:
    """Include all that can be had; returns the HTTP requests that it took."""
    client = scene.client()
    Includer(scene.engine, client, CHAIN_ID).run()
    (status,) = client.describe()
    return status.http_requests


def all_of(scene):
    """Blocks, transactions and receipts that events name."""
    tables = scene.query("SELECT tablename FROM pg_tables WHERE schemaname = 'coins'")
    union = " UNION ".join(f"SELECT block_number, tx_hash FROM coins.{name}" for (name,) in tables)
    return scene.query(f"SELECT count(DISTINCT block_number), count(*), count(*) FROM ({union}) e")[0]


@pytest.mark.parametrize("kind", ["null", "error", "broken"])
def test_one_transaction_that_cannot_be_had_holds_up_nothing(scene, kind):
    blocks, transactions, receipts = all_of(scene)
    ((bad,),) = scene.query("SELECT encode(tx_hash, 'hex') FROM coins.transfer ORDER BY block_number OFFSET 3 LIMIT 1")

    def spoiled(facts):
        return {**facts, "nonce": "seven"} if kind == "broken" else None

    def lie(node, call, result):
        if call["method"] == "eth_getTransactionByHash" and call["params"][0] == "0x" + bad:
            if kind == "error":
                raise RpcError(-32000, "transaction index is corrupt")
            return spoiled(result)
        if call["method"] == "eth_getBlockByNumber" and call["params"][1]:
            return {
                **result,
                "transactions": [spoiled(t) if t["hash"] == "0x" + bad else t for t in result["transactions"]],
            }
        return result

    least = run_honestly(scene)
    scene.twist.lie = lie
    requests = run(scene)
    assert scene.query(COUNTS) == [(blocks, transactions - 1, receipts, 1)]
    assert scene.query("SELECT kind, encode(tx_hash, 'hex') FROM gapless.missing_details") == [("transaction", bad)]
    assert scene.query("SELECT reason ~ '127.0.0.1' FROM gapless.missing_details") == [(True,)]
    assert requests <= least + 20, (least, requests)
    # It rests: nothing is asked at all, until it is time to.
    assert run(scene) == 0
    with scene.engine.begin() as connection:
        transaction_rows.retry_now(connection, CHAIN_ID)
    assert 0 < run(scene) <= 12
    assert scene.query("SELECT failures, retry_at > now() + interval '3 hours' FROM gapless.missing_details") == [
        (2, True)
    ]
    scene.twist.lie = None
    with scene.engine.begin() as connection:
        transaction_rows.retry_now(connection, CHAIN_ID)
    run(scene)
    assert scene.query(COUNTS) == [(blocks, transactions, receipts, 0)]


def run_honestly(scene) -> int:
    """The requests that all takes; nothing of it is kept."""
    requests = run(scene)
    with scene.engine.begin() as connection:
        for table in ("block_details", "transactions"):
            connection.exec_driver_sql(f"DELETE FROM gapless.{table}")
        connection.exec_driver_sql("UPDATE gapless.deployments SET included = '{}'")
    return requests


def test_fields_that_are_missing_or_too_large_are_no_failure(scene):
    """Seven kinds of node: what is not said is null, what is large is kept."""

    def lie(node, call, result):
        if call["method"] == "eth_getBlockByNumber" and call["params"][1]:
            odd = {"nonce": None, "gas": hex(2**256 - 1), "type": "0x10000", "value": hex(2**300), "gasPrice": None}
            rest = {name: value for name, value in result.items() if name not in ("miner", "gasUsed")}
            return {**rest, "gasLimit": hex(2**256 - 1), "transactions": [t | odd for t in result["transactions"]]}
        if call["method"] == "eth_getBlockReceipts":
            return [{**r, "status": None, "transactionIndex": None, "effectiveGasPrice": None} for r in result]
        if call["method"] == "eth_getTransactionReceipt":
            return {name: value for name, value in result.items() if name not in ("status", "from", "blockHash")}
        return result

    scene.twist.lie = lie
    run(scene)
    blocks, _, receipts = all_of(scene)
    assert scene.query(COUNTS) == [(blocks, 0, receipts, 0)]
    assert scene.query("SELECT DISTINCT type, gas_limit, nonce, value, status FROM gapless.transactions") == [
        (0x10000, 2**256 - 1, None, None, None)
    ]
    assert scene.query("SELECT DISTINCT miner, gas_used, gas_limit FROM gapless.block_details") == [
        (None, None, 2**256 - 1)
    ]


@pytest.mark.parametrize("how", ["null", "error"])
def test_what_comes_of_batches_that_fail_in_part_is_kept(scene, how):
    """A third of all items fails at random: all is read, for about twice the least requests."""
    random = Random(3)

    def lie(node, call, result):
        if call["method"] not in ("eth_chainId",) and call["params"] != ["latest", False] and random.random() < 0.3:
            if how == "error":
                raise RpcError(-32603, "internal error")
            return None
        return result

    least = run_honestly(scene)
    scene.twist.lie = lie
    requests = run(scene)
    assert scene.query(COUNTS) == [(*all_of(scene), 0)]
    assert requests <= 2 * least + 8, (least, requests)
    client = scene.client()
    numbers = range(180)
    assert sorted(client.headers(numbers)) == list(numbers)
    (status,) = client.describe()
    assert status.http_requests <= 2 * 2 + 6
