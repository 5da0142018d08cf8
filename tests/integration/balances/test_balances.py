"""Balances are what the tokens themselves answer, for every holder, whatever happened."""

from __future__ import annotations

from random import Random

from indexer.demo.anvil import rpc
from indexer.demo.traffic import burst
from indexer.sync.follow import Tick
from tests.integration.balances import oracle


def _reorganise(history, depth: int) -> None:
    account = history.world.accounts[0]
    payment = {"from": account, "to": account, "value": "0x1"}
    rpc(history.world.w3.provider.endpoint_uri, "anvil_reorg", depth, [[payment, 0]])


def test_every_holder_of_every_token(indexed, history):
    expected = oracle.on_chain(history.world)
    assert oracle.kept(indexed) == expected
    assert len(expected) > 200
    assert set(oracle.through(indexed).values()) == {history.last}


def test_at_the_head_they_are_kept_with_the_rows(indexed, history):
    for seed in range(5):
        _, last = burst(history.world, Random(seed), 40, 6)
        assert indexed.following.tick() is Tick.EXTENDED
        assert set(oracle.through(indexed).values()) == {last}
    assert oracle.kept(indexed) == oracle.on_chain(history.world)


def test_reorganisations(indexed, history):
    for seed, depth in enumerate((1, 7, 30, 2)):
        _reorganise(history, depth)
        burst(history.world, Random(seed), 20, 5)
        assert indexed.following.tick() is Tick.REORGANISED
        assert set(oracle.through(indexed).values()) == {history.world.w3.eth.block_number}
        assert oracle.kept(indexed) == oracle.on_chain(history.world)
