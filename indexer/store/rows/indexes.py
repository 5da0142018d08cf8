"""Secondary indexes of event tables: those that are wanted (``events.indexes``) and those that are there.

They have one shape, (chain, column, block, log), which serves "rows where this equals that, newest first"; an index of
another shape is not ours and is left alone. Besides, every table has a BRIN index of :data:`TIME` and the contract's
address: rows come in the order of time by and large, so that some hundred bytes for each 256 kB of rows serve "the last
day", and a table of one contract is not read for another. On an empty table they are made at once, with the table;
on one that has rows they are built beside all other work, which ``CREATE INDEX`` would stop and ``CONCURRENTLY`` does
not: outside of any transaction, by one process at a time.

A large first backfill puts them off (:func:`put_off`, :func:`call_for`): to build them at its end costs a fraction of
keeping them up to date with every row.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.store.database import psycopg_connection
from indexer.store.leases import Lease, Renewer
from indexer.store.rows.copy_binary import REFUSALS

log = logging.getLogger(__name__)

TIME: Final = "block_time"
"""The column with a BRIN index; it costs a writer a hundredth, a B-tree a third (``benchmarks/README.md``)."""

_BUILDER_LEASE = "indexes"
_FEW_ROWS = 50_000
#: Seconds until an index that the rows did not allow is tried again.
AGAIN: Final = 3600.0
#: Seconds after which all indexes are compared with the catalog anew, though nothing has changed as far as is known.
COMPARE_AGAIN: Final = 300.0


@dataclass(frozen=True, slots=True)
class Index:
    """An index that is not as it should be.

    Attributes:
        contract: the contract's name.
        event: the event's API name.
        schema_name: of the table.
        table_name: the table.
        column: the second column of the index; :data:`TIME` alone.
        name: the index's own name; None: it is not there.
        state: ``waiting``: to be built; ``put off``: to be built when the first backfill is done; ``building``;
            ``broken``: left by a build that was cut off, to be built anew; ``unwanted``: to be dropped.
        percent: how much of the table a build has read; None where nothing is being built.
    """

    contract: str
    event: str
    schema_name: str
    table_name: str
    column: str
    name: str | None
    state: Literal["waiting", "put off", "building", "broken", "unwanted"]
    percent: float | None = None

    @property
    def label(self) -> str:
        """``usdc.Transfer(value)``: for people."""
        return f"{self.contract}.{self.event}({self.column})"


_THERE = """
    SELECT t.relname AS table_name, n.nspname AS schema_name, x.relname AS index_name, a.attname AS column_name,
           i.indisvalid AS valid, i.indexrelid, i.indrelid
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[1]
    WHERE NOT i.indisprimary AND NOT i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
      AND i.indnatts = 4 AND i.indnkeyatts = 4
      AND (SELECT array_agg(k.attname::text ORDER BY o.place)
           FROM unnest(i.indkey) WITH ORDINALITY o(attnum, place)
           JOIN pg_catalog.pg_attribute k ON k.attrelid = t.oid AND k.attnum = o.attnum
           WHERE o.place <> 2) = ARRAY['chain_id', 'block_number', 'log_index']
"""

_TIMES = f"""
    SELECT t.relname AS table_name, n.nspname AS schema_name, x.relname AS index_name, i.indisvalid AS valid,
           i.indexrelid
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'brin'
    JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0] AND a.attname = '{TIME}'
    WHERE i.indnatts = 2 AND i.indpred IS NULL
"""

_AMISS = sa.text(f"""
    WITH there AS MATERIALIZED ({_THERE}),
    times AS MATERIALIZED ({_TIMES}),
    wanted AS (
        SELECT c.name AS contract, e.api_name AS event, c.schema_name, e.table_name, e.indexes_put_off, w.column_name
        FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id,
             unnest(e.indexes) AS w(column_name)
        WHERE e.active AND c.active AND to_regclass(format('%I.%I', c.schema_name, e.table_name)) IS NOT NULL
    ),
    tables AS (
        SELECT c.name AS contract, e.api_name AS event, c.schema_name, e.table_name
        FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id WHERE e.active AND c.active
    )
    SELECT w.contract, w.event, w.schema_name, w.table_name, w.column_name, t.index_name,
           CASE WHEN p.pid IS NOT NULL THEN 'building' WHEN t.index_name IS NOT NULL THEN 'broken'
                WHEN w.indexes_put_off THEN 'put off' ELSE 'waiting' END AS state,
           (CASE WHEN p.blocks_total > 0 THEN 100.0 * p.blocks_done / p.blocks_total END)::float8 AS percent
    FROM wanted w
    LEFT JOIN there t USING (schema_name, table_name, column_name)
    LEFT JOIN pg_catalog.pg_stat_progress_create_index p ON p.index_relid = t.indexrelid
    WHERE t.index_name IS NULL OR NOT t.valid
    UNION ALL
    SELECT s.contract, s.event, s.schema_name, s.table_name, '{TIME}', t.index_name,
           CASE WHEN p.pid IS NOT NULL THEN 'building' WHEN t.index_name IS NOT NULL THEN 'broken' ELSE 'waiting' END,
           (CASE WHEN p.blocks_total > 0 THEN 100.0 * p.blocks_done / p.blocks_total END)::float8
    FROM tables s
    LEFT JOIN times t USING (schema_name, table_name)
    LEFT JOIN pg_catalog.pg_stat_progress_create_index p ON p.index_relid = t.indexrelid
    WHERE (t.index_name IS NULL OR NOT t.valid)
      AND to_regclass(format('%I.%I', s.schema_name, s.table_name)) IS NOT NULL
    UNION ALL
    SELECT s.contract, s.event, s.schema_name, s.table_name, t.column_name, t.index_name, 'unwanted', NULL
    FROM there t JOIN tables s USING (schema_name, table_name)
    WHERE NOT EXISTS (SELECT FROM wanted w WHERE w.schema_name = t.schema_name AND w.table_name = t.table_name
                      AND w.column_name = t.column_name)
    ORDER BY contract, event, column_name
""")


# What amiss() reads, in three numbers that cost next to nothing: what the catalog wants, whose indexes are put off, and
# which indexes there are and can be used (an index that is dropped, built, or marked invalid changes their sum).
_STAMP = sa.text("""
    SELECT (SELECT version FROM gapless.catalog),
           (SELECT coalesce(sum(id), 0) FROM gapless.events WHERE indexes_put_off),
           (SELECT coalesce(sum(indexrelid::int8), 0) FROM pg_catalog.pg_index WHERE indisvalid)
""")


def columns_with_index(connection: Connection, schema_name: str, table_name: str) -> set[str]:
    """The columns of a table that have an index of our shape, finished or not."""
    rows = connection.execute(
        sa.text(f"SELECT column_name FROM ({_THERE}) i WHERE schema_name = :schema AND table_name = :table"),
        {"schema": schema_name, "table": table_name},
    )
    return set(rows.scalars())


def is_finished(connection: Connection, schema_name: str, table_name: str, column: str) -> bool:
    """Whether a column has an index of our shape that can be used."""
    rows = connection.execute(
        sa.text(
            f"SELECT EXISTS (SELECT FROM ({_THERE}) i WHERE schema_name = :schema AND table_name = :table "
            "AND column_name = :column AND valid)"
        ),
        {"schema": schema_name, "table": table_name, "column": column},
    )
    return bool(rows.scalar_one())


def amiss(connection: Connection) -> list[Index]:
    """The indexes that are not as the catalog wants them."""
    return [Index(*row) for row in connection.execute(_AMISS)]


def put_off(connection: Connection, event_ids: Collection[int]) -> list[str]:
    """Drops the secondary indexes of tables with few rows, until :func:`call_for` calls for them.

    Args:
        connection: in a transaction. It locks the tables against everyone, for a moment.
        event_ids: the events of which many rows are about to be written.

    Returns:
        The tables that have none now, for people.
    """
    driver = psycopg_connection(connection)
    names = []
    rows = connection.execute(
        sa.text("""
            SELECT e.id, c.schema_name, e.table_name, c.name || '.' || e.api_name AS label
            FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
            WHERE e.id = ANY(:ids) AND e.indexes <> '{}' AND NOT e.indexes_put_off ORDER BY e.id
        """),
        {"ids": sorted(event_ids)},
    )
    for event_id, schema_name, table_name, label in rows.all():
        table = sql.Identifier(schema_name, table_name)
        (count,) = driver.execute(
            sql.SQL("SELECT count(*) FROM (SELECT FROM {} LIMIT {}) few").format(table, _FEW_ROWS)
        ).fetchone() or (0,)
        if count == _FEW_ROWS:
            continue
        there = connection.execute(
            sa.text(f"SELECT index_name FROM ({_THERE}) i WHERE schema_name = :schema AND table_name = :table"),
            {"schema": schema_name, "table": table_name},
        ).scalars()
        for name in there.all():
            driver.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(schema_name, name)))
        connection.execute(sa.text("UPDATE gapless.events SET indexes_put_off = true WHERE id = :id"), {"id": event_id})
        names.append(label)
    return names


def call_for(connection: Connection, event_ids: Collection[int]) -> list[str]:
    """Calls for the indexes that were put off: :func:`build` builds them from now on.

    Returns:
        The names of the contracts that are concerned.
    """
    rows = connection.execute(
        sa.text("""
            UPDATE gapless.events e SET indexes_put_off = false FROM gapless.contracts c
            WHERE c.id = e.contract_id AND e.id = ANY(:ids) AND e.indexes_put_off RETURNING c.name
        """),
        {"ids": sorted(event_ids)},
    )
    return sorted(set(rows.scalars()))


def those_put_off(connection: Connection, chain_id: int) -> list[tuple[int, str, str]]:
    """The events of a chain whose indexes are put off: id, contract, and the event's API name."""
    rows = connection.execute(
        sa.text("""
            SELECT e.id, c.name, e.api_name FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
            WHERE e.indexes_put_off AND EXISTS (
                SELECT FROM gapless.sources s WHERE s.event_id = e.id AND s.chain_id = :chain_id AND s.active)
            ORDER BY e.id
        """),
        {"chain_id": chain_id},
    )
    return [(row.id, row.name, row.api_name) for row in rows]


def create_if_empty(connection: Connection, event_id: int) -> None:
    """Builds the indexes that an event's table is to have and lacks, where it has no rows: that takes no time.

    Args:
        connection: in a transaction. Writers of the table wait until it ends.
        event_id: the event.
    """
    row = connection.execute(
        sa.text("""
            SELECT c.schema_name, e.table_name, e.indexes
            FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id WHERE e.id = :id
        """),
        {"id": event_id},
    ).one_or_none()
    if row is None:
        return
    driver = psycopg_connection(connection)
    table = sql.Identifier(row.schema_name, row.table_name)
    if driver.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(table)).fetchone() != (False,):
        return
    for name in sorted(set(row.indexes) - columns_with_index(connection, row.schema_name, row.table_name)):
        driver.execute(create(row.schema_name, row.table_name, name))


class Builder:
    """Builds what is missing and drops what is no longer wanted, again and again, while all else goes on.

    Does nothing where another process is at it. An index that the rows do not allow is said and left; each try reads
    the whole table, so the next one comes after :data:`AGAIN` only.

    To compare all indexes with the catalog takes time with thousands of events. Where that finds nothing to do it is
    done again only when the catalog or the indexes of the database have changed, or after :data:`COMPARE_AGAIN`.

    Args:
        engine: the database.
        clock: seconds.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._left: dict[str, float] = {}
        self._nothing_to_do: tuple[object, ...] = ()
        """The stamp with which nothing was to be done; empty: there may be something."""
        self._compared = float("-inf")

    def run(self, stop: threading.Event, *, only: Sequence[str] | None = None) -> int:
        """Mends what is amiss now, one index after the other.

        Args:
            stop: when set, ends before the next index. One that is being built goes on in Postgres.
            only: labels of contracts (their names) to which it is limited; None: all.

        Returns:
            How many indexes were built or dropped.

        Raises:
            sqlalchemy.exc.DBAPIError: Postgres could not be used.
        """
        with self._engine.connect() as connection:
            if not self._is_anything_to_do(connection, only):
                return 0
        lease = Lease(self._engine, _BUILDER_LEASE)
        if not lease.take():
            return 0
        done = 0
        try:
            with (
                Renewer(self._engine, lambda: [lease]),
                self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
            ):
                for index in amiss(connection):
                    if stop.is_set() or not lease.is_trusted():
                        break
                    if self._is_ours(index, only):
                        done += self._mend(connection, index)
        finally:
            lease.release()
        return done

    def _is_anything_to_do(self, connection: Connection, only: Sequence[str] | None) -> bool:
        stamp = tuple(connection.execute(_STAMP).one())  # before the comparison: a change during it is seen next time
        now = self._clock()
        if stamp == self._nothing_to_do and now < self._compared + COMPARE_AGAIN:
            return False
        found = amiss(connection)
        is_ours = any(self._is_ours(index, only) for index in found)
        # A build of another process that is cut off changes no number: it is looked at until it has ended.
        is_settled = only is None and not is_ours and all(index.state != "building" for index in found)
        self._nothing_to_do, self._compared = (stamp if is_settled else ()), now
        return is_ours

    def _is_ours(self, index: Index, only: Sequence[str] | None) -> bool:
        return index.state not in ("building", "put off") and (only is None or index.contract in only)

    def _mend(self, connection: Connection, index: Index) -> bool:
        """Builds or drops an index; returns whether that could be done."""
        if self._clock() < self._left.get(index.label, float("-inf")):
            return False
        driver = psycopg_connection(connection)
        if index.name is not None:
            driver.execute(
                sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(index.schema_name, index.name))
            )
        if index.state == "unwanted":
            log.info("dropped index %s", index.label)
            return True
        log.info("building index %s", index.label)
        try:
            driver.execute(create(index.schema_name, index.table_name, index.column, concurrently=True))
        except REFUSALS as error:
            # A value that is in the table already, such as a text of many kilobytes: the contract that logs it must
            # not stop the others.
            reason = error.diag.message_primary or error
            log.warning("index %s cannot be built: %s; it is tried again in an hour", index.label, reason)
            self._left[index.label] = self._clock() + AGAIN
            return False
        log.info("built index %s", index.label)
        return True


def build(engine: Engine, stop: threading.Event, *, only: Sequence[str] | None = None) -> int:
    """Builds once what is missing, as :meth:`Builder.run`."""
    return Builder(engine).run(stop, only=only)


def create(schema_name: str, table_name: str, column: str, *, concurrently: bool = False) -> sql.Composed:
    """The statement that makes the index of a column; Postgres names it."""
    shape = "(chain_id, {}, block_number, log_index)"
    if column == TIME:
        shape = "USING brin ({}, contract_address) WITH (pages_per_range = 32, autosummarize = on)"
    return sql.SQL("CREATE INDEX {} ON {} {}").format(
        sql.SQL("CONCURRENTLY" if concurrently else ""),
        sql.Identifier(schema_name, table_name),
        sql.SQL(shape).format(sql.Identifier(column)),
    )
