"""A chain that grows, is reorganised and filled in, as the indexer leaves it: each step one transaction."""

from typing import Any

from tests.integration.api.seed import Seed
from tests.integration.api.world import ALICE, BOB, FINALIZED, TIP, USDC

FOLLOWED = ("usdc", "coins", "factory", "pair", "zoo", "gold_alone", "bridge")


def transfer(block: int, log: int, branch: int = 0) -> dict[str, Any]:
    """A row of usdc.Transfer; its value is the branch."""
    return {"block": block, "log": log, "branch": branch, "address": USDC, "from": ALICE, "to": BOB, "value": branch}


def headers(seed: Seed) -> None:
    """Make the world's blocks above finalized known, as a follower does."""
    for number in range(FINALIZED + 1, TIP + 1):
        seed.block(number)


def grow(
    seed: Seed, number: int, *, branch: int = 0, finalized: int = FINALIZED, logs: tuple[int, ...] = (3, 7)
) -> None:
    """One more block, with transfers."""
    with seed.connection.transaction():
        seed.rows("usdc", "Transfer", [transfer(number, log, branch) for log in logs])
        seed.block(number, branch=branch)
        seed.execute(
            "UPDATE gapless.sources s SET coverage = coverage + int8multirange(int8range(%s, %s)) "
            "FROM gapless.events e, gapless.contracts c WHERE e.id = s.event_id AND c.id = e.contract_id "
            "AND c.name = ANY (%s) AND s.chain_id = 1",
            (number, number + 1, list(FOLLOWED)),
        )
        seed.head(number, branch=branch, finalized=finalized, safe=finalized)


def swap(
    seed: Seed,
    common: int,
    old_tip: int,
    new_tip: int,
    *,
    branch: int,
    finalized: int = FINALIZED,
    logs: dict[int, tuple[int, ...]] | None = None,
) -> None:
    """Replace the branch above a block.

    Args:
        logs: of each new block, where they are not the usual two.
    """
    with seed.connection.transaction():
        seed.reorg(common, old_tip, branch=branch)
        seed.execute("DELETE FROM gapless.blocks WHERE chain_id = 1 AND number > %s", (common,))
        seed.execute(
            "UPDATE gapless.sources SET coverage = coverage - int8multirange(int8range(%s, NULL)) WHERE chain_id = 1",
            (common + 1,),
        )
        seed.head(common, branch=branch, finalized=finalized, safe=finalized)
        for number in range(common + 1, new_tip + 1):
            grow(seed, number, branch=branch, finalized=finalized, logs=(logs or {}).get(number, (3, 7)))


def transfers(seed: Seed, first: int) -> list[str]:
    """The ids of the rows that are there from a block on."""
    return [
        f"{block}-{log}"
        for block, log in seed.execute(
            "SELECT block_number, log_index FROM usdc.transfer WHERE chain_id = 1 AND block_number >= %s "
            "ORDER BY block_number, log_index",
            (first,),
        )
    ]
