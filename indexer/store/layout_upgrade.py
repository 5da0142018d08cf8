"""Bring the tables of events to the current layout (:data:`indexer.store.layout.LAYOUT_VERSION`).

Version 2 keeps ``tx_index`` and ``log_index`` as ``bigint``. Postgres rewrites a table for that and nobody reads it
meanwhile, so each table has a transaction of its own: an upgrade that is interrupted goes on where it was.
"""

import logging
import time
from collections.abc import Callable

import psycopg.errors
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.store import transfers
from indexer.store.database import DatabaseError, psycopg_connection
from indexer.store.layout import LAYOUT_VERSION

log = logging.getLogger(__name__)

# A reader may hold a table for so long, in all, before the upgrade gives up: rounds of LOCK_TIMEOUT and a pause.
_ROUNDS = 30
_LOCK_TIMEOUT = "2s"
_PAUSE = 1.0

_OUTDATED = sa.text("""
    SELECT e.id, c.schema_name, e.table_name FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
    WHERE e.layout_version < :version ORDER BY e.id
""")


def outdated(connection: Connection) -> list[tuple[int, str, str]]:
    """The tables of an earlier layout: the event's id, the schema and the table."""
    rows = connection.execute(_OUTDATED, {"version": LAYOUT_VERSION})
    return [(row.id, row.schema_name, row.table_name) for row in rows]


def upgrade(engine: Engine, *, sleep: Callable[[float], object] = time.sleep) -> int:
    """Upgrade all tables of an earlier layout; the view of transfers is not there meanwhile.

    Args:
        engine: the database, with the current static schema.
        sleep: sleeps for seconds, while a table is being read.

    Returns:
        How many tables were upgraded.

    Raises:
        DatabaseError: a table is in use or a view of the operator's depends on it; what was upgraded stays so.
    """
    with engine.connect() as connection:
        waiting = outdated(connection)
    count = len(waiting)
    for _ in range(_ROUNDS):
        waiting = [one for one in waiting if not _upgraded(engine, *one)]
        if not waiting:
            break
        sleep(_PAUSE)
    else:
        names = ", ".join(f"{schema}.{table}" for _, schema, table in waiting)
        raise DatabaseError(
            f"tables are being read and could not be upgraded to layout {LAYOUT_VERSION}: {names}",
            hint="end the open transactions (pg_stat_activity), then run: gapless migrate. What was upgraded stays so",
        )
    with engine.begin() as connection:
        if count or transfers.is_missing(connection):
            transfers.drop_view(connection)
            transfers.renew_view(connection)
    return count


def _upgraded(engine: Engine, event_id: int, schema: str, table: str) -> bool:
    """Upgrade one table, or say that somebody is reading it."""
    try:
        with engine.begin() as connection:
            driver = psycopg_connection(connection)
            driver.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
            # Another process may have upgraded it: the event's row is locked first.
            version = connection.execute(
                sa.text("SELECT layout_version FROM gapless.events WHERE id = :id FOR UPDATE"), {"id": event_id}
            ).scalar_one_or_none()
            if version is None or version >= LAYOUT_VERSION:
                return True
            log.info("%s.%s is upgraded to layout %d", schema, table, LAYOUT_VERSION)
            transfers.drop_view(connection)
            driver.execute(
                sql.SQL("ALTER TABLE {} ALTER tx_index TYPE bigint, ALTER log_index TYPE bigint").format(
                    sql.Identifier(schema, table)
                )
            )
            connection.execute(
                sa.text("UPDATE gapless.events SET layout_version = :version WHERE id = :id"),
                {"version": LAYOUT_VERSION, "id": event_id},
            )
    except psycopg.errors.LockNotAvailable:
        return False
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.DependentObjectsStillExist) as error:
        said = f"{error.diag.message_primary}: {error.diag.message_detail}"
    else:
        return True
    raise DatabaseError(
        f"{schema}.{table} cannot be upgraded to layout {LAYOUT_VERSION}: {said}",
        hint="drop that view, run: gapless migrate, and make the view again. What was upgraded stays so",
    )
