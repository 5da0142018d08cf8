"""How many questions a block costs, counted at the node; and what a source of pushed headers that lies can do."""

from __future__ import annotations

import itertools

import pytest

from indexer.chain.records.messages import parse_proven_header
from indexer.sync.head.follower import Tick
from tests.chaos.chain import Block, dumps
from tests.chaos.node import RpcError
from tests.chaos.stage import COIN, contract, stage
from tests.chaos.test_faults import transfer

QUIET = contract("quiet", "coin", f'address = "0x{"ab" * 20}"', start_block="0")
BLOCKS = 32

_numbers = itertools.count()


@pytest.fixture
def scene(chaos):
    with stage(chaos, f"questions/{next(_numbers)}") as one:
        yield one


@pytest.fixture
def follow(scene):
    """A follower of some contracts that has come to the head, and whose endpoint has shown what it is worth."""
    made = []

    def start(*contracts, **more):
        scene.apply(*contracts)
        follower = scene.follower(**more)
        made.append(follower)
        settle(scene, follower)
        scene.chain.append(transfer())
        assert follower.tick() is Tick.EXTENDED
        return follower

    yield start
    for follower in made:
        follower.close()


def settle(scene, follower):
    """Everything is brought in; nothing is missing afterwards. The rounds of the stage's own are many more."""
    for _ in range(3):
        scene.tick(follower)
        scene.backfill().run()
    scene.judge.check_complete(scene.look())


def header_of(block):
    return parse_proven_header(dumps(block.header_json))


def grow(scene, follower, *, pushed):
    """Grows the chain by a block a second, each seen by one look; the questions at the node for each."""
    before = scene.node.counts.total()
    for _ in range(BLOCKS):
        scene.chain.append(transfer())
        scene.chain.finalize(scene.chain.head.number - 40)
        scene.clock.now += 1.0
        assert follower.tick([header_of(scene.chain.head)] if pushed else []) is Tick.EXTENDED
    cost = (scene.node.counts.total() - before) / BLOCKS
    settle(scene, follower)
    return cost


@pytest.mark.promise("H-12")
@pytest.mark.parametrize(
    ("pushed", "says", "most"),
    [(True, True, 1.15), (True, False, 0.2), (False, True, 2.15), (False, False, 1.2)],
)
def test_a_block_costs_few_questions(scene, follow, pushed, says, most):
    """With what polling takes besides (1.3 looks a block, one in twelve seconds where heads are pushed)."""
    follower = follow(*((COIN,) if says else (QUIET,)))
    for _ in range(40):  # the finalized block comes as far behind as it stays
        scene.chain.append(transfer())
    scene.tick(follower)
    assert grow(scene, follower, pushed=pushed) <= most


@pytest.mark.promise("H-04")
def test_what_a_sparse_bloom_holds_is_asked_for_again_however_often_that_found_nothing(scene, follow):
    """A node whose index of logs is behind the block answers a question by the block's hash with none of them."""
    follower = follow(COIN)
    follower._client.pool.endpoints[0].spared._fruitless = 1000
    asked = set()

    def lie(_node, call, result):
        if call["method"] != "eth_getLogs" or (block := call["params"][0].get("blockHash")) in {None, *asked}:
            return result
        asked.add(block)
        return []

    scene.twist.lie = lie
    scene.chain.append(transfer())
    assert follower.tick([header_of(scene.chain.head)]) is Tick.EXTENDED
    scene.twist.lie = None
    assert asked
    scene.judge.check_complete(scene.look())


def test_sources_join_between_two_looks(scene, follow):
    follower = follow(COIN)
    scene.apply(COIN, QUIET)
    scene.backfill().run()
    before = scene.node.counts["eth_getBlockByNumber"]
    follower.join()
    follower.join()
    assert scene.query("SELECT bool_and(followed) FROM gapless.sources WHERE active") == [(True,)]
    assert scene.node.counts["eth_getBlockByNumber"] - before < 30  # the unfinalised blocks that they lacked
    settle(scene, follower)


def lying_blooms(_node, call, result):
    if call["method"] == "eth_getBlockByNumber" and result:
        return {**result, "logsBloom": "0x" + "0" * 512}
    return result


@pytest.mark.parametrize("pushed", [True, False])
def test_a_bloom_of_zeros_is_not_taken_for_silence(scene, follow, pushed):
    follower = follow(COIN)
    scene.twist.lie = lying_blooms
    for _ in range(4):
        scene.chain.append(transfer())
        header = header_of(scene.chain.head)
        silent = type(header)(header.number, header.hash, header.parent_hash, header.time)  # is not proven
        assert follower.tick([silent] if pushed else []) is Tick.EXTENDED
    settle(scene, follower)


def test_a_node_that_answers_for_blocks_it_does_not_know_is_asked_by_number(scene, follow):
    known = scene.node.known

    def answers(params):
        if "blockHash" in params and known(params["blockHash"]) is None:
            return []
        return honest(params)

    honest, scene.node._logs = scene.node._logs, answers
    follower = follow(COIN)
    for _ in range(3):
        scene.chain.append(transfer())
        header = header_of(scene.chain.head)
        scene.node.lag = 1  # the one that pushes is ahead
        follower.tick([header])
        scene.node.lag = 0
    settle(scene, follower)


def test_a_pushed_block_that_the_node_lacks_is_waited_for(scene, follow):
    follower = follow(COIN)
    scene.chain.append(transfer())

    def unknown(_node, call, result):
        if call["method"] == "eth_getLogs" and "blockHash" in call["params"][0]:
            raise RpcError(-32000, "unknown block")
        return result

    scene.twist.lie = unknown
    assert follower.tick([header_of(scene.chain.head)]) in (Tick.EXTENDED, Tick.NOTHING_NEW, Tick.LAGGING)
    scene.twist.lie = None
    settle(scene, follower)


@pytest.mark.promise("H-11")
def test_forged_headers_cost_no_row(scene, follow):
    """A source that pushes blocks that are none, each in the place of a true one that bears logs."""
    follower = follow(COIN)
    settle(scene, follower)
    for _ in range(6):
        tip = scene.chain.head
        scene.chain.append(transfer())
        true = scene.chain.head
        forged = Block(true.number, tip, (), salt=b"forged")  # it bears no log, so none is asked for
        follower._client.pool.endpoints[0].spared._blooms_until = float("inf")
        assert follower.tick([header_of(forged)]) is Tick.EXTENDED
        assert follower.tip.hash == forged.hash
        assert follower.tick() is Tick.REORGANISED  # the slow beat
        assert follower.tip.hash == true.hash
    settle(scene, follower)


@pytest.mark.promise("H-11")
def test_pushed_reorganisations_and_gaps_are_polled(scene, follow):
    follower = follow(COIN)
    for depth in (1, 2, 3):
        scene.chain.append(transfer())
        scene.chain.append(transfer())
        assert follower.tick([header_of(scene.chain.head)]) is Tick.EXTENDED  # one was not pushed
        scene.chain.reorganise(depth, depth + 1)
        assert follower.tick([header_of(scene.chain.head)]) is Tick.REORGANISED
    settle(scene, follower)
