"""An endpoint that serves another history below finalized, beside one that serves ours."""

import pickle
from types import SimpleNamespace

import pytest

from indexer.chain.disagreement import ban_contradicting
from indexer.log import Troubles
from indexer.service.jobs import Job
from indexer.store.rows.blocks import Block, ForeignBlockError
from tests.chaos.chain import Chain
from tests.chaos.node import Node
from tests.chaos.simulation import CHAIN_ID
from tests.chaos.stage import COIN, stage


@pytest.fixture
def scene(chaos):
    with stage(chaos, "dissent") as one:
        one.apply(COIN)
        one.chain.mine(20)
        yield one


def stranger_of(scene) -> Chain:
    other = Chain(scene.chain.random)
    other.by_hash[other.genesis.hash] = other.genesis
    other.mine(30)
    return other


def known(scene, number: int = 7) -> dict[int, bytes]:
    return {number: scene.chain.canonical[number].hash}


def states(client) -> list[bool]:
    return [endpoint.health.is_banned for endpoint in client.pool.endpoints]


@pytest.mark.promise("N-05")
def test_who_serves_other_blocks_than_another_is_not_used_any_more(scene, chaos, caplog):
    client = scene.client([chaos.server.add("dissent/honest", Node(scene.chain))])
    assert ban_contradicting(client, known(scene))
    assert states(client) == [False, False]
    scene.node.chain = stranger_of(scene)
    assert ban_contradicting(client, known(scene))
    assert states(client) == [True, False]
    assert "is not used: block 7 is 0x" in caplog.text


def test_where_nobody_serves_them_all_stay(scene, chaos):
    scene.node.chain = stranger_of(scene)
    client = scene.client([chaos.server.add("dissent/other", Node(scene.node.chain))])
    assert not ban_contradicting(client, known(scene))
    assert states(client) == [False, False]


def test_who_does_not_know_them_has_no_say(scene, chaos):
    scene.node.chain = stranger_of(scene)
    short = Node(scene.chain)
    short.lag = scene.chain.head.number - 3
    client = scene.client([chaos.server.add("dissent/short", short)])
    assert not ban_contradicting(client, known(scene))
    assert states(client) == [False, False]


@pytest.mark.parametrize("another_serves_it", [True, False])
def test_history_that_contradicts_halts_a_chain_only_where_nobody_serves_ours(scene, chaos, another_serves_it):
    (number, block_hash), = known(scene).items()  # fmt: skip
    scene.node.chain = stranger_of(scene)
    second = Node(scene.chain if another_serves_it else scene.node.chain)
    client = scene.client([chaos.server.add(f"dissent/{another_serves_it}", second)])
    halted: list[Exception] = []

    def work(resources, network):
        raise ForeignBlockError.of(CHAIN_ID, Block(number, b"\1" * 32, 0), block_hash)

    network = SimpleNamespace(
        client=client,
        checked=True,
        stop=SimpleNamespace(is_set=lambda: False),
        chain=SimpleNamespace(name="sim"),
        troubles=Troubles(),
    )
    resources = SimpleNamespace(halt=lambda _, error: halted.append(error))
    Job(resources, network, work, "history")._run()
    assert bool(halted) is not another_serves_it


def test_a_foreign_block_is_told_by_worker_processes_too():
    error = ForeignBlockError.of(1, Block(5, b"\1" * 32, 0), b"\2" * 32)
    told = pickle.loads(pickle.dumps(error))
    assert (str(told), told.hint, told.number, told.stored) == (str(error), error.hint, 5, b"\2" * 32)
