"""Old blocks that bore no log are made fewer: nothing that refers to a block ever loses it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from indexer.store.rows import blocks
from indexer.store.rows.blocks import Block, PrunedBlocks, insert_blocks
from tests.chaos.chain import CHAIN_ID
from tests.chaos.stage import COIN, FACTORIES, contract, stage
from tests.chaos.test_blocks_at_once import until_somebody_waits


@pytest.fixture
def scene(chaos):
    with stage(chaos, "thinning") as one:
        one.apply(COIN, FACTORIES)
        yield one


@pytest.fixture
def following(scene):
    """A follower that has seen 240 blocks become final, 2 s each: one of five is to stay."""
    follower = scene.follower()
    scene.settle(follower)
    for _ in range(10):
        scene.chain.mine(20)
        scene.tick(follower)
    scene.chain.finalize(235)
    scene.settle(follower)
    yield follower
    follower.close()


def thin(scene, **how: Any) -> PrunedBlocks | None:
    with scene.engine.begin() as connection:
        return blocks.prune_blocks(connection, CHAIN_ID, **how)


def kept(scene) -> set[int]:
    return {number for (number,) in scene.query("SELECT number FROM gapless.blocks")}


def referring(scene) -> set[int]:
    tables = scene.query(
        "SELECT schema_name, table_name FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id"
    )
    names = [*(f'"{schema}"."{table}"' for schema, table in tables), "gapless.undecoded_logs"]
    names += ["gapless.foreign_shapes", "gapless.children"]
    return {number for name in names for (number,) in scene.query(f"SELECT block_number FROM {name}")}


def test_those_that_bore_logs_stay_and_a_few_between_them(scene, following):
    before = kept(scene)
    found = thin(scene)
    after = kept(scene)
    assert found is not None
    assert found.through == 234
    assert found.removed == len(before) - len(after) > 30
    assert referring(scene) <= after
    followed = range(31, 235)  # what was final before came by the backfill
    assert {number for number in before if number % 5 == 0} <= after
    assert {number for number in followed if number in after} == {
        number for number in followed if number % 5 == 0 or number in referring(scene)
    }
    assert {number for number in before if number not in followed} <= after
    assert scene.query("SELECT thinned_number FROM gapless.chains") == [(234,)]
    assert thin(scene) is None


def test_it_goes_on_in_pieces_as_blocks_become_final(scene, following):
    pieces = []
    while found := thin(scene, batch=50):
        pieces.append(found.through)
    assert pieces[-1] == 234
    assert len(pieces) > 3
    assert referring(scene) <= kept(scene)
    scene.chain.mine(40)
    scene.tick(following)
    scene.chain.finalize(260)
    scene.settle(following)
    assert thin(scene).through == 259
    scene.chain.reorganise(15)
    scene.settle(following)


def test_young_ones_stay(scene, following):
    scene.query("UPDATE gapless.blocks SET time = now() WHERE number >= 100 RETURNING 1")
    assert thin(scene).through == 99
    assert thin(scene) is None
    assert set(range(100, 235)) <= kept(scene)


def test_slow_chains_keep_all(scene, following):
    scene.query("UPDATE gapless.blocks SET time = to_timestamp(1700000000 + 12 * number) RETURNING 1")
    assert thin(scene) == PrunedBlocks(234, 0)


def test_a_contract_that_comes_later_has_its_blocks_again(scene, following):
    thin(scene)
    before = kept(scene)
    scene.apply(COIN, FACTORIES, contract("everyone", "coin", 'address = "any"', events='["Transfer"]'))
    scene.settle(following)
    assert kept(scene) > before
    assert referring(scene) <= kept(scene)


@pytest.mark.parametrize("has_come_first", [True, False])
def test_whoever_refers_to_a_block_meanwhile_finds_it(scene, following, has_come_first):
    silent = next(n for n in range(100, 200) if n % 5 and n not in referring(scene))
    ((block_hash, time),) = scene.query(
        f"SELECT hash, extract(epoch FROM time)::bigint FROM gapless.blocks WHERE number = {silent}"
    )
    block = Block(silent, bytes(block_hash), time)
    if has_come_first:
        with scene.engine.begin() as writer:
            insert_blocks(writer, CHAIN_ID, [block])
            thin(scene)
    else:
        with scene.engine.begin() as connection:
            blocks.prune_blocks(connection, CHAIN_ID)

            def insert() -> None:
                with scene.engine.begin() as writer:
                    insert_blocks(writer, CHAIN_ID, [block])

            thread = threading.Thread(target=insert)
            thread.start()
            until_somebody_waits(scene)
        thread.join()
    assert silent in kept(scene)
