"""Connections to Postgres, transactions that wait for locks briefly, and what failures mean for the operator.

SQLAlchemy Core speaks to the static tables; ``COPY`` and DDL of event tables go through the psycopg connection
underneath, in the same transaction (:func:`psycopg_connection`), and so do their errors (:func:`describe_error`).

What must lock a table or the catalog against others (DDL, a change of the catalog) runs in :func:`attempt`: everything
that comes after it would queue behind its wait, so it gives up after :data:`WAIT` seconds, lets the queue pass, and
comes again.
"""

import itertools
import os
import re
import secrets
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import psycopg
import psycopg.abc
import psycopg.adapt
import sqlalchemy as sa
import tenacity
from psycopg.types.json import Jsonb
from sqlalchemy.engine import Connection, Engine

from indexer.errors import GaplessError
from indexer.store.lag import DISK_FULL

CONNECT_TIMEOUT_SECONDS = 10

#: As Postgres writes times that are beyond the years 1 to 9999.
_OUT_OF_RANGE: Final = re.compile(rb"(-)?infinity|[0-9]{5,6}-\S+ \S+|[0-9]{4}-\S+ \S+( BC)")

_MARK = secrets.token_hex(3)  # two containers may share a host's name and a process's number


class DatabaseError(GaplessError):
    """Postgres cannot be used as it is."""


# What each connection is told when it is opened, by statements: a pooler in between knows few startup parameters.
# A session whose process is frozen, or whose machine is gone, must not keep its locks for longer than seconds
# (:mod:`indexer.store.leases` has the rest).
_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "10s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": "30s",
}
# What roles and databases have for those who ask by hand: building an index, or a large chunk, takes its time.
_UNLIMITED = ("statement_timeout", "transaction_timeout", "lock_timeout", "idle_session_timeout")
# The same of our end, so that a request to a machine that is gone does not wait for hours either.
_KEEPALIVES = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}


def process_name(command: str) -> str:
    """A name for the connections of this process that no other process has, within Postgres' 63 bytes."""
    host = socket.gethostname().encode("ascii", "replace").decode()[:24]
    return f"{command[:20]} {os.getpid()}@{host} {_MARK}"


def create_engine(url: str, *, application_name: str = "gapless", pool_size: int = 5) -> Engine:
    """Makes an engine for a ``postgresql://`` URL; connects to nothing yet.

    Connections are checked before use, so that one which Postgres closed (a restart) is replaced silently. What the
    URL's own parameters say (``options``, ``sslmode``, keepalives) stays; an ``application_name`` there stands before
    ours.
    """
    parsed = sa.engine.make_url(url)
    if not parsed.drivername.startswith(("postgresql", "postgres")):
        raise DatabaseError(
            f"DATABASE_URL has the scheme {parsed.drivername!r}; Gapless stores in PostgreSQL",
            hint="use postgresql://user:password@host:5432/database",
        )
    given = parsed.query
    defaults: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_SECONDS, "client_encoding": "utf8", **_KEEPALIVES}
    name = f"{given['application_name']} {application_name}" if "application_name" in given else application_name
    engine = sa.create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        # Said with every BEGIN: a transaction that waited for a lock must see what was committed meanwhile, whatever
        # the defaults of the database, the role or a pooler's session are.
        isolation_level="READ COMMITTED",
        connect_args={key: value for key, value in defaults.items() if key not in given} | {"application_name": name},
    )
    sa.event.listen(engine, "connect", _set_up)
    sa.event.listen(engine, "handle_error", _give_up_read_only)
    return engine


def _set_up(driver: psycopg.Connection[Any], _record: object) -> None:
    was = driver.autocommit
    driver.autocommit = True
    driver.adapters.register_loader("timestamptz", _TimeLoader)
    driver.execute(_SET_ALL, list(itertools.chain.from_iterable(_SETTINGS.items())))
    asked = driver.info.options  # what the URL says stays
    driver.execute(_SET_UNLIMITED, [[name for name in _UNLIMITED if name not in asked]])
    if is_pooled(driver):
        # Each transaction may have another session, which knows no statements of the one before.
        driver.prepare_threshold = None
    driver.autocommit = was


class _TimeLoader(psycopg.adapt.Loader):
    """Reads times; those outside of what Python can hold (infinity, year 10000) as the nearest that it can.

    A row with such a time would else make every listing that it is in fail, and it cannot be undone from there.
    """

    def __init__(self, oid: int, context: psycopg.abc.AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        inner = psycopg.adapters.get_loader(psycopg.adapters.types["timestamptz"].oid, psycopg.pq.Format.TEXT)
        assert inner is not None
        self._inner = inner(oid, context)

    def load(self, data: psycopg.abc.Buffer) -> datetime:
        """Read a time.

        Raises:
            psycopg.DataError: it is none.
        """
        try:
            loaded: datetime = self._inner.load(data)
            return loaded
        except psycopg.DataError:
            match = _OUT_OF_RANGE.fullmatch(bytes(data))
            if match is None:
                raise
            is_early = match[1] is not None or match[2] is not None
            return (datetime.min if is_early else datetime.max).replace(tzinfo=UTC)


def is_pooled(driver: psycopg.Connection[Any]) -> bool:
    """Whether a pooler such as pgbouncer stands before Postgres: the process that answers is not the one that was met.

    In pgbouncer's session mode as in its transaction mode: what tells these apart is
    :func:`indexer.store.apply.migrate.is_pooled_by_transaction`.
    """
    row = driver.execute("SELECT pg_backend_pid()").fetchone()
    return row is not None and int(row[0]) != driver.info.backend_pid


def _give_up_read_only(context: sa.engine.ExceptionContext) -> None:
    """A session that may not write began so, or its server was demoted: those of later may write again."""
    if isinstance(context.original_exception, psycopg.errors.ReadOnlySqlTransaction):
        context.is_disconnect = True


_SET_ALL = "SELECT " + ", ".join(["set_config(%s, %s, false)"] * len(_SETTINGS))

# An earlier Postgres does not know all of them.
_SET_UNLIMITED = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY(%s)"


def psycopg_connection(connection: Connection) -> psycopg.Connection[Any]:
    """The psycopg connection below an SQLAlchemy one, sharing its transaction."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def cancel_statements(connection: Connection) -> int:
    """Has Postgres give up the statements of this process's other sessions; returns how many there were.

    A process has several application names (:func:`process_name`), which end in the same words.
    """
    cancelled: int = connection.execute(
        sa.text("""
            SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
            WHERE right(application_name, length(:process)) = :process AND datname = current_database()
              AND usename = current_user AND state = 'active' AND pid <> pg_backend_pid()
        """),
        {"process": process_name("")},
    ).scalar_one()
    return cancelled


def describe_failure(url: str, error: BaseException) -> DatabaseError:
    """Turns a failed connection into something to act upon; names host and database, never the password."""
    parsed = sa.engine.make_url(url)
    where = f"{parsed.host or 'the local socket'}:{parsed.port or 5432}/{parsed.database or ''}"
    cause = str(getattr(error, "orig", error)).strip().splitlines()
    return DatabaseError(
        f"cannot use Postgres at {where}: {cause[0] if cause else type(error).__name__}",
        hint="is it running, and do user, password and database in DATABASE_URL exist? "
        "Unset DATABASE_URL to use the embedded Postgres.",
    )


def jsonb(value: Any) -> Any:
    """Wrap a value for a jsonb parameter; None stays SQL's null."""
    return None if value is None else Jsonb(value)


T = TypeVar("T")

#: Seconds that one lock is waited for.
WAIT: Final = 0.3
#: Seconds for which it is tried again.
PATIENCE: Final = 60.0
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0

_BUSY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)


class BusyError(GaplessError):
    """Others have held what was needed for all of the time that was given; nothing was changed."""


def is_busy(error: BaseException) -> bool:
    """Whether an error says that others held a lock for too long: the same may succeed a moment later."""
    return isinstance(error.orig if isinstance(error, sa.exc.DBAPIError) else error, _BUSY)


def attempt(engine: Engine, what: str, work: Callable[[Connection], T], *, patience: float = PATIENCE) -> T:
    """Runs work in a transaction that waits for no lock for long, and again while others hold what it needs.

    Args:
        engine: the database.
        what: for people, what cannot be done while it waits: ``the manifest cannot be applied``.
        work: what to do; everything that it did is undone before it is tried again.
        patience: seconds for which it is tried again.

    Raises:
        BusyError: others hold what it needs all the time; nothing was changed.
    """
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_busy),
        stop=tenacity.stop_after_delay(patience),
        wait=tenacity.wait_random_exponential(multiplier=_FIRST_PAUSE, max=_LONGEST_PAUSE),
        reraise=True,
    )
    try:
        done: T = attempts(_once, engine, work)
        return done
    except (psycopg.Error, sa.exc.DBAPIError) as error:
        if not is_busy(error):
            raise
        raise BusyError(
            f"{what}: others hold locks that it needs, for {patience:.0f} s now ({_oldest_transaction(engine)})",
            hint="nothing was changed; end that transaction, or run it again later",
        ) from None


def _once(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:
        wait_briefly(connection)
        return work(connection)


def wait_briefly(connection: Connection) -> None:
    """Has the rest of a transaction wait for no lock for longer than :data:`WAIT`."""
    psycopg_connection(connection).execute(f"SET LOCAL lock_timeout = {int(WAIT * 1000)}")


def _oldest_transaction(engine: Engine) -> str:
    with engine.connect() as connection:
        row = connection.execute(
            sa.text("""
                SELECT pid, coalesce(nullif(application_name, ''), usename) AS name,
                       extract(epoch FROM now() - xact_start)::bigint AS seconds
                FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
                  AND backend_type = 'client backend'
                ORDER BY xact_start LIMIT 1
            """)
        ).one_or_none()
    if row is None:
        return "they have just ended"
    return f"the oldest open transaction is of {row.name}, process {row.pid}, {row.seconds} s old"


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


def describe_error(error: BaseException) -> DatabaseError | None:
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
