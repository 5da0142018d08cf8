"""What a failure of Postgres means for the operator: COPY and DDL go past SQLAlchemy, and so do their errors."""

import psycopg
import sqlalchemy as sa

from indexer.store.database import DatabaseError
from indexer.store.lag import DISK_FULL

_HINTS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    (
        (psycopg.errors.DiskFull,),
        "make room on the disk of Postgres and run it again: nothing that was committed is lost, "
        "and what was under way is done anew",
    ),
    (
        (psycopg.errors.ReadOnlySqlTransaction,),
        "it is a standby, or default_transaction_read_only is on there: point DATABASE_URL to the primary, or switch "
        "that off; nothing was written",
    ),
    (
        (psycopg.errors.InsufficientPrivilege,),
        "the user of DATABASE_URL must own the database, or be allowed to create schemas in it",
    ),
    (
        (psycopg.errors.IdleInTransactionSessionTimeout,),
        "this process stood still in the middle of a transaction (suspended, or starved), and Postgres ended that for "
        "those who wait for it; run it again: nothing that was committed is lost",
    ),
    (
        (psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown, psycopg.errors.CannotConnectNow),
        "Postgres was shut down or is starting; run it again when it answers: nothing that was committed is lost",
    ),
    (
        (psycopg.errors.InsufficientResources, psycopg.errors.OutOfMemory, psycopg.errors.TooManyConnections),
        "Postgres ran out of a resource; run it again when it is free: nothing that was committed is lost",
    ),
    (
        (psycopg.OperationalError, psycopg.InterfaceError),
        "the connection to Postgres was lost; run it again when it answers: nothing that was committed is lost",
    ),
)


_ENDED = (psycopg.errors.IdleInTransactionSessionTimeout, psycopg.errors.AdminShutdown)


def is_lost_session(error: BaseException) -> bool:
    """Whether a session was ended from outside, as that of a process that stood still is: a new one may do the same."""
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    # Where Postgres' last words were not read, there is no SQLSTATE.
    return isinstance(cause, _ENDED) or (isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None)


def describe(error: BaseException) -> DatabaseError | None:
    """Turns a failure of Postgres that is no defect of ours into something to act upon.

    Returns:
        None for every other error, a broken statement among them.
    """
    cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    for kinds, hint in _HINTS:
        if isinstance(cause, kinds):
            lines = str(cause).strip().splitlines()
            return DatabaseError(f"Postgres: {lines[0] if lines else type(cause).__name__}", hint=hint)
    return None


def refuses_changes(error: BaseException) -> str | None:
    """Why Postgres takes no changes at all, as far as a failure tells; None: it does, or the failure says nothing."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, psycopg.errors.DiskFull):
        return f"{DISK_FULL} ({str(cause).strip().splitlines()[0]}); make room there, then it goes on"
    if isinstance(cause, psycopg.errors.ReadOnlySqlTransaction):
        return "Postgres takes no changes: it is a standby, or default_transaction_read_only is on there"
    return None
