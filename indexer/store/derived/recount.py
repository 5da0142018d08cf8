"""A derived table compared with its recomputation from the rows of events, and mended where they differ."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.store.database import psycopg_connection
from indexer.store.derived import generations, levels, statements
from indexer.store.derived.generations import DerivedProgress, Generation
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

    def described(self) -> str:
        """For people."""
        if self.kept is None:
            return f"no row of {self.key}, and there must be one"
        if self.counted is None:
            return f"a row of {self.key}, and there must be none"
        other = [name for name in self.counted if self.kept.get(name) != self.counted[name]]
        return f"{self.key}: " + ", ".join(
            f"{name} is {_shortened(self.kept[name])}, not {_shortened(self.counted[name])}" for name in other
        )


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def differences(connection: Connection, one: DerivedProgress, most: int) -> tuple[int, list[DerivedDifference]]:
    """Computes a derived table anew and compares.

    Args:
        connection: in a transaction with one snapshot.
        one: the derived table on a chain.
        most: how many differences to return.

    Returns:
        How many rows differ, and the first of them.
    """
    differing, found = 0, list[DerivedDifference]()
    for level in _levels(one.generation):
        rows = (
            psycopg_connection(connection)
            .execute(
                sql.SQL("""
                SELECT coalesce(to_jsonb(k), to_jsonb(c)), to_jsonb(k), to_jsonb(c), count(*) OVER ()
                FROM (SELECT * FROM {table} WHERE chain_id = %(chain_id)s) k
                FULL JOIN ({counted}) c ON {same}
                WHERE to_jsonb(k) IS DISTINCT FROM to_jsonb(c) LIMIT %(most)s
            """).format(table=level.table, counted=level.counted, same=level.same_key),
                {**_values(one), "most": most},
            )
            .fetchall()
        )
        differing += rows[0][3] if rows else 0
        found += [
            DerivedDifference(", ".join(f"{name} {row[0].get(name)}" for name in level.key), row[1], row[2])
            for row in rows
        ]
    return differing, found[:most]


@dataclass(frozen=True, slots=True)
class _Level:
    """A table of a build, and the SELECT that says what it must hold."""

    key: tuple[str, ...]
    table: sql.Identifier
    counted: sql.Composed

    @property
    def same_key(self) -> sql.Composed:
        return sql.SQL(" AND ").join(sql.SQL("k.{0} = c.{0}").format(sql.Identifier(name)) for name in self.key)


def _levels(build: Generation) -> Iterator[_Level]:
    """The tables of a build, each after the one that it follows from."""
    for at, (rule, table) in enumerate(zip(build.rule.levels, build.identifiers, strict=True)):
        key = build.key if rule is build.rule else ("chain_id", *rule.key)
        below = build.identifiers[at - 1]
        counted = statements.recomputed(rule, build.tables) if at == 0 else levels.recomputed(rule, below)
        yield _Level(key, table, counted)


def _values(one: DerivedProgress) -> dict[str, Any]:
    return {"chain_id": one.chain_id, "counted": layout.ranges_to_sql(one.coverage)}


def mend(connection: Connection, chain_id: int, derived_id: int) -> int:
    """Writes the rows of a derived table that are not what the rows of events say as they must be.

    It is served all the time; blocks that are appended meanwhile are counted by the next step.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        derived_id: the build; one that is gone has nothing to mend.

    Returns:
        How many rows are others now, or gone.
    """
    # Writers that change rows of counted blocks wait for this lock: both statements see the same rows.
    found = generations.lock(connection, chain_id, "d.id = %(id)s", id=derived_id)
    if not found:
        return 0
    (one,) = found
    driver = psycopg_connection(connection)
    wrong = "NOT EXISTS (SELECT FROM ({counted}) c WHERE {same} AND to_jsonb(k) = to_jsonb(c))"
    changed = 0
    for level in _levels(one.generation):
        parts = {"table": level.table, "counted": level.counted, "same": level.same_key}
        removed = driver.execute(
            sql.SQL("DELETE FROM {table} k WHERE k.chain_id = %(chain_id)s AND " + wrong).format(**parts), _values(one)
        ).rowcount
        added = driver.execute(
            sql.SQL("INSERT INTO {table} SELECT * FROM ({counted}) c ON CONFLICT DO NOTHING").format(**parts),
            _values(one),
        ).rowcount
        changed += max(removed, added)
    if changed:
        generations.add_coverage(connection, chain_id, [derived_id], ())  # the same blocks: another version
    return changed


def rebuild(connection: Connection, chain_id: int, derived_id: int) -> bool:
    """Computes a derived table anew on a chain: its rows go, and steps count them again.

    Returns:
        Whether it is there and no other process changes it.
    """
    one = generations.try_lock(connection, chain_id, derived_id)
    if one is None:
        return False
    for table in one.generation.identifiers:
        psycopg_connection(connection).execute(sql.SQL("DELETE FROM {} WHERE chain_id = %s").format(table), (chain_id,))
    generations.remove_coverage(connection, chain_id, [derived_id], one.coverage)
    generations.note_problem(connection, chain_id, derived_id, None, None)
    return True
