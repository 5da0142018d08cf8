"""``gapless drop`` and ``gapless reset``: what is no longer in the manifest, and a chain that began anew, deleted.

The only place that drops tables. A transaction drops some tables, with the rows of the catalog that tell of them, and
changes the catalog last; a contract of very many events takes several. Killed in between, the rest is what the contract
has, and the next drop finishes. Chains: :mod:`indexer.store.apply.drop_chain`.

Rows of static tables that go with an event or a contract may be as many as those of its own tables, and no table of
theirs can be dropped. They go before, in transactions of a bounded number each, once the sources are retired for good:
what is left after a kill is displaced if it is ever indexed again.
"""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.store import database
from indexer.store.apply import drop_chain, readable_views
from indexer.store.catalog import children, ledgers
from indexer.store.catalog.version import end_change, hold_for_change
from indexer.store.database import DatabaseError, psycopg_connection
from indexer.store.derived import views
from indexer.store.programs import program_generations
from indexer.store.schema import tables
from indexer.store.tokens import transfers

log = logging.getLogger(__name__)

Kind = Literal["contract", "event", "snapshot", "chain", "derived", "program"]

#: Tables that one transaction drops: it locks each of them, with all of its indexes, and the server has room for
#: thousands of locks.
STEP: Final = 100


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
        WHERE c.name = :name OR (:all AND NOT c.active)
        UNION ALL
        SELECT 'event', c.name || '.' || e.api_name, e.id, e.active AND c.active
        FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
        WHERE c.name || '.' || e.api_name = :name OR (:all AND NOT (e.active AND c.active))
        UNION ALL
        SELECT 'snapshot', s.name, s.id, s.active FROM gapless.series s WHERE s.name = :name OR (:all AND NOT s.active)
        UNION ALL
        SELECT 'chain', n.name, n.chain_id, n.active FROM gapless.chains n
        WHERE n.name = :name OR (:all AND NOT n.active)
        UNION ALL
        SELECT 'derived', d.name, min(d.id), bool_or(d.active) FROM gapless.derived d
        GROUP BY d.name HAVING d.name = :name OR (:all AND NOT bool_or(d.active))
        UNION ALL
        SELECT 'program', p.name, min(p.id), bool_or(p.live) FROM gapless.programs p
        GROUP BY p.name HAVING p.name = :name OR (:all AND NOT bool_or(p.live))
    ), tables AS (
        SELECT n.kind, n.key, c.schema_name, e.table_name
        FROM named n JOIN gapless.contracts c ON n.kind = 'contract' AND c.id = n.key
        JOIN gapless.events e ON e.contract_id = c.id
        UNION ALL
        SELECT n.kind, n.key, c.schema_name, s.table_name
        FROM named n JOIN gapless.contracts c ON n.kind = 'contract' AND c.id = n.key
        JOIN gapless.series s ON s.contract_id = c.id
        UNION ALL
        SELECT n.kind, n.key, c.schema_name, e.table_name
        FROM named n JOIN gapless.events e ON n.kind = 'event' AND e.id = n.key
        JOIN gapless.contracts c ON c.id = e.contract_id
        UNION ALL
        SELECT n.kind, n.key, c.schema_name, s.table_name
        FROM named n JOIN gapless.series s ON n.kind = 'snapshot' AND s.id = n.key
        JOIN gapless.contracts c ON c.id = s.contract_id
        UNION ALL
        SELECT n.kind, n.key, 'derived', d.table_name
        FROM named n JOIN gapless.derived d ON n.kind = 'derived' AND d.name = n.name AND d.table_name IS NOT NULL
        UNION ALL
        SELECT n.kind, n.key, 'derived', t ->> 'stored_as'
        FROM named n JOIN gapless.programs p ON n.kind = 'program' AND p.name = n.name,
             jsonb_array_elements(p.tables) t
    ), sizes AS MATERIALIZED (
        SELECT m.nspname AS schema_name, p.relname AS table_name,
               greatest(pg_stat_get_live_tuples(p.oid), p.reltuples, 0) AS rows
        FROM pg_catalog.pg_class p JOIN pg_catalog.pg_namespace m ON m.oid = p.relnamespace
        WHERE p.relkind = 'r' AND m.nspname IN (SELECT schema_name FROM tables)
    )
    SELECT n.kind, n.name, n.key, n.active,
           coalesce(json_agg(json_build_array(t.schema_name, t.table_name)) FILTER (WHERE t.table_name IS NOT NULL),
                    '[]') AS tables,
           coalesce(sum(z.rows), 0)::bigint AS rows
    FROM named n LEFT JOIN tables t USING (kind, key) LEFT JOIN sizes z USING (schema_name, table_name)
    GROUP BY n.kind, n.name, n.key, n.active ORDER BY n.kind, n.name
""")


def find(connection: Connection, name: str) -> list[Droppable]:
    """All in the catalog that has a name: a contract, snapshot, chain, derived table, program or ``contract.Event``."""
    return _found(connection, name)


def retired(connection: Connection) -> list[Droppable]:
    """What the manifest names no longer, and whose data is still there; not apart what goes with its contract."""
    found = _found(connection, None)
    whole = {table for one in found if one.kind == "contract" for table in one.tables}
    return [
        one
        for one in found
        if one.kind in ("contract", "chain", "derived", "program") or not whole.issuperset(one.tables)
    ]


def _found(connection: Connection, name: str | None) -> list[Droppable]:
    """What has a name; None: all that is not active."""
    return [
        Droppable(row.kind, row.name, row.key, row.active, tuple((a, b) for a, b in row.tables), row.rows)
        for row in connection.execute(_FIND, {"name": name, "all": name is None})
    ]


def drop(engine: Engine, given: Droppable, *, patience: float = database.PATIENCE) -> None:
    """Deletes it: tables, coverage, and all that is kept about it. Killed, it is finished by the next run.

    Args:
        engine: the database.
        given: what :func:`find` found.
        patience: seconds for which each step is tried while others use what goes.

    Raises:
        DatabaseError: it is active, an indexer still works on it, or objects of another owner depend on its tables.
            Nothing was changed then, but by steps before.
        BusyError: others read its tables all the time; the same.
    """
    what = f"{given.kind} {given.name} cannot be dropped"
    if given.kind == "chain":
        drop_chain.delete_chain(
            engine,
            given.key,
            given.name,
            what=what,
            check=lambda connection: _refuse_active(_current(connection, given)),
            patience=patience,
        )
        return
    if given.kind in ("contract", "event", "snapshot"):
        while found := database.attempt(engine, what, partial(_delete_beside, given=given), patience=patience):
            log.info("%s %s: %d rows of shared tables deleted", given.kind, given.name, found)
    while left := database.attempt(engine, what, partial(_drop_some, given=given), patience=patience):
        log.info("%s %s: %d tables are left", given.kind, given.name, left)


def reset(
    engine: Engine,
    chain_id: int,
    name: str,
    *,
    patience: float = database.PATIENCE,
    follower: uuid.UUID | None = None,
) -> None:
    """Deletes all rows of a chain, and all that is known of its blocks, so that the manifest can be applied to it anew.

    Webhooks stay, and are told of the new chain from its start.

    Args:
        engine: the database.
        chain_id: the chain; one that the database does not know has nothing to delete.
        name: its name, for messages.
        patience: seconds for which each step is tried while others use what goes.
        follower: proves the lease of the caller, who follows the chain; None: no process may follow it.

    Raises:
        DatabaseError: an indexer, another one than the caller, follows it; nothing was changed then, but by steps
            before.
        BusyError: others hold its rows all the time; the same.
    """
    drop_chain.delete_chain(
        engine,
        chain_id,
        name,
        what=f"chain {name} cannot be reset",
        check=lambda _: None,
        patience=patience,
        begin_anew=True,
        follower=follower,
    )


def _current(connection: Connection, given: Droppable) -> Droppable:
    """What was found, as it is by now.

    Raises:
        DatabaseError: it is gone.
    """
    for one in find(connection, given.name):
        if (one.kind, one.key) == (given.kind, given.key):
            return one
    raise DatabaseError(f"{given.kind} {given.name} is gone already")


def _refuse_active(current: Droppable) -> None:
    if current.active:
        raise DatabaseError(
            f"{current.kind} {current.name} is in the manifest that was applied last",
            hint="take it out of the manifest and start gapless run, which ends it"
            if current.kind == "program"
            else "take it out of the manifest and run: gapless apply",
        )


def _drop_some(connection: Connection, given: Droppable) -> int:
    """Drops some tables with what is known of them, and with the last all the rest; returns how many are left."""
    current = _current(connection, given)
    _refuse_active(current)
    if current.kind in ("derived", "program"):
        return _drop_derived(connection, current)
    if current.kind in ("contract", "event"):
        children.forget_announcements(connection, current.name.partition(".")[0])
    # Those of the view first: it is taken away and made anew once.
    shown = transfers.shown_tables(connection)
    names = sorted(current.tables, key=lambda table: table not in shown)
    some, left = names[:STEP], len(names[STEP:])
    is_shown = not shown.isdisjoint(some)
    try:
        if is_shown:
            transfers.drop_view(connection)
        readable_views.drop(connection, some)
        if current.kind in ("contract", "event"):
            views.forget_reading(connection, _events(connection, current))
        _drop_tables(connection, some)
        if current.kind == "contract":
            _forget_tables(connection, current.key, some)
            if not left:
                _drop_contract(connection, current.key)
        elif current.kind == "event":
            ledgers.forget_events(connection, [current.key])
            connection.execute(sa.delete(tables.events).where(tables.events.c.id == current.key))
        else:
            connection.execute(sa.delete(tables.series).where(tables.series.c.id == current.key))
    except psycopg.errors.DependentObjectsStillExist as error:
        raise DatabaseError(
            f"{given.kind} {given.name}: other objects depend on its tables: {error.diag.message_detail}",
            hint="drop those first; they are not Gapless' own",
        ) from None
    if is_shown:
        transfers.renew_view(connection)
    hold_for_change(connection, wait=database.WAIT)
    end_change(connection)
    return left


def _delete_beside(connection: Connection, given: Droppable) -> int:
    """Deletes some of the rows of static tables that go with it, where dropping it would delete very many at once.

    Returns:
        How many went; 0: so few are left that they go with the rest.
    """
    current = _current(connection, given)
    _refuse_active(current)
    values: dict[str, Any] = {
        "events": _events(connection, current),
        "series": _series(connection, current),
        "contract": current.key if current.kind == "contract" else None,
        "rows": drop_chain.ROWS,
    }
    left = connection.execute(_LEFT, values).scalar_one()
    if left <= drop_chain.ROWS:
        return 0
    if connection.execute(_IS_BELIEVED, {**values, "never": drop_chain.NEVER}).scalar_one():
        _require_droppable(connection, current)
        for statement in _RETIRE:
            connection.execute(statement, {**values, "never": drop_chain.NEVER})
        hold_for_change(connection, wait=database.WAIT)
        end_change(connection)
    elif current.kind == "snapshot":
        _require_droppable(connection, current)
    deleted = 0
    for table, condition in _BESIDE:
        statement = sa.text(
            f"DELETE FROM gapless.{table} WHERE ctid = ANY(ARRAY("
            f"SELECT ctid FROM gapless.{table} WHERE {condition} LIMIT :rows))"
        )
        deleted += connection.execute(statement, {**values, "rows": drop_chain.ROWS - deleted}).rowcount
    return deleted


def _require_droppable(connection: Connection, current: Droppable) -> None:
    """Drops its first tables and takes that back: what is refused is refused before anything has gone.

    Raises:
        DatabaseError: objects of another owner depend on them.
    """
    with psycopg_connection(connection).transaction() as trial:
        _drop_some(connection, current)
        raise psycopg.Rollback(trial)


_OF_EVENTS: Final = "event_id = ANY(CAST(:events AS integer[]))"
_BESIDE: Final = (
    ("undecoded_logs", _OF_EVENTS),
    ("foreign_shapes", _OF_EVENTS),
    ("children", "contract_id = CAST(:contract AS integer)"),
    # A point that is read again displaces the rows that its series has left of it.
    ("series_points", "series_id = ANY(CAST(:series AS integer[]))"),
)
_LEFT: Final = sa.text(
    "SELECT count(*) FROM ("
    + " UNION ALL ".join(f"(SELECT FROM gapless.{table} WHERE {where} LIMIT :rows + 1)" for table, where in _BESIDE)
    + ") AS rows"
)
_IS_BELIEVED: Final = sa.text(
    f"SELECT EXISTS (SELECT FROM gapless.sources WHERE {_OF_EVENTS} AND place <> CAST(:never AS jsonb))"
)
_RETIRE: Final = (
    sa.text(f"UPDATE gapless.sources SET verified = '{{}}', place = CAST(:never AS jsonb) WHERE {_OF_EVENTS}"),
    sa.text(f"DELETE FROM gapless.digests WHERE source_id IN (SELECT id FROM gapless.sources WHERE {_OF_EVENTS})"),
    sa.text(
        "UPDATE gapless.deployments SET included = '{}', adopted = adopted AND factories IS NULL "
        "WHERE contract_id = CAST(:contract AS integer)"
    ),
)


def _drop_derived(connection: Connection, current: Droppable) -> int:
    if current.kind == "derived":
        views.drop(connection, current.name)
    else:
        for one in program_generations.load(connection, current.name):
            program_generations.forget(connection, one)
    hold_for_change(connection, wait=database.WAIT)
    end_change(connection)
    return 0


def _events(connection: Connection, current: Droppable) -> Sequence[int]:
    return [current.key] if current.kind == "event" else _of_contract(connection, current, tables.events)


def _series(connection: Connection, current: Droppable) -> Sequence[int]:
    return [current.key] if current.kind == "snapshot" else _of_contract(connection, current, tables.series)


def _of_contract(connection: Connection, current: Droppable, table: sa.Table) -> Sequence[int]:
    if current.kind != "contract":
        return []
    return connection.execute(sa.select(table.c.id).where(table.c.contract_id == current.key)).scalars().all()


def _drop_tables(connection: Connection, names: Sequence[tuple[str, str]]) -> None:
    driver = psycopg_connection(connection)
    for schema_name, table_name in names:
        driver.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(schema_name, table_name)))


def _forget_tables(connection: Connection, contract_id: int, names: Sequence[tuple[str, str]]) -> None:
    """Deletes a contract's events and series whose tables are dropped; what is known of them goes with them."""
    dropped = [table_name for _, table_name in names]
    for table in (tables.events, tables.series):
        of_them = sa.and_(table.c.contract_id == contract_id, table.c.table_name.in_(dropped))
        if table is tables.events:
            ids = connection.execute(sa.select(table.c.id).where(of_them)).scalars().all()
            ledgers.forget_events(connection, ids)
        connection.execute(sa.delete(table).where(of_them))


def _drop_contract(connection: Connection, contract_id: int) -> None:
    contracts = tables.contracts
    schema_name = connection.execute(
        sa.delete(contracts).where(contracts.c.id == contract_id).returning(contracts.c.schema_name)
    ).scalar_one()
    psycopg_connection(connection).execute(
        sql.SQL("DROP SCHEMA IF EXISTS {} RESTRICT").format(sql.Identifier(schema_name))
    )
