"""``gapless drop`` and ``gapless reset``: what is no longer in the manifest, and a chain that began anew, deleted.

The only place that drops tables. Everything happens in one transaction, which changes the catalog last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.store import children, following, ledgers, lock_waits, tables, transfers
from indexer.store.catalog import end_change, hold_for_change
from indexer.store.database import DatabaseError, psycopg_connection

Kind = Literal["contract", "event", "snapshot", "chain"]


@dataclass(frozen=True, slots=True)
class Droppable:
    """Something that can be dropped.

    Attributes:
        kind: what it is.
        name: as the operator names it.
        key: its id in the catalog.
        active: whether the manifest that was applied last asks for it.
        tables: the tables that go with it, schema and name.
        rows: how many rows they have, by Postgres' statistics.
    """

    kind: Kind
    name: str
    key: int
    active: bool
    tables: tuple[tuple[str, str], ...] = ()
    rows: int = 0


_FIND = sa.text("""
    WITH named AS (
        SELECT 'contract' AS kind, c.name, c.id::bigint AS key, c.active FROM gapless.contracts c
        WHERE c.name = :name OR :all
        UNION ALL
        SELECT 'event', c.name || '.' || e.api_name, e.id, e.active AND c.active
        FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
        WHERE c.name || '.' || e.api_name = :name OR :all
        UNION ALL
        SELECT 'snapshot', s.name, s.id, s.active FROM gapless.series s WHERE s.name = :name OR :all
        UNION ALL
        SELECT 'chain', n.name, n.chain_id, n.active FROM gapless.chains n WHERE n.name = :name OR :all
    ), tables AS (
        SELECT e.contract_id, 'event' AS kind, e.id, c.schema_name, e.table_name
        FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
        UNION ALL
        SELECT s.contract_id, 'snapshot', s.id, c.schema_name, s.table_name
        FROM gapless.series s JOIN gapless.contracts c ON c.id = s.contract_id
    )
    SELECT n.kind, n.name, n.key, n.active,
           coalesce(json_agg(json_build_array(t.schema_name, t.table_name)) FILTER (WHERE t.table_name IS NOT NULL),
                    '[]') AS tables,
           coalesce(sum((SELECT greatest(coalesce(s.n_live_tup, 0), p.reltuples, 0)
                         FROM pg_class p LEFT JOIN pg_stat_user_tables s ON s.relid = p.oid
                         WHERE p.oid = to_regclass(quote_ident(t.schema_name) || '.' || quote_ident(t.table_name)))),
                    0)::bigint AS rows
    FROM named n LEFT JOIN tables t
      ON (n.kind = 'contract' AND t.contract_id = n.key) OR (n.kind = t.kind AND t.id = n.key)
    GROUP BY n.kind, n.name, n.key, n.active ORDER BY n.kind, n.name
""")


def find(connection: Connection, name: str) -> list[Droppable]:
    """Everything in the catalog that has a name: a contract's, a snapshot's, a chain's, or ``contract.Event``."""
    return _found(connection, name)


def retired(connection: Connection) -> list[Droppable]:
    """What the manifest names no longer, and whose data is still there; not apart what goes with its contract."""
    found = [one for one in _found(connection, None) if not one.active]
    whole = {table for one in found if one.kind == "contract" for table in one.tables}
    return [one for one in found if one.kind in ("contract", "chain") or not whole.issuperset(one.tables)]


def _found(connection: Connection, name: str | None) -> list[Droppable]:
    return [
        Droppable(row.kind, row.name, row.key, row.active, tuple((a, b) for a, b in row.tables), row.rows)
        for row in connection.execute(_FIND, {"name": name, "all": name is None})
    ]


def drop(engine: Engine, given: Droppable, *, patience: float = lock_waits.PATIENCE) -> None:
    """Deletes it: tables, coverage, and all that is kept about it.

    Args:
        engine: the database.
        given: what :func:`find` found.
        patience: seconds for which it is tried while others use what goes.

    Raises:
        DatabaseError: it is active, an indexer still works on it, or somebody else's objects depend on its tables;
            nothing was changed then.
        BusyError: others read its tables all the time; the same.
    """
    what = f"{given.kind} {given.name} cannot be dropped"
    lock_waits.attempt(engine, what, lambda connection: _drop(connection, given), patience=patience)


def reset(engine: Engine, chain_id: int, name: str, *, patience: float = lock_waits.PATIENCE) -> None:
    """Deletes all rows of a chain, and all that is known of it, so that the manifest can be applied to it anew.

    Args:
        engine: the database.
        chain_id: the chain; one that the database does not know has nothing to delete.
        name: its name, for messages.
        patience: seconds for which it is tried while others use what goes.

    Raises:
        DatabaseError: an indexer still follows it, or others hold its rows all the time; nothing was changed then.
    """

    def work(connection: Connection) -> None:
        _drop_chain(connection, chain_id, name)
        hold_for_change(connection, wait=lock_waits.WAIT)
        end_change(connection)

    lock_waits.attempt(engine, f"chain {name} cannot be reset", work, patience=patience)


def _drop(connection: Connection, given: Droppable) -> None:
    current = next(
        (one for one in find(connection, given.name) if (one.kind, one.key) == (given.kind, given.key)), None
    )
    if current is None:
        raise DatabaseError(f"{given.kind} {given.name} is gone already")
    if current.active:
        raise DatabaseError(
            f"{given.kind} {given.name} is in the manifest that was applied last",
            hint="take it out of the manifest and run: gapless apply",
        )
    if current.kind in ("contract", "event"):
        children.forget_announcements(connection, current.name.partition(".")[0])
    try:
        match current.kind:
            case "contract":
                _drop_tables(connection, current.tables)
                _drop_contract(connection, current.key)
            case "event":
                _drop_tables(connection, current.tables)
                ledgers.forget_event(connection, current.key)
                connection.execute(sa.delete(tables.events).where(tables.events.c.id == current.key))
            case "snapshot":
                _drop_tables(connection, current.tables)
                connection.execute(sa.delete(tables.series).where(tables.series.c.id == current.key))
            case "chain":
                _drop_chain(connection, current.key, current.name)
    except psycopg.errors.DependentObjectsStillExist as error:
        raise DatabaseError(
            f"{given.kind} {given.name}: other objects depend on its tables: {error.diag.message_detail}",
            hint="drop those first; they are not Gapless' own",
        ) from None
    transfers.renew_view(connection)
    hold_for_change(connection, wait=lock_waits.WAIT)
    end_change(connection)


def _drop_tables(connection: Connection, names: Sequence[tuple[str, str]]) -> None:
    driver = psycopg_connection(connection)
    transfers.drop_view(connection)  # which may depend on them
    for schema_name, table_name in names:
        driver.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(schema_name, table_name)))


def _drop_contract(connection: Connection, contract_id: int) -> None:
    contracts = tables.contracts
    schema_name = connection.execute(
        sa.delete(contracts).where(contracts.c.id == contract_id).returning(contracts.c.schema_name)
    ).scalar_one()
    psycopg_connection(connection).execute(
        sql.SQL("DROP SCHEMA IF EXISTS {} RESTRICT").format(sql.Identifier(schema_name))
    )


def _drop_chain(connection: Connection, chain_id: int, name: str) -> None:
    if not following.keep_away(connection, chain_id):
        raise DatabaseError(
            f"chain {name} is still being followed by an indexer",
            hint="stop it, or take the chain out of its manifest; then run this again",
        )
    driver = psycopg_connection(connection)
    for row in connection.execute(_ALL_TABLES).all():
        _delete_of_chain(driver, sql.Identifier(row.schema_name, row.table_name), chain_id)
    # From those that refer to others to those that are referred to.
    for table in reversed(tables.metadata.sorted_tables):
        if "chain_id" in table.c:
            _delete_of_chain(driver, sql.Identifier(tables.SCHEMA, table.name), chain_id)


_ALL_TABLES = sa.text("""
    SELECT c.schema_name, e.table_name FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
    UNION ALL
    SELECT c.schema_name, s.table_name FROM gapless.series s JOIN gapless.contracts c ON c.id = s.contract_id
""")


def _delete_of_chain(driver: psycopg.Connection[Any], table: sql.Identifier, chain_id: int) -> None:
    driver.execute(sql.SQL("DELETE FROM {} WHERE chain_id = %s").format(table), (chain_id,))
