"""What programs hear of rows that others change, in the transaction that changes them.

A reorganisation takes back what the dropped blocks changed, at once: a reader never sees a program's rows that follow
from a branch that is gone. Whatever else changes rows that a program may have handled leaves a note, and the program
begins another generation; until then, its tables are marked stale by the note.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.intervals import RangeSet
from indexer.store.programs import program_generations, program_tables


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A change of rows.

    Attributes:
        disturbance_id: number of the note.
        first_block: the first block whose rows may be others.
        reason: for people.
    """

    disturbance_id: int
    first_block: int
    reason: str


_NEAR: Final = sa.text("SELECT id FROM gapless.programs WHERE chain_id = :chain_id AND near ORDER BY id FOR UPDATE")


def take_back(connection: Connection, chain_id: int, common: int) -> None:
    """Takes back what programs changed above a block; what they have under way is not committed any more.

    Args:
        connection: in the transaction that swaps branches and has locked the chain's row.
        chain_id: the chain.
        common: the last block that stays.
    """
    near = set(connection.execute(_NEAR, {"chain_id": chain_id}).scalars())
    for one in program_generations.load(connection, chain_id=chain_id) if near else ():
        if one.program_id not in near:
            continue
        if one.through_block > common:
            for table in one.tables:
                program_tables.take_back(connection, chain_id, table, common)
        connection.execute(
            sa.text("""
                UPDATE gapless.programs
                SET through_block = least(through_block, greatest(:common, start_block - 1)), version = version + 1,
                    problem = CASE WHEN problem_block <= :common THEN problem END,
                    problem_block = CASE WHEN problem_block <= :common THEN problem_block END, updated_at = now()
                WHERE id = :id
            """),
            {"id": one.program_id, "common": common},
        )


def note_changed(
    connection: Connection, chain_id: int, event_ids: Collection[int], ranges: RangeSet, reason: str
) -> None:
    """Notes that rows of covered blocks are others from now on.

    Args:
        connection: in the transaction that changes them.
        chain_id: the chain.
        event_ids: the events whose rows are changed.
        ranges: the blocks in which they are changed.
        reason: for people.
    """
    if not ranges:
        return
    connection.execute(
        sa.text("""
            INSERT INTO gapless.program_disturbances (program_id, first_block, reason)
            SELECT id, :first, :reason FROM gapless.programs
            WHERE live AND chain_id = :chain_id AND event_ids && CAST(:events AS integer[])
        """),
        {
            "first": ranges[0][0],
            "reason": f"from block {ranges[0][0]} on: {reason}",
            "chain_id": chain_id,
            "events": sorted(event_ids),
        },
    )


def note_of(connection: Connection, program_id: int, first_block: int, reason: str) -> None:
    """Notes that one generation is to be built anew from a block on, whatever its events are; none that is gone."""
    connection.execute(
        sa.text("""
            INSERT INTO gapless.program_disturbances (program_id, first_block, reason)
            SELECT id, :first, :reason FROM gapless.programs WHERE live AND id = :id
        """),
        {"id": program_id, "first": first_block, "reason": reason},
    )


def load(connection: Connection, program_id: int) -> list[Disturbance]:
    """What a generation has not settled yet."""
    rows = connection.execute(
        sa.text("""
            SELECT id, first_block, reason FROM gapless.program_disturbances
            WHERE program_id = :id ORDER BY first_block, id
        """),
        {"id": program_id},
    )
    return [Disturbance(row.id, row.first_block, row.reason) for row in rows]


def settle(connection: Connection, seen: Iterable[Disturbance]) -> None:
    """Forgets notes whose blocks were not handled, or are to be read anew."""
    connection.execute(
        sa.text("DELETE FROM gapless.program_disturbances WHERE id = ANY(:ids)"),
        {"ids": [one.disturbance_id for one in seen]},
    )
