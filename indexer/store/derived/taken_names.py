"""Who has which name in the schema ``derived``: derived tables and programs share it, and others may use it."""

from collections.abc import Collection
from typing import Final, Literal

from sqlalchemy.engine import Connection

from indexer.errors import GaplessError
from indexer.store.database import psycopg_connection

Owner = Literal["derived", "program"]

# With the tables of generations, whose names are no one's to choose. A view that a program has left behind when its
# chain was deleted is free.
_OWNERS: Final = """
    WITH owned AS (
        SELECT d.name, 'derived' AS kind, d.name AS owner FROM gapless.derived d
        UNION SELECT d.table_name, 'derived', d.name FROM gapless.derived d
        UNION SELECT x.name, 'program', p.name
        FROM gapless.programs p, jsonb_array_elements(p.tables) t,
             unnest(ARRAY[t ->> 'name', t ->> 'stored_as', (t ->> 'stored_as') || '_before']) AS x (name)
    )
    SELECT n.name, o.kind, o.owner FROM unnest(%s::text[]) AS n (name) LEFT JOIN owned o ON o.name = n.name
    WHERE o.name IS NOT NULL
       OR EXISTS (SELECT FROM pg_catalog.pg_class c
                  WHERE c.relnamespace = 'derived'::regnamespace AND c.relname = n.name
                    AND coalesce(obj_description(c.oid, 'pg_class'), '') NOT LIKE 'kept by the program %%')
    ORDER BY n.name, o.kind, o.owner
"""
_WHAT: Final = {"derived": "the derived table", "program": "the program"}


class TakenNameError(GaplessError):
    """A table has the name of another one's."""


def taken(connection: Connection, kind: Owner, owner: str, names: Collection[str]) -> dict[str, str]:
    """What is said against names that others have.

    Args:
        connection: to read with.
        kind: what wants them.
        owner: its name in the manifest; what it has itself is its own.
        names: of tables or views.
    """
    rows = psycopg_connection(connection).execute(_OWNERS, (sorted(names),)).fetchall()
    return {name: _message(name, *other) for name, *other in rows if tuple(other) != (kind, owner)}


def _message(name: str, kind: str | None, owner: str | None) -> str:
    if kind is None:
        return (
            f"the schema derived has something called {name} that is not Gapless' own: choose another name, or drop it"
        )
    return (
        f"derived.{name} is kept by {_WHAT[kind]} {owner}, also where the manifest names it no longer: choose another "
        f"name; or apply the manifest with neither of them, and run: gapless drop {owner} --kind {kind}"
    )


def require_free(connection: Connection, kind: Owner, owner: str, names: Collection[str]) -> None:
    """Makes sure that no one else has some names.

    Raises:
        TakenNameError: another one has.
    """
    if problems := taken(connection, kind, owner, names):
        raise TakenNameError("; ".join(problems.values()))
