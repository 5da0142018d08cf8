"""Which events have rows in blocks that can still be reorganised, so that a reorganisation touches their tables only.

``unfinalized_rows`` is written in the transactions that write such rows, and forgotten as blocks become final. Rows
that were written by a version of Gapless that noted nothing are not in it. Hence ``chains.noted_above``: above that
block all are. A follower whose predecessor in ``follower_epoch`` did not note begins at its own first tip.
"""

from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.abi.columns import POSITION_OF
from indexer.store.database import psycopg_connection
from indexer.store.rows.writer import Rows

#: Assignments to a chain's row, beside those of a new tip, by a follower that notes the rows above the old one.
NOTED: Final = (
    "noted_above = CASE WHEN follower_epoch - noted_epoch <= 1 THEN noted_above ELSE tip_number END, "
    "noted_epoch = follower_epoch"
)

_BLOCK_NUMBER: Final = POSITION_OF["block_number"]


def note(connection: Connection, chain_id: int, rows: Rows) -> None:
    """Notes which events have rows, undecoded or foreign logs in which blocks; nothing is written where there are none.

    Args:
        connection: in the transaction that writes the rows.
        chain_id: the chain.
        rows: of unfinalised blocks.
    """
    found = {(row[_BLOCK_NUMBER], event_id) for event_id, (_, own) in rows.by_table.items() for row in own}
    found |= {(log.block_number, log.event_id) for log in rows.undecoded}
    found |= {(logs.block_number, logs.event_id) for logs in rows.foreign}
    if found:
        psycopg_connection(connection).execute(
            "INSERT INTO gapless.unfinalized_rows (chain_id, block_number, event_id) "
            "SELECT %s, * FROM unnest(%s::bigint[], %s::integer[]) ON CONFLICT DO NOTHING",
            (chain_id, *map(list, zip(*sorted(found), strict=True))),
        )


def bearing(connection: Connection, chain_id: int, common: int) -> list[int] | None:
    """The events that have rows, undecoded or foreign logs above a block; None: not known, it may be any.

    Args:
        connection: in the transaction of a follower that has moved the tip already.
        chain_id: the chain.
        common: the block.
    """
    noted = connection.execute(
        sa.text("SELECT noted_above <= :common FROM gapless.chains WHERE chain_id = :chain_id"),
        {"chain_id": chain_id, "common": common},
    ).scalar_one()
    if not noted:
        return None
    found: Iterable[int] = connection.execute(
        sa.text(
            "SELECT DISTINCT event_id FROM gapless.unfinalized_rows "
            "WHERE chain_id = :chain_id AND block_number > :common ORDER BY event_id"
        ),
        {"chain_id": chain_id, "common": common},
    ).scalars()
    return list(found)


def noted(connection: Connection, chain_id: int, common: int) -> None:
    """Says that all rows above a block are noted from now on, since there are none any more."""
    connection.execute(
        sa.text("UPDATE gapless.chains SET noted_above = :common WHERE chain_id = :chain_id"),
        {"chain_id": chain_id, "common": common},
    )


def forget_through(connection: Connection, chain_id: int, finalized: int) -> None:
    """Forgets what is known of blocks that can no longer be reorganised."""
    connection.execute(
        sa.text("DELETE FROM gapless.unfinalized_rows WHERE chain_id = :chain_id AND block_number <= :finalized"),
        {"chain_id": chain_id, "finalized": finalized},
    )
