"""Two things that are right each by itself, at once: ends of contracts and balances, finality and slow readers."""

from __future__ import annotations

import itertools
import os
import threading
from random import Random

import pytest
from eth_abi import encode

from indexer.chain.client import ChainClient
from indexer.chain.records.errors import ProviderError
from indexer.chain.rpc.config import EndpointConfig
from indexer.manifest.model import Finality
from indexer.store.rows import indexes
from indexer.store.rows.blocks import hold_block
from indexer.sync.audit.run import Request, audit
from tests.chaos import manifests
from tests.chaos.chain import CHAIN_ID, COINS, HUB, NOTE, PEOPLE, Saying, Transaction, topic
from tests.chaos.node import Node, RpcError
from tests.chaos.stage import COIN, FACTORIES, QUICK, contract, stage

_numbers = itertools.count()


@pytest.fixture
def scene(chaos):
    with stage(chaos, f"interplay/{next(_numbers)}") as one:
        yield one


def test_what_was_read_in_a_block_that_is_gone_is_not_kept_once_its_height_is_final(scene):
    scene.apply(COIN)
    scene.finality = Finality(at_least=0)
    follower = scene.follower()
    scene.settle(follower)
    read = scene.chain.head
    scene.chain.reorganise(3, 6)
    scene.tick(follower)
    with scene.engine.begin() as connection:
        assert not hold_block(connection, CHAIN_ID, read.number, read.hash)
    scene.chain.finalize(scene.chain.head.number - 1)
    scene.tick(follower)
    follower.close()
    with scene.engine.begin() as connection:
        assert not hold_block(connection, CHAIN_ID, read.number, read.hash)


def note(text: str):
    data = encode(["string", "bytes", "uint256[]"], [text, b"", []])
    return Transaction(os.urandom(32), (Saying(COINS[0], (NOTE, topic(PEOPLE[0])), data, None, noted=True),))


def index_a_long_text(scene) -> int:
    """Lets a coin log a text that no index takes; returns the number of the block, which is final and indexed."""
    long = "".join(map(chr, Random(1).sample(range(0x4E00, 0x9000), 6000)))
    number = int(scene.chain.append(note(long)).number)
    scene.chain.mine(2)
    scene.chain.finalize(number + 1)
    scene.finality = Finality(at_least=0)
    follower = scene.follower()
    for _ in range(4):
        scene.clock.sleep(60.0)
        follower.tick()
        scene.backfill().run()
    follower.close()
    return number


def test_a_text_that_no_index_takes_is_no_finding(scene, chaos):
    scene.apply(contract("coins", "coin", f'address = "{COINS[0]}"', start_block="0", indexes='{ Note = ["text"] }'))
    number = index_a_long_text(scene)
    ((reason,),) = scene.query(
        f"SELECT reason FROM gapless.undecoded_logs WHERE block_number = {number} AND NOT has_row"
    )
    assert "refused" in reason
    endpoint = EndpointConfig(chaos.server.add("interplay/other", Node(scene.chain)))
    client = ChainClient("sim", CHAIN_ID, [endpoint], settings=QUICK, random=Random(1))
    assert audit(scene.engine, CHAIN_ID, "sim", Request(), other=client).findings == []


def test_an_index_that_cannot_be_built_holds_up_no_other(scene):
    scene.apply(COIN)
    number = index_a_long_text(scene)
    assert scene.query(f"SELECT count(*) FROM coins.note WHERE block_number = {number}") == [(1,)]
    scene.apply(
        contract(
            "coins", "coin", f'address = "{COINS[0]}"', start_block="0",
            indexes='{ Note = ["text"], Transfer = ["value"] }',
        )
    )  # fmt: skip
    now = [0.0]
    builder = indexes.Builder(scene.engine, lambda: now[0])
    assert builder.run(threading.Event()) == 1
    with scene.engine.connect() as connection:
        assert {(one.event, one.column) for one in indexes.amiss(connection)} == {("Note", "text")}
    # Each try reads the whole table: it is tried seldom, and built once the rows allow it.
    scene.query("UPDATE coins.note SET text = '' RETURNING 1")
    assert builder.run(threading.Event()) == 0
    now[0] += indexes.AGAIN
    assert builder.run(threading.Event()) == 1
    with scene.engine.connect() as connection:
        assert indexes.amiss(connection) == []


@pytest.mark.parametrize("method", ["eth_getBlockByNumber", "eth_getBlockReceipts"])
def test_blocks_that_no_node_keeps_any_more_are_not_provable_and_end_no_audit(scene, method):
    scene.apply(COIN)
    follower = scene.follower()
    scene.settle(follower)
    follower.close()

    def lie(node, call, result):
        if call["method"] == method and call["params"][0].startswith("0x") and int(call["params"][0], 16) < 15:
            raise RpcError(4444, "pruned history unavailable")
        return result

    scene.twist.lie = lie
    report = audit(scene.engine, CHAIN_ID, "sim", Request(deep=True), client=scene.client())
    reasons = {reason: count for reason, count in report.deep.unproven.items() if "any more" in reason}
    assert sum(reasons.values()) == 15
    assert report.deep.proven + report.deep.unproven.total() == 31


def test_children_that_a_factory_does_not_announce_by_its_new_filter_are_none(scene):
    scene.apply(COIN, FACTORIES)
    follower = scene.follower()
    scene.settle(follower)
    opened = scene.query("SELECT encode(branch, 'hex') FROM hub.opened ORDER BY block_number, log_index")
    assert len(opened) > 1
    wanted = f'{{ Opened = {{ branch = ["0x{opened[1][0]}"] }} }}'
    hub = contract("hub", "hub", f'address = "{HUB}"', start_block="0", filters=wanted)
    rules = manifests.ALWAYS[manifests.ALWAYS.index("[contracts.branches]") :]
    rules += manifests.KIDS.format(events='["Said", "Paid"]')
    scene.apply(COIN, hub, rules)
    scene.settle(follower)
    children = scene.query("""
        SELECT encode(h.address, 'hex') FROM gapless.children h JOIN gapless.contracts c ON c.id = h.contract_id
        WHERE c.name = 'branches'
    """)
    assert children == [opened[1]]
    assert set(scene.query("SELECT encode(contract_address, 'hex') FROM branches.born")) <= set(children)
    assert audit(scene.engine, CHAIN_ID, "sim", Request()).findings == []
    # And back again: everything is there as before.
    scene.apply(COIN, FACTORIES)
    scene.settle(follower)
    follower.close()
    assert audit(scene.engine, CHAIN_ID, "sim", Request()).findings == []


def test_what_the_tables_tell_is_kept_though_the_node_fails(scene):
    scene.apply(COIN)
    follower = scene.follower()
    scene.settle(follower)
    follower.close()
    scene.query("UPDATE gapless.blocks SET time = time + interval '1 hour' WHERE number < 20 RETURNING 1")

    def lie(node, call, result):
        raise RpcError(-32000, "out of order")

    scene.twist.lie = lie
    with pytest.raises(ProviderError):
        audit(scene.engine, CHAIN_ID, "sim", Request(deep=True), client=scene.client())
    assert {kind for (kind,) in scene.query("SELECT kind FROM gapless.findings")} == {"dangling"}
