"""Connections to Postgres.

SQLAlchemy Core speaks to the static tables; ``COPY`` and DDL of event tables go through the psycopg connection
underneath, in the same transaction (:func:`psycopg_connection`).
"""

from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from indexer.errors import GaplessError

CONNECT_TIMEOUT_SECONDS = 10


class DatabaseError(GaplessError):
    """Postgres cannot be used as it is."""


def create_engine(url: str, *, application_name: str = "gapless", pool_size: int = 5) -> Engine:
    """Makes an engine for a ``postgresql://`` URL; connects to nothing yet.

    Connections are checked before use, so that one which Postgres closed (a restart) is replaced silently.
    """
    parsed = sa.engine.make_url(url)
    if not parsed.drivername.startswith(("postgresql", "postgres")):
        raise DatabaseError(
            f"DATABASE_URL has the scheme {parsed.drivername!r}; Gapless stores in PostgreSQL",
            hint="use postgresql://user:password@host:5432/database",
        )
    return sa.create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        connect_args={
            "application_name": application_name,
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "keepalives_idle": 30,
            "options": "-c timezone=UTC",
        },
    )


def psycopg_connection(connection: Connection) -> psycopg.Connection[Any]:
    """The psycopg connection below an SQLAlchemy one, sharing its transaction."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


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
