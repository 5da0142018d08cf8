"""What kind of Postgres stands behind DATABASE_URL: whether it can be used, and whether it takes changes."""

import logging
import threading
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from indexer.store.database import DatabaseError

log = logging.getLogger(__name__)

OLDEST: Final = 14
"""Multiranges, which coverage is kept in, came with this major version."""

_LOOK_EVERY: Final = 2.0


def require_usable(connection: Connection) -> None:
    """Refuses a server or a database that Gapless cannot work with.

    Raises:
        DatabaseError: naming what it is and what is needed.
    """
    version, encoding, name = connection.execute(
        sa.text(
            "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), current_database()"
        )
    ).one()
    if version < OLDEST * 10_000:
        raise DatabaseError(
            f"Postgres there is of version {version // 10_000}; Gapless needs {OLDEST} or newer",
            hint="upgrade the server, or unset DATABASE_URL to use the embedded Postgres",
        )
    if encoding != "UTF8":
        raise DatabaseError(
            f"the database {name} has the encoding {encoding}; names of tokens and texts of events need UTF8",
            hint=f"make another one: CREATE DATABASE {name}_utf8 ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0",
        )


def refuses_changes(connection: Connection) -> str | None:
    """Why the database takes no changes, or None where it does."""
    is_standby, is_read_only = connection.execute(
        sa.text("SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'")
    ).one()
    if is_standby:
        return "it is a standby of another server"
    if is_read_only:
        return "default_transaction_read_only is on there"
    return None


def wait_for_changes(engine: Engine, stop: threading.Event) -> bool:
    """Waits until the database takes changes, and says so once.

    Returns:
        False if it was stopped before.

    Raises:
        sqlalchemy.exc.DBAPIError: Postgres could not be asked.
    """
    told = ""
    while not stop.is_set():
        with engine.connect() as connection:
            why = refuses_changes(connection)
        if why is None:
            if told:
                log.info("the database takes changes again")
            return True
        if why != told:
            log.warning(
                "the database takes no changes: %s; waiting until it does (DATABASE_URL must lead to the primary)", why
            )
        told = why
        engine.dispose()  # a session keeps the default with which it began
        stop.wait(_LOOK_EVERY)
    return False


def is_pooled_by_transaction(engine: Engine) -> bool:
    """Whether a pooler stands in between that gives each transaction another session (pgbouncer's transaction mode).

    While one connection holds a session in a transaction, another must be served by another one: where a pooler hands
    out sessions anew with each transaction, the one that was used last comes first.
    """
    pid = sa.text("SELECT pg_backend_pid()")
    with engine.connect() as one, engine.connect() as other:
        before = other.execute(pid).scalar_one()
        other.rollback()
        one.execute(pid)
        after = other.execute(pid).scalar_one()
        return bool(before != after)
