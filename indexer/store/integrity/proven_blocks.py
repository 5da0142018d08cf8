"""Verified: the blocks of a source whose logs were proven against receipts roots."""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.intervals import RangeSet
from indexer.store.schema import layout


def add(connection: Connection, source_id: int, ranges: RangeSet) -> None:
    """Notes that the rows of some blocks are proven; what is not covered (any more) is left out."""
    _update(connection, source_id, ranges, "verified + CAST(:ranges AS int8multirange) * coverage")


def remove(connection: Connection, source_id: int, ranges: RangeSet) -> None:
    """Notes that the rows of some blocks are not proven (any more)."""
    _update(connection, source_id, ranges, "verified - CAST(:ranges AS int8multirange)")


def _update(connection: Connection, source_id: int, ranges: RangeSet, verified: str) -> None:
    if ranges:
        connection.execute(
            sa.text(f"UPDATE gapless.sources SET verified = {verified} WHERE id = :id"),
            {"id": source_id, "ranges": layout.ranges_to_sql(ranges)},
        )
