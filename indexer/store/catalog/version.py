"""The version of the catalog, and the lock by which it changes.

A transaction that writes by the catalog makes sure, last of all, that the version is still the one that it planned by
(:func:`writing_by`). A change of the catalog takes the lock for itself, last of all too: neither waits for longer than
the other's commit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.errors import GaplessError
from indexer.store.database import psycopg_connection


class CatalogChangedError(GaplessError):
    """The catalog is no longer the one by which something was planned: plan again."""


class CatalogBusyError(CatalogChangedError):
    """A change of the catalog was being committed for longer than a writer waits: nothing was written, plan again."""


# Held exclusively by the transaction that changes the catalog, shared by each one that writes by it while it commits.
# Advisory, and not the lock of the catalog's row: advisory locks are granted in the order in which they were asked for,
# while writers that share a row's lock one after the other can keep a change away for ever.
_CATALOG_LOCK: Final = 0x6761706C617070

#: Seconds that a writer that is done waits for a change of the catalog that is being committed.
WRITER_WAIT: Final = 5.0

# What a table that was dropped, or a contract whose rows in the catalog are gone, looks like to those who write there.
_GONE = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.ForeignKeyViolation,
)


def load_version(connection: Connection) -> int:
    """The version of the catalog; read it before what depends on it."""
    version: int = connection.execute(sa.text("SELECT version FROM gapless.catalog")).scalar_one()
    return version


def hold_version(connection: Connection, version: int) -> None:
    """Makes sure that the catalog is still the one by which a transaction was planned, and stays so until it ends.

    The last thing that the transaction does: every lock that it waited for is held by then, so that nothing is written
    by a catalog that was changed during the wait, and a change of the catalog waits for a commit only.

    Raises:
        CatalogChangedError: it is another one already.
        CatalogBusyError: a change was being committed for :data:`WRITER_WAIT` seconds.
    """
    try:
        # One question. The version is read by a statement of its own, which sees what was committed during the wait.
        cursor = psycopg_connection(connection).execute(
            f"SET LOCAL lock_timeout = {int(WRITER_WAIT * 1000)}; "
            f"SELECT pg_advisory_xact_lock_shared({_CATALOG_LOCK}); SELECT version FROM gapless.catalog"
        )
    except psycopg.errors.LockNotAvailable:
        raise CatalogBusyError("the manifest is being applied; nothing was written, trying again") from None
    while cursor.nextset():
        pass
    if cursor.fetchone() != (version,):
        raise CatalogChangedError("the manifest was applied anew meanwhile; planning again")


@dataclass(slots=True)
class Writing:
    """A transaction that writes by the catalog.

    Attributes:
        forgets: whether those who work by the catalog hold something in memory that this transaction makes untrue: they
            read the catalog anew once it is committed.
    """

    forgets: bool = False


@contextmanager
def writing_by(connection: Connection, version: int) -> Iterator[Writing]:
    """Around all that a transaction writes by the catalog; nothing but the commit may follow.

    Args:
        connection: in a transaction.
        version: of the catalog by which it was planned.

    Raises:
        CatalogChangedError: the catalog is another one now, or what is written to is gone; nothing may be committed.
    """
    writing = Writing()
    try:
        yield writing
    except (psycopg.Error, sa.exc.DBAPIError) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        if not isinstance(cause, _GONE):
            raise
        what = cause.diag.message_primary or str(cause)
        raise CatalogChangedError(f"it was dropped meanwhile ({what}); planning again") from None
    if writing.forgets:
        advance_version(connection, version)
    else:
        hold_version(connection, version)


def advance_version(connection: Connection, version: int) -> None:
    """Make every process that works by the catalog read it anew; waits for those that are committing by it.

    The last thing that the transaction does.

    Raises:
        CatalogChangedError: it is another one already.
        CatalogBusyError: a change was being committed for :data:`WRITER_WAIT` seconds.
    """
    try:
        hold_for_change(connection, wait=WRITER_WAIT)
    except psycopg.errors.LockNotAvailable:
        raise CatalogBusyError("the manifest is being applied; nothing was written, trying again") from None
    if load_version(connection) != version:
        raise CatalogChangedError("the manifest was applied anew meanwhile; planning again")
    _bump(connection)


def hold_for_change(connection: Connection, *, wait: float) -> None:
    """Begin a change of the catalog: writers that work by it do not commit before it ends, so it must be short.

    Args:
        connection: in a transaction; no lock is waited for longer than ``wait`` in the rest of it.
        wait: seconds.

    Raises:
        psycopg.errors.LockNotAvailable: others held it for longer.
    """
    psycopg_connection(connection).execute(
        f"SET LOCAL lock_timeout = {int(wait * 1000)}; SELECT pg_advisory_xact_lock({_CATALOG_LOCK})"
    )


def end_change(connection: Connection) -> None:
    """Ends a change of the catalog: every process reads it anew once the transaction is committed."""
    _bump(connection)


def _bump(connection: Connection) -> None:
    connection.execute(sa.text("UPDATE gapless.catalog SET version = version + 1"))
