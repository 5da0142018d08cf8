"""A chain that leaves block numbers out (null rounds): what is proven by a link is passed over, and nothing else."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from indexer.chain.records.errors import ProviderError
from indexer.manifest import load_manifest
from indexer.manifest.model import Finality
from indexer.sync.head.follower import Follower, Tick
from indexer.sync.history.backfill import UnreadRangesError
from indexer.sync.setup import deployment_block
from indexer.sync.snapshots.series import Snapshots
from tests.chaos.chain import CHAIN_ID, COINS, Block
from tests.chaos.node import NULL_WORDINGS, Call, Node
from tests.chaos.simulation import Simulation
from tests.chaos.stage import COIN, FACTORIES, Stage, contract, stage
from tests.further import further

SUPPLY = """[snapshots.supply]
contract = "coins"
calls = ["totalSupply()"]
every = "5 blocks"
start_block = 0"""

_numbers = itertools.count()


@pytest.fixture
def scene(chaos) -> Iterator[Stage]:
    """Every third block stands behind a run of numbers without one."""
    with stage(chaos, f"nulls/{next(_numbers)}", null_rounds=0.3) as one:
        yield one


def left_out(scene: Stage, first: int = 0) -> list[int]:
    """The numbers from one on that have no block."""
    return [n for n in range(first, scene.chain.head.number) if scene.chain.block(n) is None]


def following(scene: Stage) -> Follower:
    follower = scene.follower()
    scene.settle(follower)
    return follower


# -- history and head


@pytest.mark.parametrize(
    ("wording", "batch_size", "declared"),
    [
        ("null", 1, False),
        ("null", 100, True),
        ("lotus", 1, True),
        ("lotus", 100, False),
        ("unheard of", 100, False),
        ("block before", 100, False),
    ],
)
def test_a_chain_that_leaves_numbers_out_is_indexed_whole(scene, wording, batch_size, declared):
    scene.node.null_wording = wording
    # Ranges so narrow that many of them begin, end or lie in a run.
    scene.settings = dataclasses.replace(
        scene.settings, start_blocks=2, max_blocks=3, batch_size=batch_size, null_blocks=declared
    )
    scene.apply(COIN, FACTORIES)
    follower = following(scene)
    assert left_out(scene)
    scene.chain.mine(30)
    picture = scene.settle(follower)
    assert picture.tip == scene.chain.head.number
    stored = {number for (number,) in scene.query("SELECT number FROM gapless.blocks")}
    assert not stored & set(left_out(scene))
    follower.close()


@pytest.mark.parametrize("wording", ["null", "lotus"])
def test_a_source_may_begin_and_end_at_a_number_without_a_block(scene, wording):
    scene.node.null_wording = wording
    low, high = (one[0] for one in (left_out(scene), left_out(scene, 20)))
    scene.apply(contract("coins", "coin", f'address = "{COINS[0]}"', start_block=str(low), end_block=str(high)))
    follower = following(scene)
    follower.close()


@pytest.mark.parametrize("wording", ["null", "lotus"])
def test_a_run_longer_than_what_is_asked_for_at_once_is_passed_over(scene, wording):
    scene.node.null_wording = wording
    scene.apply(COIN)
    follower = following(scene)
    scene.chain.append(skip=300)
    scene.chain.mine(5)
    picture = scene.settle(follower)
    assert picture.tip == scene.chain.head.number
    follower.close()


@pytest.mark.parametrize("wording", ["null", "lotus"])
def test_finality_by_depth_and_by_age_is_a_block_where_the_number_has_none(scene, wording):
    scene.node.null_wording = wording
    scene.chain.append(skip=12)
    scene.chain.mine(1)
    head = scene.chain.head
    for finality in (Finality("blocks", head.number - left_out(scene)[-1]), Finality("seconds", 12)):
        scene.finality = finality
        scene.apply(COIN)
        follower = following(scene)
        assert scene.look().finalized == left_out(scene)[-12] - 1
        follower.close()


# -- without a proof


def hidden(number: int, more: int = 0):
    """Says of a block, and of so many before it, that there is none."""

    def lie(node: Node, call: Call, result: Any) -> Any:
        is_header = call["method"] == "eth_getBlockByNumber" and isinstance(result, dict)
        return None if is_header and number - more <= int(result["number"], 16) <= number else result

    return lie


def test_a_block_that_a_node_only_says_it_lacks_is_waited_for(scene):
    scene.apply(COIN)
    follower = following(scene)
    tip = scene.chain.head.number
    scene.chain.mine(6)
    lacking = scene.chain.canonical[-3].number
    scene.twist.lie = hidden(lacking)
    for _ in range(5):
        with pytest.raises(ProviderError, match=r"block [\d,]+"):
            scene.tick(follower)
        assert scene.look().tip == tip
    scene.twist.lie = None
    scene.settle(follower)
    follower.close()


def test_a_block_of_history_that_a_node_only_says_it_lacks_is_not_passed_over(scene):
    scene.settings = dataclasses.replace(scene.settings, start_blocks=1, max_blocks=1)
    scene.apply(COIN)
    bearing = next(b for b in scene.chain.canonical[5:] if any(log.saying.address == COINS[0] for log in b.logs))
    scene.twist.lie = hidden(bearing.number, more=0)
    follower = scene.follower()
    scene.tick(follower)
    with pytest.raises(UnreadRangesError):
        scene.backfill().run()
    coverage = scene.look().sources[0].coverage
    assert not any(first <= bearing.number <= last for first, last in coverage)
    scene.twist.lie = None
    scene.settle(follower)
    follower.close()


def test_a_node_that_lags_beside_is_not_taken_for_the_end_of_the_chain(scene, chaos):
    behind = Node(scene.chain)
    behind.lag = 12
    more = [chaos.server.add(f"nulls/behind/{next(_numbers)}", behind)]
    scene.apply(COIN)
    follower = scene.follower(more=more)
    for _ in range(12):
        scene.chain.mine(3)
        try:
            scene.tick(follower)
        except ProviderError:
            scene.look()
    behind.lag = 0
    scene.settle(follower)
    follower.close()


# -- reorganisations


def turned(scene: Stage, depth: int, *skips: int) -> None:
    """Replaces the newest blocks by some, each with its own count of numbers left out before it."""
    chain = scene.chain
    chain.abandoned.append(chain.head)
    chain.canonical = chain.canonical[:-depth]
    for skip in skips:
        chain.append(*chain.author.transactions(chain.head), skip=skip)


@pytest.mark.parametrize(("wording", "is_newest"), [("null", False), ("null", True), ("lotus", False)])
def test_a_number_turns_into_a_block_and_back(scene, wording, is_newest):
    scene.node.null_wording = wording
    scene.chain.null_rounds = 0.0
    scene.apply(COIN, FACTORIES)
    follower = following(scene)
    without = () if is_newest else (0, 0)
    scene.chain.append(skip=2)
    for _ in without:
        scene.chain.mine(1)
    scene.settle(follower)
    depth = 1 + len(without)
    turned(scene, depth, 0, 0, 0, *without)  # the two numbers have blocks now
    scene.settle(follower)
    turned(scene, 3 + len(without), 2, *without)  # and have none again
    scene.settle(follower)
    turned(scene, depth, 3, *without)  # the number of a block has none
    scene.settle(follower)
    depths = [depth for (depth,) in scene.query("SELECT depth FROM gapless.reorgs ORDER BY id")]
    assert len(depths) == 3
    follower.close()


@pytest.mark.parametrize("wording", ["null", "lotus"])
def test_a_head_at_a_number_that_our_branch_leaves_out_is_another_branch(scene, wording):
    """The new head is lower than our tip, and we have no block of its number."""
    scene.node.null_wording = wording
    scene.chain.null_rounds = 0.0
    scene.apply(COIN)
    follower = following(scene)
    scene.chain.append(skip=3)
    scene.settle(follower)
    turned(scene, 1, 1)
    assert scene.tick(follower) is Tick.REORGANISED
    scene.settle(follower)
    follower.close()


# -- what else names a number


def taker(scene: Stage) -> Snapshots:
    manifest = load_manifest(scene.folder / "indexer.toml", {"NODE": scene.url})
    client = scene.client()
    client.head()
    return Snapshots(scene.engine, client, CHAIN_ID, manifest.snapshots["supply"])


def points(scene: Stage) -> dict[int, int]:
    return {n: int(value) for n, value in scene.query("SELECT block_number, total_supply FROM coins.supply")}


def supplies(scene: Stage) -> dict[int, int]:
    head = scene.chain.head
    return {n: head.ancestor(n).supply(COINS[0]) for n in range(0, head.number + 1, 5)}


@pytest.mark.parametrize("wording", NULL_WORDINGS)
def test_a_snapshot_due_at_a_number_without_a_block_reads_the_newest_before_it(scene, wording):
    scene.node.null_wording = wording
    scene.apply(COIN, SUPPLY)
    follower = following(scene)
    assert any(number % 5 == 0 for number in left_out(scene))
    one = taker(scene)
    while one.take_due():
        pass
    assert points(scene) == supplies(scene)
    scene.chain.null_rounds = 0.0
    scene.chain.append(skip=10)
    scene.chain.mine(1)
    scene.settle(follower)
    while one.take_due():
        pass
    assert points(scene) == supplies(scene)
    turned(scene, 2, *[0] * 14)  # where there was no block there is one now
    scene.settle(follower)
    while one.take_due():
        pass
    assert points(scene) == supplies(scene)
    follower.close()


@pytest.mark.parametrize("wording", NULL_WORDINGS)
def test_the_block_of_a_deployment_is_found_over_numbers_without_a_block(scene, wording):
    scene.node.null_wording = wording
    client = scene.client()
    client.head()
    for block in (one for one in scene.chain.canonical if 3 < one.number <= 30):

        def deployed_at(node: Node, call: Call, result: Any, block: Block = block) -> Any:
            if call["method"] != "eth_getCode":
                return result
            at = node.named(call["params"][1])
            return "0x60" if at is not None and at.number >= block.number else "0x"

        scene.twist.lie = deployed_at
        address = bytes.fromhex(COINS[0][2:])
        assert deployment_block.first_with_code(client, address, 30, "coins") == block.number


@pytest.mark.parametrize("wording", NULL_WORDINGS)
def test_the_first_log_of_an_address_is_found_over_numbers_without_a_block(scene, wording):
    scene.node.null_wording = wording
    client = scene.client()
    client.head()
    spoke = min(b.number for b in scene.chain.canonical if any(log.saying.address == COINS[0] for log in b.logs))
    for last in left_out(scene, spoke):
        found = client.earliest_log(bytes.fromhex(COINS[0][2:]), last)
        assert (found.block, found.since) == (spoke, 0)


@pytest.mark.parametrize("seed", [1, further(7)])  # of those that settle soon
def test_whatever_happens_the_tables_are_right(seed, chaos):
    with chaos.database() as (url, folder):
        tale = Simulation(seed, chaos.server, url, folder, null_rounds=True).run()
    assert tale.events["read"] >= 60
