"""One bad item among a thousand: all the others come, with few more requests than without it."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from eth_abi import encode

from indexer.manifest import load_manifest
from indexer.store.cache import Cache
from indexer.store.rows import transaction_rows
from indexer.sync.history.transactions import Includer
from indexer.sync.snapshots.series import Snapshots
from indexer.sync.tokens import metadata_job
from tests.chaos.chain import CHAIN_ID, COINS, PEOPLE, TRANSFER, Saying, Transaction, topic
from tests.chaos.node import Node, RpcError
from tests.chaos.stage import Stage, contract, stage

_numbers = itertools.count()
MANY = 1_000
GAVE_UP = RpcError(-32000, "execution aborted (timeout = 5s)")


@pytest.fixture
def scene(chaos):
    with stage(chaos, f"thousand/{next(_numbers)}") as one:
        yield one


# -- transactions


def transfers(block: int) -> list[Transaction]:
    """Twenty transactions, each with one transfer."""
    who = bytes.fromhex(PEOPLE[0][2:])
    row = (who, who, 7)
    saying = Saying(COINS[0], (TRANSFER, topic(PEOPLE[0]), topic(PEOPLE[0])), encode(["uint256"], [7]), row)
    return [Transaction(block.to_bytes(16) + index.to_bytes(16), (saying,)) for index in range(20)]


def include(scene: Stage) -> int:
    """Include all that can be had; returns the HTTP requests that it took."""
    client = scene.client()
    Includer(scene.engine, client, CHAIN_ID).run()
    (status,) = client.describe()
    return status.http_requests


@pytest.mark.parametrize("kind", ["transaction", "receipt"])
def test_one_transaction_in_a_thousand(scene, kind):
    for number in range(MANY // 20):
        scene.chain.append(*transfers(number))
    scene.chain.mine(1)
    scene.chain.finalize(scene.chain.head.number - 1)
    scene.apply(contract("coins", "coin", f'address = "{COINS[0]}"', start_block="41", include=f'["{kind}"]'))
    follower = scene.follower()
    scene.settle(follower)
    follower.close()
    least = include(scene)
    column = "nonce" if kind == "transaction" else "gas_used"
    count = f"SELECT count({column}) FROM gapless.transactions"
    ((whole,),) = scene.query(count)
    assert whole >= MANY
    with scene.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM gapless.transactions")
        connection.exec_driver_sql("UPDATE gapless.deployments SET included = '{}'")
    bad = "0x" + transfers(25)[7].hash.hex()
    name = "hash" if kind == "transaction" else "transactionHash"

    def lie(_node: Node, call: dict[str, Any], result: Any) -> Any:
        if call["method"] in ("eth_getTransactionByHash", "eth_getTransactionReceipt") and call["params"][0] == bad:
            return None
        if call["method"] == "eth_getBlockReceipts":
            return [one for one in result if one[name] != bad]
        if call["method"] == "eth_getBlockByNumber" and call["params"][1]:
            return {**result, "transactions": [one for one in result["transactions"] if one[name] != bad]}
        return result

    scene.twist.lie = lie
    requests = include(scene)
    assert scene.query(count) == [(whole - 1,)]
    marked = scene.query("SELECT kind, '0x' || encode(tx_hash, 'hex') FROM gapless.missing_details")
    assert marked == [(kind, bad)]
    assert requests <= least + 20, (least, requests)
    assert include(scene) == 0
    scene.twist.lie = None
    with scene.engine.begin() as connection:
        transaction_rows.retry_now(connection, CHAIN_ID)
    assert include(scene) <= 4
    assert scene.query(count) == [(whole,)]


# -- calls

TOKENS = [f"0x{0x70000 + number:040x}" for number in range(MANY)]
BAD = TOKENS[617]


def answering(scene: Stage, bad: str | None, selector: str) -> None:
    """A thousand tokens; of one of them no node runs one call."""

    def said(_block: Any, to: str, data: bytes) -> bytes | None:
        if to not in TOKENS:
            return None
        if to == bad and data[:4].hex() == selector:
            raise GAVE_UP
        match data[:4].hex():
            case "06fdde03" | "95d89b41":
                return encode(["string"], [f"T{to[-4:]}"])
            case "313ce567":
                return (6).to_bytes(32)
            case "18160ddd":
                return int(to, 16).to_bytes(32)
        return None

    scene.node._said = said  # type: ignore[method-assign]


def declare(scene: Stage, *more: str) -> None:
    listed = ", ".join(f'"{token}"' for token in TOKENS)
    scene.apply(contract("coins", "coin", f"address = [{listed}]", start_block="0"), *more)
    follower = scene.follower()
    scene.tick(follower)
    follower.close()


def calls_of(scene: Stage, work: Any) -> int:
    before = scene.node.counts["eth_call"]
    work()
    return scene.node.counts["eth_call"] - before


def read_tokens(scene: Stage) -> None:
    client = scene.client()
    while metadata_job.refresh(scene.engine, client, CHAIN_ID, frozenset({"coins"}), Cache(None)):
        pass


@pytest.mark.parametrize(("has_multicall3", "more"), [(True, 40), (False, 20)])
def test_one_token_in_a_thousand(scene, has_multicall3, more):
    scene.node.has_multicall3 = has_multicall3
    answering(scene, None, "")
    declare(scene)
    least = calls_of(scene, lambda: read_tokens(scene))
    assert scene.query("SELECT count(*) FROM gapless.tokens WHERE decimals = 6") == [(MANY,)]
    scene.query("WITH gone AS (DELETE FROM gapless.tokens RETURNING 1) SELECT count(*) FROM gone")
    answering(scene, BAD, "313ce567")
    asked = calls_of(scene, lambda: read_tokens(scene))
    assert scene.query("SELECT count(*), count(symbol), count(decimals) FROM gapless.tokens") == [
        (MANY, MANY, MANY - 1)
    ]
    assert asked <= least + more, (least, asked)
    assert calls_of(scene, lambda: read_tokens(scene)) == 0, "it is asked again in an hour"


@pytest.mark.parametrize(("has_multicall3", "more"), [(True, 40), (False, 20)])
def test_one_call_of_a_snapshot_in_a_thousand(scene, has_multicall3, more):
    scene.node.has_multicall3 = has_multicall3
    answering(scene, None, "")
    series = '[snapshots.supply]\ncontract = "coins"\ncalls = ["totalSupply()"]\nevery = "20 blocks"\nstart_block = 20'
    declare(scene, series)
    manifest = load_manifest(scene.folder / "indexer.toml", {"NODE": scene.url})

    def take() -> None:
        client = scene.client()
        client.head()
        one = Snapshots(scene.engine, client, CHAIN_ID, manifest.snapshots["supply"])
        while one.take_due():
            pass

    least = calls_of(scene, take)
    points = "SELECT count(*), count(total_supply) FROM coins.supply"
    ((rows, _),) = scene.query(points)
    assert scene.query(points) == [(rows, rows)]
    assert rows >= MANY
    for table in ("coins.supply", "gapless.series_points"):
        scene.query(f"WITH gone AS (DELETE FROM {table} RETURNING 1) SELECT count(*) FROM gone")
    answering(scene, BAD, "18160ddd")
    asked = calls_of(scene, take)
    taken = rows // MANY
    assert scene.query(points) == [(rows, rows - taken)]
    assert asked <= least + more * taken, (least, asked)
