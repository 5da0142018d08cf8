"""Each of the odd answers by itself: all rows come, and nothing wrong stands anywhere."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from indexer.errors import GaplessError
from indexer.store.rows import transaction_rows
from indexer.sync.history.transactions import Includer
from indexer.sync.setup import deployment_block
from tests.chaos import derived, odd_answers
from tests.chaos.chain import CHAIN_ID, COINS
from tests.chaos.lies import Lies
from tests.chaos.stage import COIN, FACTORIES, contract, stage

_numbers = itertools.count()
INCLUDING = contract(
    "coins", "coin", f'address = "{COINS[0]}"', start_block="0", include='["block", "transaction", "receipt"]'
)


@pytest.fixture
def scene(chaos):
    with stage(chaos, f"odd/{next(_numbers)}") as one:
        yield one


def bring_in(scene) -> None:
    """All is read while the node lies; what cannot be believed is an error, and nothing worse."""
    follower = scene.follower()
    for _ in range(40):
        try:
            scene.tick(follower)
            scene.backfill().run()
            scene.judge.check_complete(scene.look())
        except (GaplessError, AssertionError) as error:
            left = error
            continue
        follower.close()
        return
    raise left


@pytest.mark.parametrize("name", [*odd_answers.BATCHES, *odd_answers.HEADER, *odd_answers.LOGS])
@pytest.mark.parametrize("always", [False, True])
def test_all_is_read_whatever_the_answers_look_like(scene, name, always):
    if always and name not in (*odd_answers.HARMLESS, "tag error"):
        pytest.skip("what is never answered cannot be read")
    lies = scene.node.liar = Lies(Random(5), {name: 1.0 if always else 0.3})
    scene.apply(COIN, FACTORIES)
    bring_in(scene)
    scene.chain.mine(10)
    scene.chain.reorganise(3)
    bring_in(scene)
    assert lies.told[name] > 0


def test_a_node_that_forbids_batches_is_asked_one_by_one(scene):
    lies = scene.node.liar = Lies(Random(5), {}, no_batches=True)
    scene.apply(COIN, FACTORIES)
    bring_in(scene)
    before, client = lies.told["no batches"], scene.client()
    for _ in range(5):
        assert len(client.headers(range(30))) == 30
    assert 0 < lies.told["no batches"] - before <= 4, "30 are refused, then 15, 7 and 3, and none again"


@pytest.mark.parametrize("name", odd_answers.DETAILS)
def test_details_that_are_missing_are_marked_and_the_rest_is_there(scene, name):
    scene.chain.mine(100)
    scene.chain.finalize(120)
    scene.apply(INCLUDING)
    bring_in(scene)
    lies = scene.node.liar = Lies(Random(5), {name: 0.3})
    Includer(scene.engine, scene.client(), CHAIN_ID).run()
    assert derived.check_included(scene.reader, scene.chain) > 10
    assert lies.told[name] > 0
    lies.active = False
    with scene.engine.begin() as connection:
        transaction_rows.retry_now(connection, CHAIN_ID)
    Includer(scene.engine, scene.client(), CHAIN_ID).run()
    derived.check_included(scene.reader, scene.chain)
    derived.check_included_complete(scene.reader)


def test_a_contract_is_as_old_as_its_logs_where_old_code_is_denied(scene):
    scene.chain.mine(100)
    scene.chain.finalize(110)
    address, first = bytes.fromhex(COINS[0][2:]), 1
    honest = deployment_block.first_with_code(scene.client(), address, 110, "coin")
    assert honest == first
    lies = scene.node.liar = Lies(Random(5), {"no old code": 1.0})
    denied = deployment_block.first_with_code(scene.client(), address, 110, "coin")
    assert denied > 100
    number, since = deployment_block.as_old_as_its_logs(scene.client(), address, denied, "coin")
    assert since == 0
    derived.check_deployed(scene.chain, COINS[0], number, since)
    assert lies.told["no old code"] > 0
