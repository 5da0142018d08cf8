"""The demo's program: who holds how many shares of which pool, since when, and how many at most so far.

None of it follows from sums of rows: when a position began, and its peak, depend on the order of the transfers.
"""

from typing import Any

from indexer.programs import ZERO, Program, Table, address, key, timestamp, uint256


class Stake(Table):
    """Shares of pools, by owner; what was given back stays, with nothing left."""

    owner: address = key()
    pool: address = key()
    shares: uint256 = 0
    peak: uint256 = 0
    since: timestamp | None = None
    moves: int = 0


program = Program(tables=[Stake])


@program.on("pair.Transfer")
def moved(event: Any, db: Any) -> None:
    """Shares were made, burnt, or went from one owner to another."""
    for owner, change in ((event.args.from_, -event.args.value), (event.args.to, event.args.value)):
        if owner == ZERO:
            continue
        stake = db.get_or_new(Stake, owner=owner, pool=event.address)
        if not stake.shares and change > 0:
            stake.since = event.block_time
        stake.shares += change
        stake.peak = max(stake.peak, stake.shares)
        stake.moves += 1
