"""What kind of Postgres stands behind DATABASE_URL: whether it can be used, and whether it takes changes."""

import logging
import threading
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from indexer.store.database import DatabaseError, is_pooled, psycopg_connection

log = logging.getLogger(__name__)

OLDEST: Final = 15
"""The oldest major version that the tests were run on; multiranges, which coverage is kept in, came with 14."""

_LOOK_EVERY: Final = 2.0
_LOOKS: Final = 5


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

    Two connections that are open at the same time are never served by one process otherwise, nor one by two.
    """
    pid = sa.text("SELECT pg_backend_pid()")
    with engine.connect() as one, engine.connect() as other:
        if not is_pooled(psycopg_connection(one)):
            return False
        seen: tuple[set[int], set[int]] = set(), set()
        for _ in range(_LOOKS):  # other clients of the pooler may take the session that was just used
            for connection, pids in zip((one, other), seen, strict=True):
                connection.rollback()
                pids.add(connection.execute(pid).scalar_one())
                connection.rollback()
        return bool(seen[0] & seen[1]) or max(map(len, seen)) > 1


def warn_of_pooler(engine: Engine) -> None:
    """Says so where each transaction has another session: all works there, but some of what protects it does not."""
    if is_pooled_by_transaction(engine):
        log.warning(
            "a pooler in transaction mode stands before Postgres: sessions keep no time-outs there, and a process "
            "that is frozen keeps its locks longer; set DATABASE_DIRECT_URL to Postgres' own address, which all "
            "commands but gapless serve then use"
        )
