"""Digests: what the rows of covered, finalized ranges sum up to, so that a later change of them is noticed.

The digest of a range is the sum of a 64-bit hash of each of its rows: it knows no order, and the digests of two ranges
add up to that of both. Digests are taken a moment after the rows were committed (:func:`take`, a maintenance job), not
in the writing transaction, where they would cost a dense backfill a seventh of its writing; a range that has none yet
is *not yet digested* and is never said to be unchanged. It is a checksum against accidents (a restored backup, a
forgotten ``UPDATE``, a failing disk), no seal against a person who can write the digests too.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.intervals import BlockRange, RangeSet, intersect, normalise, subtract
from indexer.store.catalog.catalog import CatalogEvent, Source
from indexer.store.database import psycopg_connection
from indexer.store.rows.undecoded_logs import EACH

MOST_PER_SOURCE = 64
"""Digests of adjacent ranges are merged, the smallest first, until no more than so many are left."""

_REWRITE_LOCK = 0x67610003

# Of the rows as they are hashed. An integer hashes to the same number whatever its width.
_ROW_FORM = 1

# No column has a space in its name: an alias that a column shares would mean the column.
_ALIAS = sql.Identifier("a row")


@dataclass(frozen=True, slots=True)
class Sum:
    """How many rows a range has and what their hashes sum up to; logs without a row count as rows."""

    rows: int
    value: int

    def __add__(self, other: "Sum") -> "Sum":
        return Sum(self.rows + other.rows, self.value + other.value)


@dataclass(frozen=True, slots=True)
class Digest:
    """The stored digest of a source's range."""

    first: int
    last: int
    sum: Sum
    method: str


def method(connection: Connection) -> str:
    """How digests are taken by this server and this version of the tables: by another one they cannot be compared."""
    version: int = psycopg_connection(connection).info.server_version
    return f"postgres {version // 10_000}, layout {_ROW_FORM}"


def lock_rewrites(connection: Connection, source_ids: Iterable[int]) -> None:
    """Keep all others from digesting or rewriting covered ranges of some sources until the transaction ends.

    Backfill and the follower are not kept: they only add to what is not covered yet.
    """
    for source_id in sorted(set(source_ids)):
        connection.execute(
            sa.text("SELECT pg_advisory_xact_lock(:lock, :id)"), {"lock": _REWRITE_LOCK, "id": source_id}
        )


def load(connection: Connection, source_id: int) -> list[Digest]:
    """The stored digests of a source, in order."""
    rows = connection.execute(
        sa.text("""
            SELECT first_block, last_block, rows, digest, method FROM gapless.digests
            WHERE source_id = :id ORDER BY first_block
        """),
        {"id": source_id},
    )
    return [Digest(row.first_block, row.last_block, Sum(row.rows, int(row.digest)), row.method) for row in rows]


def digested(digests: Iterable[Digest]) -> RangeSet:
    """The blocks that have a digest."""
    return normalise((digest.first, digest.last) for digest in digests)


def measure(connection: Connection, source: Source, block_range: BlockRange) -> Sum:
    """Sums up what the tables hold of a source's range now."""
    own = sql.SQL("event_id = {} AND").format(sql.Literal(source.event.event_id))
    logs = _measure(
        connection,
        sql.Identifier("gapless", "undecoded_logs"),
        source,
        block_range,
        # The reason's wording is ours and may change; the log may not.
        hashed=sql.SQL("ROW(log_index, tx_hash, tx_index, contract_address, topics, data, block_number, block_time)"),
        extra=own + sql.SQL(" NOT has_row AND"),
    )
    hashed = sql.SQL("ROW(block_number, topics, contract_address)")
    foreign = _measure(connection, EACH, source, block_range, hashed=hashed, extra=own)
    return measure_rows(connection, source.event, source, block_range) + logs + foreign


def measure_rows(
    connection: Connection,
    event: CatalogEvent,
    source: Source,
    block_range: BlockRange,
    *,
    table: sql.Identifier | None = None,
) -> Sum:
    """Sums up the rows that an event's table (or one like it) holds of a source's range."""
    return _measure(connection, table or event.table.identifier, source, block_range, hashed=_ALIAS)


def _measure(
    connection: Connection,
    table: sql.Composable,
    source: Source,
    block_range: BlockRange,
    *,
    hashed: sql.Composable,
    extra: sql.Composable | None = None,
) -> Sum:
    statement = sql.SQL("""
        SELECT count(*), coalesce(sum(hash_record_extended({hashed}, 0)), 0) FROM {table} AS {alias}
        WHERE {extra} chain_id = %(chain_id)s AND block_number BETWEEN %(first)s AND %(last)s AND {place}
    """).format(hashed=hashed, table=table, alias=_ALIAS, extra=extra or sql.SQL(""), place=_place(source))
    row = psycopg_connection(connection).execute(statement, _parameters(source, block_range)).fetchone()
    assert row is not None
    return Sum(row[0], int(row[1]))


def by_block(connection: Connection, source: Source, block_range: BlockRange, table: sql.Identifier) -> dict[int, Sum]:
    """The sums of a table's rows for each block that has any."""
    statement = sql.SQL("""
        SELECT block_number, count(*), sum(hash_record_extended({alias}, 0)) FROM {table} AS {alias}
        WHERE chain_id = %(chain_id)s AND block_number BETWEEN %(first)s AND %(last)s AND {place}
        GROUP BY block_number
    """).format(table=table, alias=_ALIAS, place=_place(source))
    rows = psycopg_connection(connection).execute(statement, _parameters(source, block_range))
    return {number: Sum(count, int(value)) for number, count, value in rows}


def _place(source: Source) -> sql.Composable:
    # The wheres of a table are disjoint: what is not an address list has the table for itself.
    if not source.place.addresses:
        return sql.SQL("true")
    return sql.SQL("contract_address = ANY(%(addresses)s::bytea[])")


def _parameters(source: Source, block_range: BlockRange) -> dict[str, Any]:
    return {
        "chain_id": source.chain_id,
        "first": block_range[0],
        "last": block_range[1],
        "addresses": [bytes.fromhex(address[2:]) for address in source.place.addresses],
    }


def waiting(connection: Connection, chain_id: int, finalized: int, most: int | None) -> list[int]:
    """The active sources of a chain that have covered blocks without a digest: those with the most such blocks first.

    Args:
        connection: to read with.
        chain_id: the chain.
        finalized: blocks above it have none yet.
        most: so many at most; None: all.
    """
    rows = connection.execute(
        sa.text("""
            SELECT s.id
            FROM gapless.sources s
            LEFT JOIN (SELECT source_id, range_agg(int8range(first_block, last_block, '[]')) AS digested
                       FROM gapless.digests GROUP BY source_id) d ON d.source_id = s.id,
            LATERAL (SELECT gapless.covered(s.coverage, s.end_block, :finalized)
                            * int8multirange(int8range(0, :finalized, '[]')) - coalesce(d.digested, '{}') AS blocks
                    ) missing,
            LATERAL (SELECT sum(upper(r) - lower(r)) AS size FROM unnest(missing.blocks) r) counted
            WHERE s.chain_id = :chain_id AND s.active AND missing.blocks <> '{}'
            ORDER BY counted.size DESC, s.id LIMIT :most
        """),
        {"chain_id": chain_id, "finalized": finalized, "most": most},
    )
    return list(rows.scalars())


def take(connection: Connection, source: Source, finalized: int) -> RangeSet:
    """Digests what a source has covered and not digested yet, in the connection's transaction.

    Args:
        connection: in a transaction that has done nothing yet.
        source: as just loaded, in the same catalog version.
        finalized: nothing above it is digested: it may still be reorganised.

    Returns:
        The ranges that were digested.
    """
    lock_rewrites(connection, [source.source_id])
    stored = load(connection, source.source_id)
    missing = subtract(intersect(source.coverage, ((0, finalized),)), digested(stored))
    how = method(connection)
    for block_range in missing:
        _store(connection, source.source_id, block_range, measure(connection, source, block_range), how)
    if missing:
        _merge(connection, source.source_id)
    return missing


def cut(connection: Connection, source: Source, last: int) -> None:
    """Drops the digests of a source's blocks up to one, before their rows are deleted.

    Of one that reaches beyond, what is left is its sum without theirs: no row that stays is read, or believed. So one
    that did not match does not match afterwards either.

    Args:
        connection: in the transaction that deletes the rows, after :func:`lock_rewrites`.
        source: whose rows.
        last: the last block whose rows go.
    """
    how = method(connection)
    for digest in load(connection, source.source_id):
        if digest.first > last:
            break
        _drop(connection, source.source_id, digest)
        if digest.last > last and digest.method == how:
            gone = measure(connection, source, (digest.first, last))
            rest = Sum(digest.sum.rows - gone.rows, digest.sum.value - gone.value)
            _store(connection, source.source_id, (last + 1, digest.last), rest, how)


def replace(connection: Connection, source: Source, digest: Digest) -> None:
    """Takes a digest anew, by today's method, without asking whether the rows are still those of the old one."""
    block_range = (digest.first, digest.last)
    _drop(connection, source.source_id, digest)
    _store(connection, source.source_id, block_range, measure(connection, source, block_range), method(connection))


@contextmanager
def rewriting(connection: Connection, source: Source, ranges: RangeSet) -> Iterator[None]:
    """Around a change of covered rows: keeps the digests that hold in step with it, and leaves those that do not.

    A digest that matched before the change is taken anew after it. One that did not match stays as it is: it goes on
    telling that something else in its range was changed, or matches again now that the change was repaired.

    Args:
        connection: in the transaction that changes the rows.
        source: whose rows are changed.
        ranges: the blocks that are changed.
    """
    lock_rewrites(connection, [source.source_id])
    touched = [d for d in load(connection, source.source_id) if intersect(ranges, ((d.first, d.last),))]
    how = method(connection)
    sound = [d for d in touched if d.method != how or measure(connection, source, (d.first, d.last)) == d.sum]
    yield
    for digest in sound:
        replace(connection, source, digest)


def _store(connection: Connection, source_id: int, block_range: BlockRange, total: Sum, how: str) -> None:
    connection.execute(
        sa.text("""
            INSERT INTO gapless.digests (source_id, first_block, last_block, rows, digest, method)
            VALUES (:id, :first, :last, :rows, CAST(:digest AS numeric), :method)
        """),
        {
            "id": source_id,
            "first": block_range[0],
            "last": block_range[1],
            "rows": total.rows,
            "digest": str(total.value),
            "method": how,
        },
    )


def _drop(connection: Connection, source_id: int, digest: Digest) -> None:
    connection.execute(
        sa.text("DELETE FROM gapless.digests WHERE source_id = :id AND first_block = :first"),
        {"id": source_id, "first": digest.first},
    )


def _merge(connection: Connection, source_id: int) -> None:
    kept = load(connection, source_id)
    merged: list[Digest] = list(kept)
    while len(merged) > MOST_PER_SOURCE:
        pairs = [
            i
            for i in range(len(merged) - 1)
            if merged[i].last + 1 == merged[i + 1].first and merged[i].method == merged[i + 1].method
        ]
        if not pairs:
            break
        i = min(pairs, key=lambda i: merged[i + 1].last - merged[i].first)
        left, right = merged[i], merged[i + 1]
        merged[i : i + 2] = [Digest(left.first, right.last, left.sum + right.sum, left.method)]
    if len(merged) == len(kept):
        return
    for digest in set(kept) - set(merged):
        _drop(connection, source_id, digest)
    for digest in sorted(set(merged) - set(kept), key=lambda d: d.first):
        _store(connection, source_id, (digest.first, digest.last), digest.sum, digest.method)
