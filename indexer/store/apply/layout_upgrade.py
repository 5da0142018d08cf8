"""Bring the tables of events to the current layout (:data:`indexer.store.schema.layout.LAYOUT_VERSION`).

Version 2 keeps ``tx_index`` and ``log_index`` as ``bigint``. Postgres rewrites a table for that and it cannot be read
meanwhile, so each table has a transaction of its own: an upgrade that is interrupted goes on where it was.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psycopg.errors
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.store import lock_waits
from indexer.store.database import DatabaseError, psycopg_connection
from indexer.store.lock_waits import PATIENCE
from indexer.store.schema.layout import LAYOUT_VERSION
from indexer.store.tokens import transfers

log = logging.getLogger(__name__)

_OUTDATED = sa.text("""
    SELECT e.id, c.schema_name, e.table_name FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
    WHERE e.layout_version < :version ORDER BY e.id
""")

_IS_VIEW_OLD = sa.text("""
    SELECT EXISTS (SELECT FROM information_schema.columns WHERE table_schema = 'gapless' AND table_name = 'transfers'
                   AND column_name = 'log_index' AND data_type = 'integer')
""")


def outdated(connection: Connection) -> list[tuple[int, str, str]]:
    """The tables of an earlier layout: the event's id, the schema and the table."""
    rows = connection.execute(_OUTDATED, {"version": LAYOUT_VERSION})
    return [(row.id, row.schema_name, row.table_name) for row in rows]


def upgrade(engine: Engine, *, patience: float = PATIENCE) -> int:
    """Upgrade all tables of an earlier layout; the view of transfers is not there meanwhile.

    Args:
        engine: the database, with the current static schema.
        patience: seconds for which a table that is being read is tried again.

    Returns:
        How many tables were upgraded.

    Raises:
        DatabaseError: a table is in use or a view of the operator's depends on it; what was upgraded stays so.
    """
    with engine.connect() as connection:
        waiting = outdated(connection)
        is_view_old = connection.execute(_IS_VIEW_OLD).scalar_one()
    for event_id, schema, table in waiting:
        with _explained(f"{schema}.{table}"):
            lock_waits.attempt(
                engine,
                f"{schema}.{table} cannot be upgraded to layout {LAYOUT_VERSION} (gapless migrate)",
                partial(_upgrade, event_id=event_id, name=sql.Identifier(schema, table)),
                patience=patience,
            )
        log.info("%s.%s was upgraded to layout %d", schema, table, LAYOUT_VERSION)
    if waiting or is_view_old:
        with _explained("gapless.transfers"):
            lock_waits.attempt(engine, "the view gapless.transfers cannot be made anew", transfers.drop_view)
        transfers.keep_view(engine)
    return len(waiting)


def _upgrade(connection: Connection, *, event_id: int, name: sql.Identifier) -> None:
    # Another process may have upgraded it: the event's row is locked first.
    version = connection.execute(
        sa.text("SELECT layout_version FROM gapless.events WHERE id = :id FOR UPDATE"), {"id": event_id}
    ).scalar_one_or_none()
    if version is None or version >= LAYOUT_VERSION:
        return
    transfers.drop_view(connection)
    psycopg_connection(connection).execute(
        sql.SQL("ALTER TABLE {} ALTER tx_index TYPE bigint, ALTER log_index TYPE bigint").format(name)
    )
    connection.execute(
        sa.text("UPDATE gapless.events SET layout_version = :version WHERE id = :id"),
        {"version": LAYOUT_VERSION, "id": event_id},
    )


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Say what to do where a view of the operator's is in the way."""
    try:
        yield
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.DependentObjectsStillExist) as error:
        said = f"{error.diag.message_primary}: {error.diag.message_detail}"
    else:
        return
    raise DatabaseError(
        f"{name} cannot be upgraded to layout {LAYOUT_VERSION}: {said}",
        hint="drop that view, run: gapless migrate, and make the view again. What was upgraded stays so",
    )
