"""What the tables can be asked about themselves.

Are there rows where none should be, keys that occur twice, blocks that are missing, children that do not follow from
their factory's events? Each function reads and says what it found; what follows from it, ``sync.audit`` decides.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.intervals import EMPTY, BlockRange, RangeSet, intersect, subtract, union
from indexer.store.catalog.catalog import CatalogEvent, Source
from indexer.store.catalog.children import announcements
from indexer.store.catalog.declaration import FactoryRule, Place
from indexer.store.database import psycopg_connection
from indexer.store.schema import layout
from indexer.store.schema.layout import EventTable

MOST_RANGES = 100
"""Ranges that one check tells of one event, about."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Rows in a range of blocks."""

    first: int
    last: int
    count: int
    what: str = ""


@dataclass(frozen=True, slots=True)
class Claims:
    """What all sources of an event on a chain have covered, the retired ones too.

    Attributes:
        anywhere: by sources that are no address list: whatever is in the table there is theirs.
        listed: by address.
    """

    anywhere: RangeSet
    listed: Mapping[bytes, RangeSet]

    @property
    def covered(self) -> RangeSet:
        """The blocks that any source covers."""
        return union(self.anywhere, *self.listed.values())


@dataclass(frozen=True, slots=True)
class ChildDifference:
    """A child that is not as its factory's events say.

    Attributes:
        address: 20 bytes.
        announced: block of birth by the events; None: no event announced it.
        known: block of birth by ``children``; None: it is not known.
    """

    address: bytes
    announced: int | None
    known: int | None


def load_claims(connection: Connection, event_id: int, chain_id: int) -> Claims:
    """Reads what the sources of an event on a chain have covered."""
    anywhere: RangeSet = EMPTY
    listed: dict[bytes, RangeSet] = {}
    rows = connection.execute(
        sa.text("""
            SELECT s.place, gapless.covered(s.coverage, s.end_block, n.tip_number) AS coverage
            FROM gapless.sources s JOIN gapless.chains n ON n.chain_id = s.chain_id
            WHERE s.event_id = :event AND s.chain_id = :chain
        """),
        {"event": event_id, "chain": chain_id},
    )
    for row in rows:
        place, coverage = Place.from_json(row.place), layout.ranges_from_sql(row.coverage)
        if place.kind != "addresses":
            anywhere = union(anywhere, coverage)
        for text in place.addresses:
            address = bytes.fromhex(text[2:])
            listed[address] = union(listed.get(address, EMPTY), coverage)
    return Claims(anywhere, listed)


def unclaimed(
    connection: Connection, table: EventTable, chain_id: int, claims: Claims, within: BlockRange
) -> list[CheckResult]:
    """Rows that no source has covered."""
    covered = intersect(claims.covered, (within,))
    found = _rows_in(connection, table, chain_id, subtract((within,), covered), "outside all coverage")
    shared = subtract(covered, claims.anywhere)
    found += _rows_in(connection, table, chain_id, shared, "of an address that is not indexed", but=list(claims.listed))
    together: dict[RangeSet, list[bytes]] = {}
    for address, coverage in claims.listed.items():
        together.setdefault(subtract(shared, coverage), []).append(address)
    for ranges, addresses in together.items():
        found += _rows_in(connection, table, chain_id, ranges, "of an address not covered there", only=addresses)
    return found


def delete_unclaimed(
    connection: Connection, table: EventTable, chain_id: int, claims: Claims, within: BlockRange
) -> int:
    """Deletes rows that no source has covered; returns how many."""
    deleted = 0
    covered = intersect(claims.covered, (within,))
    shared = subtract(covered, claims.anywhere)
    deleted += _delete(connection, table, chain_id, subtract((within,), covered))
    deleted += _delete(connection, table, chain_id, shared, but=list(claims.listed))
    for address, coverage in claims.listed.items():
        deleted += _delete(connection, table, chain_id, subtract(shared, coverage), only=[address])
    return deleted


def strangers(connection: Connection, source: Source, within: BlockRange) -> list[CheckResult]:
    """Rows of a factory's source whose address is no child, or was not born yet."""
    statement = sql.SQL("""
        SELECT r.block_number, count(*) FROM {} r
        WHERE r.chain_id = %s AND r.block_number BETWEEN %s AND %s AND NOT EXISTS (
            SELECT FROM gapless.children c
            WHERE c.chain_id = r.chain_id AND c.contract_id = %s AND c.address = r.contract_address
              AND c.block_number <= r.block_number)
        GROUP BY r.block_number ORDER BY r.block_number
    """).format(source.event.table.identifier)
    found: list[CheckResult] = []
    for covered in intersect(source.coverage, (within,)):
        rows = psycopg_connection(connection).execute(statement, (source.chain_id, *covered, source.event.contract_id))
        found += [CheckResult(number, number, count, "of an address that is no child then") for number, count in rows]
    return coalesced(found)


def duplicates(connection: Connection, table: EventTable, chain_id: int, within: BlockRange) -> list[CheckResult]:
    """Logs that are in the table more than once: read past the indexes, for a broken one is how that happens."""
    driver = psycopg_connection(connection)
    for setting in ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"):
        driver.execute(sql.SQL("SET LOCAL {} = off").format(sql.Identifier(setting)))
    rows = driver.execute(
        sql.SQL("""
            SELECT block_number, sum(count) FROM (
                SELECT block_number, log_index, count(*) FROM {}
                WHERE chain_id = %s AND block_number BETWEEN %s AND %s
                GROUP BY block_number, log_index HAVING count(*) > 1) twice (block_number, log_index, count)
            GROUP BY block_number ORDER BY block_number
        """).format(table.identifier),
        (chain_id, *within),
    ).fetchall()
    for setting in ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"):
        driver.execute(sql.SQL("SET LOCAL {} = on").format(sql.Identifier(setting)))
    return coalesced([CheckResult(number, number, int(count), "more than once") for number, count in rows])


def dangling(connection: Connection, table: EventTable, chain_id: int, within: BlockRange) -> list[CheckResult]:
    """Rows whose block is not in ``blocks``, or has another time there."""
    rows = psycopg_connection(connection).execute(
        sql.SQL("""
            SELECT r.block_number, count(*), b.number IS NULL
            FROM {} r LEFT JOIN gapless.blocks b ON b.chain_id = r.chain_id AND b.number = r.block_number
            WHERE r.chain_id = %s AND r.block_number BETWEEN %s AND %s AND b.time IS DISTINCT FROM r.block_time
            GROUP BY r.block_number, b.number IS NULL ORDER BY r.block_number
        """).format(table.identifier),
        (chain_id, *within),
    )
    return coalesced(
        [
            CheckResult(
                number, number, count, "of a block that is not kept" if missing else "at another time than their block"
            )
            for number, count, missing in rows
        ]
    )


def blocks(connection: Connection, chain_id: int, numbers: Iterable[int]) -> dict[int, tuple[bytes, int]]:
    """The stored hashes and times (Unix seconds) of some blocks, by number; a sample may be of all of history."""
    rows = connection.execute(
        sa.text("SELECT number, hash, time FROM gapless.blocks WHERE chain_id = :chain_id AND number = ANY(:numbers)"),
        {"chain_id": chain_id, "numbers": sorted(numbers)},
    )
    return {number: (bytes(block_hash), int(time.timestamp())) for number, block_hash, time in rows}


def child_differences(
    connection: Connection, contract_id: int, chain_id: int, rules: Sequence[tuple[FactoryRule, CatalogEvent]]
) -> list[ChildDifference]:
    """Compares a contract's children with what its factories' events in the tables announce.

    Args:
        connection: to read with.
        contract_id: whose children.
        chain_id: the chain.
        rules: the contract's factory rules on that chain, each with the announcing event.
    """
    rows = psycopg_connection(connection).execute(
        sql.SQL("""
            WITH announced AS ({announced}), known AS (
                SELECT address AS child, block_number, log_index FROM gapless.children
                WHERE chain_id = %(chain_id)s AND contract_id = %(contract_id)s)
            SELECT coalesce(a.child, k.child), a.block_number, k.block_number
            FROM announced a FULL JOIN known k ON k.child = a.child
            WHERE (a.block_number, a.log_index) IS DISTINCT FROM (k.block_number, k.log_index)
            ORDER BY 1
        """).format(announced=_announced(rules)),
        {"chain_id": chain_id, "contract_id": contract_id},
    )
    return [ChildDifference(bytes(address), announced, known) for address, announced, known in rows]


def _announced(rules: Sequence[tuple[FactoryRule, CatalogEvent]]) -> sql.Composed:
    return sql.SQL(
        "SELECT DISTINCT ON (child) * FROM ({}) every WHERE child IS NOT NULL ORDER BY child, block_number, log_index"
    ).format(announcements(rules))


def coalesced(found: Iterable[CheckResult]) -> list[CheckResult]:
    """Joins what touches and is alike; if that leaves more than :data:`MOST_RANGES`, also what is near."""
    joined: list[CheckResult] = []
    for one in sorted(found, key=lambda f: (f.what, f.first)):
        previous = joined[-1] if joined else None
        if previous and previous.what == one.what and one.first <= previous.last + 1:
            joined[-1] = CheckResult(previous.first, max(previous.last, one.last), previous.count + one.count, one.what)
        else:
            joined.append(one)
    while len(joined) > MOST_RANGES:
        pairs = [i for i in range(len(joined) - 1) if joined[i].what == joined[i + 1].what]
        if not pairs:
            break
        half = set(sorted(pairs, key=lambda i: joined[i + 1].first - joined[i].last)[: len(joined) - MOST_RANGES])
        kept: list[CheckResult] = []
        for i, one in enumerate(joined):
            if i - 1 in half:
                before = kept[-1]
                kept[-1] = CheckResult(before.first, one.last, before.count + one.count, one.what)
            else:
                kept.append(one)
        joined = kept
    return joined


def _rows_in(
    connection: Connection,
    table: EventTable,
    chain_id: int,
    ranges: RangeSet,
    what: str,
    *,
    only: Collection[bytes] | None = None,
    but: Collection[bytes] | None = None,
) -> list[CheckResult]:
    if not ranges:
        return []
    rows = psycopg_connection(connection).execute(
        sql.SQL("SELECT min(block_number), max(block_number), count(*) {} GROUP BY asked.first").format(
            _from_ranges(table)
        ),
        _range_parameters(chain_id, ranges, only, but),
    )
    return [CheckResult(first, last, count, what) for first, last, count in rows]


def _delete(
    connection: Connection,
    table: EventTable,
    chain_id: int,
    ranges: RangeSet,
    *,
    only: Collection[bytes] | None = None,
    but: Collection[bytes] | None = None,
) -> int:
    if not ranges:
        return 0
    return (
        psycopg_connection(connection)
        .execute(
            sql.SQL("DELETE FROM {} WHERE ctid IN (SELECT r.ctid {})").format(table.identifier, _from_ranges(table)),
            _range_parameters(chain_id, ranges, only, but),
        )
        .rowcount
    )


def _from_ranges(table: EventTable) -> sql.Composed:
    return sql.SQL("""
        FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS asked (first, last)
        JOIN {} r ON r.chain_id = %(chain_id)s AND r.block_number BETWEEN asked.first AND asked.last
        WHERE (%(only)s::bytea[] IS NULL OR r.contract_address = ANY(%(only)s::bytea[]))
          AND (%(but)s::bytea[] IS NULL OR r.contract_address <> ALL(%(but)s::bytea[]))
    """).format(table.identifier)


def _range_parameters(
    chain_id: int, ranges: RangeSet, only: Collection[bytes] | None, but: Collection[bytes] | None
) -> dict[str, Any]:
    return {
        "chain_id": chain_id,
        "firsts": [first for first, _ in ranges],
        "lasts": [last for _, last in ranges],
        "only": None if only is None else list(only),
        "but": None if but is None else list(but),
    }
