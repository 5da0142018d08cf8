"""Deleting a chain: its rows in all tables, and all that is known of it; in bounded steps, each committed.

The first step retires the chain's sources, with a where that no manifest can declare, so that nothing is served or
believed of it any more. Rows that are left after a kill are theirs, and are displaced where the chain is indexed again.
Then the rows go, some tables or some thousands of rows at a time. What is known of the blocks, and the chain itself,
goes last, so that the next run finds the chain and finishes. A chain that is to begin anew keeps its row, its follower
and its webhooks, which begin anew as well.
"""

import json
import logging
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.store import database
from indexer.store.catalog.declaration import Place
from indexer.store.catalog.version import CatalogChangedError, end_change, hold_for_change, load_version, writing_by
from indexer.store.database import BusyError, DatabaseError, psycopg_connection
from indexer.store.derived import generations
from indexer.store.head import state
from indexer.store.schema import tables

log = logging.getLogger(__name__)

#: Tables that one transaction deletes from: it locks each of them, with all of its indexes, until it ends.
STEP: Final = 50
#: Rows that one transaction deletes.
ROWS: Final = 50_000
#: How often the tables are listed anew where another process changes the catalog at the same time.
_MOST_ROUNDS: Final = 20

#: By no rule that can be declared: what such a source covers is never believed again.
NEVER: Final = json.dumps(Place("factory").to_json())
#: Static tables that may have very many rows of a chain, on which no writer goes on by mistake once its sources are
#: gone.
_LARGE: Final = ("undecoded_logs", "foreign_shapes", "transactions", "block_details", "children")

#: The position of a webhook that was told of nothing: block 0 bears no log.
_START: Final = "0-0"


def delete_chain(
    engine: Engine,
    chain_id: int,
    name: str,
    *,
    what: str,
    check: Callable[[Connection], None],
    patience: float,
    begin_anew: bool = False,
    follower: uuid.UUID | None = None,
) -> None:
    """Deletes all rows of a chain and all that is known of it. Killed, it is finished by the next run.

    Args:
        engine: the database.
        chain_id: the chain; one that the database does not know has nothing to delete.
        name: its name, for messages.
        what: for people, what cannot be done while others hold what goes.
        check: refuses in every step, by a DatabaseError, a chain that must not be deleted.
        patience: seconds for which each step is tried while others use what goes.
        begin_anew: whether the chain itself stays, with nothing known of its blocks.
        follower: proves the lease of the caller, who follows the chain; None: no process may follow it.

    Raises:
        DatabaseError: an indexer follows it, another one than the caller, or a manifest that wants it was
            applied; what was deleted before is gone.
        BusyError: others hold its rows all the time; the same.
    """
    attempt = partial(database.attempt, engine, what, patience=patience)

    def begin(connection: Connection) -> None:
        check(connection)
        _keep_away(connection, chain_id, name, follower)
        _retire(connection, chain_id)
        hold_for_change(connection, wait=database.WAIT)
        end_change(connection)

    def end(connection: Connection) -> None:
        check(connection)
        _keep_away(connection, chain_id, name, follower)
        _require_retired(connection, chain_id, name)
        # From those that refer to others to those that are referred to.
        kept = (tables.chains, tables.webhooks) if begin_anew else ()
        for table in reversed(tables.metadata.sorted_tables):
            if "chain_id" in table.c and table not in kept:
                connection.execute(sa.delete(table).where(table.c.chain_id == chain_id))
        if begin_anew:
            _begin_anew(connection, chain_id)
        hold_for_change(connection, wait=database.WAIT)
        end_change(connection)

    def step(connection: Connection, names: Sequence[sql.Identifier]) -> int:
        with writing_by(connection, load_version(connection)):
            check(connection)
            _keep_away(connection, chain_id, name, follower)
            _require_retired(connection, chain_id, name)
            return _delete_some(connection, chain_id, names)

    def forget_points(connection: Connection) -> int:
        check(connection)
        _keep_away(connection, chain_id, name, follower)
        # Those that are read again displace the rows that their series have left of them.
        return _delete_some(connection, chain_id, [sql.Identifier(tables.SCHEMA, "series_points")])

    while not attempt(forget_points):
        pass
    attempt(begin)
    for _ in range(_MOST_ROUNDS):
        try:
            with engine.connect() as connection:
                names = _all_tables(connection)
            at = 0
            while at < len(names):
                at += attempt(partial(step, names=names[at : at + STEP]))
            return attempt(end)
        except CatalogChangedError as error:
            log.info("chain %s: %s", name, error)
    raise BusyError(f"{what}: other processes change the catalog all the time", hint="run it again to finish it")


def _keep_away(connection: Connection, chain_id: int, name: str, follower: uuid.UUID | None) -> None:
    if not state.keep_away(connection, chain_id, follower):
        raise DatabaseError(
            f"chain {name} is still being followed by an indexer",
            hint="stop it, or take the chain out of its manifest; then run this again",
        )


def _retire(connection: Connection, chain_id: int) -> None:
    for statement in (
        "UPDATE gapless.sources SET active = false, verified = '{}', place = CAST(:never AS jsonb) "
        "WHERE chain_id = :chain_id",
        "DELETE FROM gapless.digests WHERE source_id IN (SELECT id FROM gapless.sources WHERE chain_id = :chain_id)",
        "UPDATE gapless.deployments SET included = '{}', adopted = adopted AND factories IS NULL "
        "WHERE chain_id = :chain_id",
        "DELETE FROM gapless.ledgers WHERE chain_id = :chain_id",
        "DELETE FROM gapless.derived_progress WHERE chain_id = :chain_id",
        "DELETE FROM gapless.earlier_transfers WHERE chain_id = :chain_id",
        "DELETE FROM gapless.series_points WHERE chain_id = :chain_id",
    ):
        values = {"chain_id": chain_id, "never": NEVER}
        connection.execute(sa.text(statement), {key: value for key, value in values.items() if f":{key}" in statement})


def _begin_anew(connection: Connection, chain_id: int) -> None:
    """Makes what stays of a chain as of one that was never looked at; its epoch still fences former followers off."""
    forgotten = {column.name: None for column in tables.chains.c if column.nullable and column.name != "follower"}
    connection.execute(
        sa.update(tables.chains).where(tables.chains.c.chain_id == chain_id).values({**forgotten, "state": "starting"})
    )
    # A message that was not acknowledged tells of rows that are gone, and a position may be one that never comes.
    connection.execute(
        sa.text(
            "UPDATE gapless.webhooks SET position = :start, told_block = NULL, looked = NULL, message_id = NULL, "
            "message_type = NULL, message = NULL, message_position = NULL, failures = 0, due_at = now() "
            "WHERE chain_id = :chain_id"
        ),
        {"chain_id": chain_id, "start": _START},
    )


def _require_retired(connection: Connection, chain_id: int, name: str) -> None:
    """No other source has come since the first step, and none can until this transaction ends, or it is undone."""
    others = connection.execute(
        sa.text(
            "SELECT EXISTS (SELECT FROM gapless.sources "
            "WHERE chain_id = :chain_id AND (active OR place <> CAST(:never AS jsonb)))"
        ),
        {"chain_id": chain_id, "never": NEVER},
    ).scalar_one()
    if others:
        raise DatabaseError(
            f"chain {name}: a manifest that wants it was applied while it was being deleted; it is deleted in part",
            hint="nothing wrong is served: what is missing is fetched again. To delete it, stop what applies that "
            "manifest and run this again",
        )


def _all_tables(connection: Connection) -> list[sql.Identifier]:
    rows = connection.execute(
        sa.text("""
            SELECT c.schema_name, e.table_name FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
            UNION ALL
            SELECT c.schema_name, s.table_name FROM gapless.series s JOIN gapless.contracts c ON c.id = s.contract_id
        """)
    )
    own = [sql.Identifier(row.schema_name, row.table_name) for row in rows]
    own += [table for one in generations.load(connection) for table in one.identifiers]
    return own + [sql.Identifier(tables.SCHEMA, name) for name in _LARGE]


def _delete_some(connection: Connection, chain_id: int, names: Sequence[sql.Identifier]) -> int:
    """Deletes some rows of a chain; returns how many of the tables have none left, from the first on."""
    driver, left = psycopg_connection(connection), ROWS
    for at, name in enumerate(names):
        statement = sql.SQL(
            "DELETE FROM {0} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {0} WHERE chain_id = %s LIMIT %s))"
        ).format(name)
        left -= driver.execute(statement, (chain_id, left)).rowcount
        if left <= 0:
            return at
    return len(names)
