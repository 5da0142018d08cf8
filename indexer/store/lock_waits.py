"""Transactions that wait for locks briefly and are tried again, so that they hold up nothing while they wait.

Whatever must lock a table or the catalog against others (DDL, a change of the catalog) runs here: everything that comes
after it would queue behind its wait, so it gives up after :data:`WAIT` seconds, lets the queue pass, and comes again.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import psycopg
import sqlalchemy as sa
import tenacity
from sqlalchemy.engine import Connection, Engine

from indexer.errors import GaplessError
from indexer.store.database import psycopg_connection

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
            f"{what}: others hold locks that it needs, for {patience:.0f} s now ({_oldest(engine)})",
            hint="nothing was changed; end that transaction, or run it again later",
        ) from None


def _once(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:
        wait_briefly(connection)
        return work(connection)


def wait_briefly(connection: Connection) -> None:
    """Has the rest of a transaction wait for no lock for longer than :data:`WAIT`."""
    psycopg_connection(connection).execute(f"SET LOCAL lock_timeout = {int(WAIT * 1000)}")


def _oldest(engine: Engine) -> str:
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
