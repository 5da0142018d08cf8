"""Logs of foreign shapes (:mod:`indexer.abi.batch`): counted by block and address, not kept.

A row of ``foreign_shapes`` has the logs of one event, block and number of topics that one transaction wrote: an address
for each. That is 24 bytes a log; a row for each log would take five times as much. Rows of one block may be several:
the addresses of an event may belong to several sources, which are written apart.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import sql

from indexer.intervals import RangeSet, intersect

#: Block, how many topics, and the address (20 bytes) of a log.
Counted: TypeAlias = tuple[int, int, bytes]

#: A row for each log, with its address alone; in the FROM of a statement.
EACH: Final = sql.SQL(
    "(SELECT f.event_id, f.chain_id, f.block_number, f.topics, one.contract_address "
    "FROM gapless.foreign_shapes f CROSS JOIN unnest(f.addresses) AS one (contract_address))"
)


@dataclass(frozen=True, slots=True)
class ForeignLogs:
    """Logs of one event and block that have the same foreign shape.

    Attributes:
        event_id: whose first topic they bear.
        block_number: the block.
        topics: how many topics each has, the first included.
        addresses: of each log, 20 bytes; an address occurs as often as it has such logs.
    """

    event_id: int
    block_number: int
    topics: int
    addresses: Sequence[bytes]


def insert(driver: psycopg.Connection[Any], chain_id: int, logs: Iterable[ForeignLogs]) -> None:
    """Counts logs that were not counted before."""
    rows: dict[tuple[int, int, int], list[bytes]] = {}
    for one in logs:
        rows.setdefault((one.event_id, one.block_number, one.topics), []).extend(one.addresses)
    if not rows:
        return
    statement = (
        "COPY gapless.foreign_shapes (event_id, chain_id, block_number, topics, addresses) FROM STDIN (FORMAT BINARY)"
    )
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(["integer", "bigint", "bigint", "smallint", "bytea[]"])
        for (event_id, block_number, topics), addresses in sorted(rows.items()):
            copy.write_row((event_id, chain_id, block_number, topics, addresses))


def delete(
    driver: psycopg.Connection[Any], chain_id: int, event_id: int, first: int, last: int, addresses: list[bytes] | None
) -> None:
    """Deletes what is counted of an event in some blocks.

    Args:
        driver: in a transaction.
        chain_id: the chain.
        event_id: the event.
        first: the first block.
        last: the last block.
        addresses: only of these; None: of all.
    """
    values = {"event": event_id, "chain_id": chain_id, "first": first, "last": last, "addresses": addresses}
    where = "event_id = %(event)s AND chain_id = %(chain_id)s AND block_number BETWEEN %(first)s AND %(last)s"
    if addresses is not None:
        driver.execute(
            f"""
            UPDATE gapless.foreign_shapes
            SET addresses = ARRAY(SELECT one FROM unnest(addresses) one WHERE one <> ALL(%(addresses)s::bytea[]))
            WHERE {where} AND addresses && %(addresses)s::bytea[]
            """,
            values,
        )
        where += " AND addresses = '{}'"
    driver.execute(f"DELETE FROM gapless.foreign_shapes WHERE {where}", values)


def load(
    driver: psycopg.Connection[Any], chain_id: int, event_id: int, ranges: RangeSet, addresses: list[bytes] | None
) -> Counter[Counted]:
    """What is counted of an event in some blocks.

    Args:
        driver: in a transaction.
        chain_id: the chain.
        event_id: the event.
        ranges: the blocks.
        addresses: only of these; None: of all.
    """
    found: Counter[Counted] = Counter()
    if not ranges:
        return found
    rows = driver.execute(
        sql.SQL("""
            SELECT block_number, topics, contract_address, count(*) FROM {} AS each
            WHERE event_id = %s AND chain_id = %s AND block_number BETWEEN %s AND %s
              AND (%s::bytea[] IS NULL OR contract_address = ANY(%s::bytea[]))
            GROUP BY block_number, topics, contract_address
        """).format(EACH),
        (event_id, chain_id, ranges[0][0], ranges[-1][1], addresses, addresses),
    )
    for number, topics, address, count in rows:
        if intersect(ranges, ((number, number),)):
            found[number, topics, bytes(address)] = count
    return found
