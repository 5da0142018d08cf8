"""Views of the schema ``derived`` are replaced while others read them: views of the manifest, and views of users.

Where the columns stay (more may come behind them), what reads a view goes on reading it, and knows of nothing. Else it
is dropped and made anew, with the views of the manifest that read it. A view of a user stands in the way then: it is
named, and nothing is changed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.store.database import DatabaseError, psycopg_connection
from indexer.store.derived.generations import SCHEMA

# By Postgres' own knowledge of what reads what, also through views of users.
_READERS: Final = """
    WITH RECURSIVE readers (oid, depth) AS (
        SELECT to_regclass(%s)::oid, 0
        UNION
        SELECT w.ev_class, r.depth + 1
        FROM readers r
        JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = r.oid
                        AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_rewrite w ON w.oid = d.objid AND w.ev_class <> r.oid
    )
    SELECT g.name FROM readers r
    JOIN pg_class c ON c.oid = r.oid AND c.relnamespace = 'derived'::regnamespace
    JOIN gapless.derived g ON g.name = c.relname AND g.kind = 'view' AND g.served
    WHERE r.depth > 0 GROUP BY g.name ORDER BY max(r.depth), g.name
"""


class ViewInTheWayError(DatabaseError):
    """Something of a user reads what is to be replaced or dropped."""


def replace_view(connection: Connection, name: str, select: sql.Composable) -> list[str]:
    """Makes ``derived.<name>`` a view of another SELECT.

    Args:
        connection: in a transaction.
        name: of the view.
        select: what it shows.

    Returns:
        The served derived tables of kind ``view`` that read it and had to be dropped, those that are read first: the
        caller makes them anew.

    Raises:
        ViewInTheWayError: its columns are others, and something of a user reads them.
        psycopg.ProgrammingError: the SELECT is wrong.
    """
    driver = psycopg_connection(connection)
    view = sql.Identifier(SCHEMA, name)
    try:
        with driver.transaction():
            driver.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS {}").format(view, select))
    except psycopg.errors.InvalidTableDefinition:  # a column has gone, or another name or type
        readers = drop_view(connection, name)
        driver.execute(sql.SQL("CREATE VIEW {} AS {}").format(view, select))
        return readers
    return []


def drop_view(connection: Connection, name: str) -> list[str]:
    """Drops ``derived.<name>``, and the views of derived tables that read it, which are returned.

    Raises:
        ViewInTheWayError: something of a user reads it.
    """
    driver = psycopg_connection(connection)
    readers = [row[0] for row in driver.execute(_READERS, (f'{SCHEMA}."{name}"',)).fetchall()]
    with naming_readers(name):
        for one in (*reversed(readers), name):
            driver.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(sql.Identifier(SCHEMA, one)))
    return readers


@contextmanager
def naming_readers(name: str) -> Iterator[None]:
    """Tells by name what reads something of ``derived.<name>`` that cannot be dropped for it.

    Raises:
        ViewInTheWayError: something does.
    """
    try:
        yield
    except psycopg.errors.DependentObjectsStillExist as error:
        detail = "; ".join((error.diag.message_detail or "").splitlines())
        raise ViewInTheWayError(
            f"derived.{name} cannot be replaced or dropped while objects that are not Gapless' own read it: {detail}",
            hint="drop those, and make them anew once it is done",
        ) from None
