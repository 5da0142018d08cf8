"""Tables of a program beside those that are kept: temporary ones, filled by a replay, and compared with them.

They vanish with the transaction that is rolled back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.store.database import psycopg_connection
from indexer.store.derived.recount import DerivedDifference
from indexer.store.programs import program_tables
from indexer.store.programs.program_tables import ProgramTable, TableChanges


@dataclass(frozen=True, slots=True)
class ScratchTable(ProgramTable):
    """A program's table as a temporary one."""

    @property
    def identifier(self) -> sql.Identifier:
        """The temporary table, quoted for SQL."""
        return sql.Identifier("pg_temp", self.stored_as)

    @property
    def before(self) -> sql.Identifier:
        """Stays empty: what is replayed is not undone."""
        return sql.Identifier("pg_temp", f"{self.stored_as}_before")


def create(connection: Connection, table: ProgramTable) -> ScratchTable:
    """Makes the temporary table of a program's table, in a transaction that will be rolled back."""
    scratch = ScratchTable(table.name, table.columns, f"replayed_{table.stored_as}", table.comment)
    program_tables.create(connection, scratch, f"a replay of {table.stored_as}")
    return scratch


def write(connection: Connection, chain_id: int, table: ScratchTable, changes: TableChanges) -> None:
    """Writes changes, as often as there are any in one transaction."""
    program_tables.write(connection, chain_id, table, changes)
    if changes.changed:
        staged = sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier("pg_temp", program_tables.staged_as(table)))
        psycopg_connection(connection).execute(staged)


def differences(
    connection: Connection, chain_id: int, kept: ProgramTable, replayed: ScratchTable, most: int
) -> tuple[int, int, Sequence[DerivedDifference]]:
    """Compares what is kept with what was replayed, by key.

    Args:
        connection: in the transaction of the replay.
        chain_id: the chain.
        kept: the table of a generation.
        replayed: the temporary one.
        most: how many differences to return.

    Returns:
        How many rows the replay has, how many rows differ, and the first of them.
    """
    driver = psycopg_connection(connection)
    driver.execute(sql.SQL("ANALYZE {}").format(replayed.identifier))
    (count,) = driver.execute(sql.SQL("SELECT count(*) FROM {}").format(replayed.identifier)).fetchone() or (0,)
    same = sql.SQL(" AND ").join(sql.SQL("k.{0} = r.{0}").format(sql.Identifier(one.name)) for one in kept.key)
    rows = driver.execute(
        sql.SQL("""
            SELECT coalesce(to_jsonb(k), to_jsonb(r)), to_jsonb(k), to_jsonb(r), count(*) OVER ()
            FROM (SELECT * FROM {kept} WHERE chain_id = %(chain_id)s) k FULL JOIN {replayed} r ON {same}
            WHERE to_jsonb(k) IS DISTINCT FROM to_jsonb(r) ORDER BY 1 LIMIT %(most)s
        """).format(kept=kept.identifier, replayed=replayed.identifier, same=same),
        {"chain_id": chain_id, "most": most},
    ).fetchall()
    found = [
        DerivedDifference(", ".join(f"{one.name} {row[0].get(one.name)}" for one in kept.key), row[1], row[2])
        for row in rows
    ]
    return count, (rows[0][3] if rows else 0), found
