"""A derived table compared with its recomputation from the rows of events, and computed anew where they differ."""

from dataclasses import dataclass
from typing import Any

from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.store.database import psycopg_connection
from indexer.store.derived import generations, statements
from indexer.store.derived.generations import DerivedProgress
from indexer.store.schema import layout


@dataclass(frozen=True, slots=True)
class DerivedDifference:
    """A row that is not what the rows of events say.

    Attributes:
        key: its key, as text.
        kept: the row in the table, as JSON; None: there is none.
        counted: what it must be.
    """

    key: str
    kept: Any
    counted: Any


def differences(connection: Connection, one: DerivedProgress, most: int) -> tuple[int, list[DerivedDifference]]:
    """Computes a derived table anew and compares.

    Args:
        connection: in a transaction with one snapshot.
        one: the derived table on a chain.
        most: how many differences to return.

    Returns:
        How many rows differ, and the first of them.
    """
    build = one.generation
    same = sql.SQL(" AND ").join(sql.SQL("k.{0} = c.{0}").format(sql.Identifier(name)) for name in build.key)
    rows = (
        psycopg_connection(connection)
        .execute(
            sql.SQL("""
            SELECT coalesce(to_jsonb(k), to_jsonb(c)), to_jsonb(k), to_jsonb(c), count(*) OVER ()
            FROM (SELECT * FROM {table} WHERE chain_id = %(chain_id)s) k
            FULL JOIN ({counted}) c ON {same}
            WHERE to_jsonb(k) IS DISTINCT FROM to_jsonb(c) LIMIT %(most)s
        """).format(table=build.identifier, counted=statements.recomputed(build.rule, build.tables), same=same),
            {"chain_id": one.chain_id, "counted": layout.ranges_to_sql(one.coverage), "most": most},
        )
        .fetchall()
    )
    found = [
        DerivedDifference(", ".join(f"{name} {row[0].get(name)}" for name in build.key), row[1], row[2]) for row in rows
    ]
    return (rows[0][3] if rows else 0), found


def rebuild(connection: Connection, chain_id: int, derived_id: int) -> bool:
    """Computes a derived table anew on a chain: its rows go, and steps count them again.

    Returns:
        Whether it is there and no other process changes it.
    """
    one = generations.try_lock(connection, chain_id, derived_id)
    if one is None:
        return False
    psycopg_connection(connection).execute(
        sql.SQL("DELETE FROM {} WHERE chain_id = %s").format(one.generation.identifier), (chain_id,)
    )
    generations.remove_coverage(connection, chain_id, [derived_id], one.coverage)
    generations.note_problem(connection, chain_id, derived_id, None, None)
    return True
