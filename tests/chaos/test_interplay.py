"""Two things that are right each by itself, at once: ends of contracts and balances, finality and slow readers."""

from __future__ import annotations

import itertools

import pytest

from indexer.store.blocks import hold_block
from tests.chaos.chain import CHAIN_ID
from tests.chaos.stage import COIN, stage

_numbers = itertools.count()


@pytest.fixture
def scene(chaos):
    with stage(chaos, f"interplay/{next(_numbers)}") as one:
        yield one


def test_what_was_read_in_a_block_that_is_gone_is_not_kept_once_its_height_is_final(scene):
    scene.apply(COIN)
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
