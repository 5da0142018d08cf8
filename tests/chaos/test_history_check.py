"""A node that leaves logs out of history without a word, or makes some up: blooms find it out (``check_history``)."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from random import Random

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.logs import history_check
from indexer.chain.rpc.config import EndpointConfig
from indexer.cli.status import compared
from indexer.errors import GaplessError
from indexer.store.status import load_overview
from indexer.sync.history.backfill import Backfill
from tests.chaos.chain import CHAIN_ID, COINS
from tests.chaos.node import Node
from tests.chaos.stage import COIN, FACTORIES, Twist, stage
from tests.chaos.truth import WrongError

_numbers = itertools.count()


@pytest.fixture
def scene(chaos):
    with stage(chaos, f"check/{next(_numbers)}") as one:
        one.settings = dataclasses.replace(one.settings, check_history="bloom")
        yield one


def following(scene, *contracts):
    """A follower that has come to the head, while history is still empty."""
    scene.apply(*(contracts or (COIN,)))
    follower = scene.follower()
    scene.tick(follower)
    return follower


def bearing(scene, addresses=(COINS[0],)):
    """A final block whose only wanted log no other of its logs stands for."""
    return next(
        block.number
        for block in scene.chain.canonical
        if 3 < block.number < 30 and len([log for log in block.logs_json if log["address"] in addresses]) == 1
    )


def without(number, *, by_hash=False):
    """All logs of a block are missing from answers about ranges, and where so told about the block's hash."""

    def lie(node, call, result):
        asked = call["params"][0] if call["params"] else None
        if call["method"] != "eth_getLogs" or not ("fromBlock" in asked or by_hash):
            return result
        return [log for log in result if int(log["blockNumber"], 16) != number]

    return lie


def client(scene, *more):
    """The node that lies is asked first; hosts tell the two apart."""
    endpoints = [EndpointConfig(scene.url)]
    endpoints += [EndpointConfig(url.replace("127.0.0.1", "localhost"), priority=1) for url in more]
    return ChainClient("sim", CHAIN_ID, endpoints, settings=scene.settings, clock=scene.clock, sleep=scene.clock.sleep,
                       random=Random(1), spawn=lambda job: job())  # fmt: skip


def honest(scene, chaos):
    return chaos.server.add(f"check/{next(_numbers)}", Node(scene.chain, liar=Twist()))


def fill(scene, nodes):
    Backfill(scene.engine, nodes, CHAIN_ID).run()


@pytest.mark.promise("R-04")
def test_another_endpoint_gives_what_one_left_out(scene, chaos, caplog):
    follower = following(scene)
    number = bearing(scene)
    scene.twist.lie = without(number, by_hash=True)
    nodes = client(scene, honest(scene, chaos))
    with caplog.at_level(logging.WARNING):
        fill(scene, nodes)
    assert scene.look().rows
    scene.twist.lie = None
    scene.settle(follower)
    (told,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert "127.0.0.1" in told
    assert f"the first is {number}" in told
    assert [endpoint.host for endpoint in nodes.pool.endpoints if endpoint.history.holds(scene.clock())] == [
        nodes.pool.endpoints[0].host
    ]
    follower.close()


def test_without_a_check_it_is_missing_and_covered(scene):
    """What the check is for; only audits find it."""
    scene.settings = dataclasses.replace(scene.settings, check_history="none")
    follower = following(scene)
    scene.twist.lie = without(bearing(scene))
    fill(scene, client(scene))
    with pytest.raises(WrongError):
        scene.look()
    follower.close()


@pytest.mark.parametrize("by_hash", [False, True])
def test_one_endpoint_is_asked_by_hash_and_for_receipts(scene, caplog, by_hash):
    follower = following(scene)
    scene.twist.lie = without(bearing(scene), by_hash=by_hash)
    fill(scene, client(scene))
    scene.twist.lie = None
    scene.settle(follower)
    assert "left out" in caplog.text
    follower.close()


@pytest.mark.parametrize("step", [1, 1_000])
def test_sampled_history_compares_the_blocks_of_the_sample(scene, caplog, monkeypatch, step):
    monkeypatch.setattr(history_check, "_SAMPLED_BLOCKS", step)
    scene.settings = dataclasses.replace(scene.settings, check_history="sample")
    follower = following(scene)
    if step == 1:
        scene.twist.lie = without(bearing(scene))
    before = scene.node.counts["eth_getBlockByNumber"]
    fill(scene, client(scene))
    if step > 1:
        assert scene.node.counts["eth_getBlockByNumber"] - before < 25, "history is not compared block by block"
    scene.twist.lie = None
    scene.settle(follower)
    assert ("left out" in caplog.text) == (step == 1)
    follower.close()


@pytest.mark.parametrize("batch_size", [1, 100])
def test_children_of_factories_are_compared(scene, caplog, batch_size):
    scene.settings = dataclasses.replace(scene.settings, batch_size=batch_size)
    follower = following(scene, COIN, FACTORIES)
    children = {address for block in scene.chain.canonical for address in addresses_of_children(block)}
    scene.twist.lie = without(bearing(scene, children), by_hash=False)
    nodes = client(scene)
    for _ in range(8):
        fill(scene, nodes)
        scene.look()
    scene.twist.lie = None
    scene.settle(follower)
    assert "left out" in caplog.text
    follower.close()


def addresses_of_children(block):
    return {child for born in block._children().values() for child in born}


def test_numbers_without_a_block_are_passed_over(chaos, caplog):
    with stage(chaos, f"check/{next(_numbers)}", null_rounds=0.3) as scene:
        scene.settings = dataclasses.replace(scene.settings, check_history="bloom")
        follower = following(scene)
        scene.twist.lie = without(bearing(scene))
        fill(scene, client(scene))
        scene.twist.lie = None
        scene.settle(follower)
        assert "left out" in caplog.text
        assert "not decided" not in caplog.text
        follower.close()


@pytest.mark.parametrize("bloom", ["0x" + "00" * 256, "0x", None])
def test_a_chain_without_blooms_is_read_and_the_log_says_that_nothing_was_compared(scene, caplog, bloom):
    follower = following(scene)

    def lie(node, call, result):
        if call["method"] == "eth_getBlockByNumber" and result is not None:
            return {**result, "logsBloom": bloom}
        return result

    scene.twist.lie = lie
    fill(scene, client(scene))
    assert "whose headers hold no bloom" in caplog.text
    assert "left out" not in caplog.text
    scene.settle(follower)
    with scene.engine.begin() as connection:
        (chain,) = load_overview(connection).chains
    assert chain.history_undecided > 0
    assert compared(chain).startswith("check_history: 100.00 % of")
    follower.close()


def test_blooms_that_lack_the_own_logs_of_their_block_prove_nothing(scene, caplog):
    follower = following(scene)

    def lie(node, call, result):
        if call["method"] == "eth_getBlockByNumber" and result is not None:
            return {**result, "logsBloom": "0x" + "00" * 255 + "01"}
        return result

    scene.twist.lie = lie
    fill(scene, client(scene))
    assert "does not hold the block's own logs" in caplog.text
    scene.settle(follower)
    follower.close()


@pytest.mark.parametrize("others", [0, 1])
def test_logs_that_are_made_up_are_not_believed(scene, chaos, caplog, others):
    """A log of a coin in a block that has none of it: another endpoint gives the range; without one it is not read."""
    follower = following(scene)
    silent = next(b for b in scene.chain.canonical if 3 < b.number < 30 and all(
        log["address"] != COINS[0] for log in b.logs_json) and any(b.logs_json))  # fmt: skip
    model = next(log for b in scene.chain.canonical for log in b.logs_json if log["address"] == COINS[0])
    made_up = {**model, "blockNumber": hex(silent.number), "blockHash": "0x" + silent.hash.hex(), "logIndex": "0x77"}

    def lie(node, call, result):
        asked = call["params"][0] if call["params"] else None
        if call["method"] != "eth_getLogs" or "fromBlock" not in asked:
            return result
        inside = int(asked["fromBlock"], 16) <= silent.number <= int(asked["toBlock"], 16)
        return [*result, made_up] if inside else result

    scene.twist.lie = lie
    nodes = client(scene, *(honest(scene, chaos) for _ in range(others)))
    if others:
        fill(scene, nodes)
    else:
        with pytest.raises(GaplessError):
            fill(scene, nodes)
    scene.look()
    assert "that the block does not have" in caplog.text
    scene.twist.lie = None
    scene.settle(follower)
    follower.close()


def test_what_cannot_be_compared_is_said(scene, caplog):
    """Headers are refused while history is read: it is read, and how many blocks were not compared is in the log."""
    follower = following(scene)
    nodes = client(scene)

    def lie(node, call, result):
        wanted = call["params"][0] if call["params"] else ""
        is_header = call["method"] == "eth_getBlockByNumber" and wanted == hex(bare)
        return None if is_header else result

    bare = next(b.number for b in scene.chain.canonical if 3 < b.number < 25 and not any(
        log["address"] == COINS[0] for log in b.logs_json))  # fmt: skip
    scene.twist.lie = lie
    fill(scene, nodes)
    scene.look()
    assert "whose headers could not be had" in caplog.text
    scene.twist.lie = None
    scene.settle(follower)
    follower.close()
