"""How far a chain is followed, and how that goes: the chain's row, and its stored blocks."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.intervals import BlockRange
from indexer.store.head.leader_epoch import fenced
from indexer.store.rows.blocks import Block


@dataclass(frozen=True, slots=True)
class HeadState:
    """How far a chain is followed, as the database says.

    Attributes:
        genesis_hash: of block 0; None before the first look, and where no node serves it.
        tip: the newest block whose logs are in the tables; None before the first.
        finalized: nothing at or below it is ever changed by the follower; None before the first look.
        finalized_hash: the hash of that block.
    """

    genesis_hash: bytes | None
    tip: Block | None
    finalized: int | None
    finalized_hash: bytes | None


@dataclass(frozen=True, slots=True)
class HeadReport:
    """What the nodes say the head is, and how following it goes.

    Attributes:
        head: the newest block of the nodes.
        state: ``following`` or ``waiting``.
        reason: for people; None: there is nothing to say.
    """

    head: Block
    state: str
    reason: str | None = None

    @property
    def parameters(self) -> dict[str, object]:
        """The values that :data:`REPORTED` names."""
        moment = datetime.fromtimestamp(self.head.time, UTC)
        return {"head": self.head.number, "head_time": moment, "state": self.state, "reason": self.reason}


#: Assignments to a chain's row that say it (:attr:`HeadReport.parameters`); a chain that is halted stays so.
REPORTED: Final = (
    "head_number = :head, head_time = :head_time, head_seen_at = now(), "
    "state = CASE state WHEN 'halted' THEN state ELSE :state END, "
    "state_reason = CASE state WHEN 'halted' THEN state_reason ELSE :reason END"
)


def load_state(connection: Connection, chain_id: int) -> HeadState:
    """Reads how far a chain is followed."""
    row = connection.execute(
        sa.text("""
            SELECT genesis_hash, tip_number, tip_hash, tip_time, finalized_number, finalized_hash
            FROM gapless.chains WHERE chain_id = :chain_id
        """),
        {"chain_id": chain_id},
    ).one()
    tip = None
    if row.tip_number is not None:
        tip = Block(row.tip_number, bytes(row.tip_hash), int(row.tip_time.timestamp()))
    return HeadState(
        genesis_hash=None if row.genesis_hash is None else bytes(row.genesis_hash),
        tip=tip,
        finalized=row.finalized_number,
        finalized_hash=None if row.finalized_hash is None else bytes(row.finalized_hash),
    )


def load_headers(connection: Connection, chain_id: int, block_range: BlockRange) -> dict[int, bytes]:
    """The stored hashes of the blocks of a range, by number."""
    rows = connection.execute(
        sa.text(
            "SELECT number, hash FROM gapless.blocks WHERE chain_id = :chain_id AND number BETWEEN :first AND :last"
        ),
        {"chain_id": chain_id, "first": block_range[0], "last": block_range[1]},
    )
    return {number: bytes(block_hash) for number, block_hash in rows}


def load_block(connection: Connection, chain_id: int, number: int) -> Block:
    """The newest stored block at or below a number.

    Raises:
        sqlalchemy.exc.NoResultFound: there is none.
    """
    row = connection.execute(
        sa.text(
            "SELECT number, hash, parent_hash, time FROM gapless.blocks "
            "WHERE chain_id = :chain_id AND number <= :number ORDER BY number DESC LIMIT 1"
        ),
        {"chain_id": chain_id, "number": number},
    ).one()
    parent_hash = None if row.parent_hash is None else bytes(row.parent_hash)
    return Block(row.number, bytes(row.hash), int(row.time.timestamp()), parent_hash)


def report_head(connection: Connection, chain_id: int, epoch: int, report: HeadReport) -> None:
    """Notes what the nodes say the head is, where no block says so with it (:func:`extend`)."""
    fenced(connection, chain_id, epoch, REPORTED, report.parameters)


def report_state(connection: Connection, chain_id: int, state: str, reason: str | None) -> None:
    """Notes how a chain goes, for ``status``; not fenced, since one that stands by may say so too.

    A chain that is halted stays so, whatever was under way meanwhile says, until :func:`lift`.
    """
    connection.execute(
        sa.text(
            "UPDATE gapless.chains SET state = :state, state_reason = :reason, updated_at = now() "
            "WHERE chain_id = :chain_id AND (state <> 'halted' OR :state = 'halted')"
        ),
        {"chain_id": chain_id, "state": state, "reason": reason},
    )


def lift(connection: Connection, chain_id: int) -> None:
    """Ends the halt of a chain: what halted it is over, or is to be looked at by a process that has just begun."""
    connection.execute(
        sa.text(
            "UPDATE gapless.chains SET state = 'waiting', state_reason = NULL, updated_at = now() "
            "WHERE chain_id = :chain_id AND state = 'halted'"
        ),
        {"chain_id": chain_id},
    )
