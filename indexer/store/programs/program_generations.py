"""Generations of programs: the rows of ``gapless.programs``, and the views that show the one that is served.

Whoever begins or ends a generation changes the catalog: a writer that planned before that commits nothing, so that no
change of rows is missed that a new generation has to hear of.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.errors import GaplessError
from indexer.store import database
from indexer.store.catalog.version import end_change, hold_for_change
from indexer.store.database import jsonb, psycopg_connection
from indexer.store.derived import views
from indexer.store.derived.replacing import drop_view, naming_readers, replace_view
from indexer.store.derived.taken_names import require_free
from indexer.store.programs import program_tables
from indexer.store.programs.program_tables import CHAIN_COLUMN, SCHEMA, ProgramTable


class ProgramLostError(GaplessError):
    """A generation was changed by others meanwhile: what was not written is forgotten, and read anew."""


@dataclass(frozen=True, slots=True)
class ProgramGeneration:
    """A row of ``gapless.programs``; see there."""

    program_id: int
    name: str
    chain_id: int
    code_hash: str
    event_ids: tuple[int, ...]
    tables: tuple[ProgramTable, ...]
    start_block: int
    through_block: int
    near: bool
    live: bool
    served: bool
    remark: str | None
    problem: str | None
    problem_block: int | None
    version: int

    def is_built_by(self, tables: Sequence[ProgramTable], event_ids: Sequence[int]) -> bool:
        """Whether it has tables of this shape, and handles these events."""
        return [t.shape for t in self.tables] == [t.shape for t in tables] and self.event_ids == tuple(event_ids)


_COLUMNS: Final = (
    "id, name, chain_id, code_hash, event_ids, tables, start_block, through_block, near, live, served, remark, "
    "problem, problem_block, version"
)


def load(connection: Connection, name: str | None = None, chain_id: int | None = None) -> list[ProgramGeneration]:
    """The generations of a program (None: of all) on a chain (None: on all), the oldest first."""
    rows = connection.execute(
        sa.text(f"""
            SELECT {_COLUMNS} FROM gapless.programs
            WHERE (CAST(:name AS text) IS NULL OR name = :name)
              AND (CAST(:chain_id AS bigint) IS NULL OR chain_id = :chain_id) ORDER BY id
        """),
        {"name": name, "chain_id": chain_id},
    )
    return [_generation(row) for row in rows]


def lock(connection: Connection, program_id: int, version: int) -> ProgramGeneration:
    """A live generation, locked until the end of the transaction.

    Args:
        connection: in a transaction.
        program_id: the generation.
        version: the one that its writer knows.

    Raises:
        ProgramLostError: it has another version, or is gone.
    """
    row = connection.execute(
        sa.text(f"SELECT {_COLUMNS} FROM gapless.programs WHERE id = :id FOR NO KEY UPDATE"), {"id": program_id}
    ).one_or_none()
    if row is None or row.version != version or not row.live:
        raise ProgramLostError("the program's tables were changed meanwhile; reading its position again")
    return _generation(row)


def take(connection: Connection, program_id: int) -> int:
    """Makes the caller the writer of a generation: what a former one has under way is not committed any more.

    Returns:
        The version to present with every write.

    Raises:
        ProgramLostError: it is gone.
    """
    version = connection.execute(
        sa.text("UPDATE gapless.programs SET version = version + 1 WHERE id = :id RETURNING version"),
        {"id": program_id},
    ).scalar_one_or_none()
    if version is None:
        raise ProgramLostError("the program's generation is gone; looking again")
    return int(version)


def begin(
    connection: Connection,
    name: str,
    chain_id: int,
    *,
    code_hash: str,
    event_ids: Sequence[int],
    tables: Sequence[ProgramTable],
    start_block: int,
) -> ProgramGeneration:
    """Begins a generation with empty tables; it is served at once where none is.

    Args:
        connection: in a transaction that changes the catalog last (:func:`change_ends`).
        name: of the program.
        chain_id: the chain.
        code_hash: of its code.
        event_ids: the events that it handles, ascending.
        tables: the shapes of its tables.
        start_block: the first block that it handles.

    Raises:
        TakenNameError: a derived table or another program has the name of one of its tables, or someone else.
    """
    require_free(connection, "program", name, [table.name for table in tables])
    served = connection.execute(
        sa.text("SELECT EXISTS (SELECT FROM gapless.programs WHERE name = :name AND chain_id = :chain_id AND served)"),
        {"name": name, "chain_id": chain_id},
    ).scalar_one()
    program_id: int = connection.execute(
        sa.text("""
            INSERT INTO gapless.programs (name, chain_id, code_hash, event_ids, tables, start_block, through_block,
                                          live, served)
            VALUES (:name, :chain_id, :code_hash, :event_ids, '[]', :start, :start - 1, true, :served) RETURNING id
        """),
        {
            "name": name,
            "chain_id": chain_id,
            "code_hash": code_hash,
            "event_ids": list(event_ids),
            "start": start_block,
            "served": not served,
        },
    ).scalar_one()
    stored = [table.of_generation(program_id) for table in tables]
    connection.execute(
        sa.text("UPDATE gapless.programs SET tables = :tables WHERE id = :id"),
        {"id": program_id, "tables": jsonb([table.to_json() for table in stored])},
    )
    connection.execute(
        sa.text("DELETE FROM gapless.program_standstills WHERE name = :name AND chain_id = :chain_id"),
        {"name": name, "chain_id": chain_id},
    )
    for table in stored:
        program_tables.create(connection, table, f"generation {program_id} of program {name} on chain {chain_id}")
    if not served:
        show(connection, name)
        _sweep(connection, stored)
    return next(one for one in load(connection, name, chain_id) if one.program_id == program_id)


def _sweep(connection: Connection, tables: Sequence[ProgramTable]) -> None:
    """Drops the tables of generations whose rows are gone, as with a chain that was deleted; no view shows them."""
    driver = psycopg_connection(connection)
    for table in tables:
        found = driver.execute(
            """
            SELECT c.relname FROM pg_catalog.pg_class c
            WHERE c.relnamespace = 'derived'::regnamespace AND c.relkind = 'r'
              AND regexp_replace(c.relname, '_p[0-9]+(_before)?$', '') = %s AND c.relname ~ '_p[0-9]+(_before)?$'
              AND NOT EXISTS (SELECT FROM gapless.programs p
                              WHERE p.id::text = substring(c.relname FROM '_p([0-9]+)(?:_before)?$'))
            """,
            (table.name[:40],),
        ).fetchall()
        for (orphan,) in found:
            driver.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(SCHEMA, orphan)))


def change_ends(connection: Connection) -> None:
    """Changes the catalog; the last thing of a transaction that begins or ends program_generations."""
    hold_for_change(connection, wait=database.WAIT)
    end_change(connection)


def freeze(connection: Connection, generation: ProgramGeneration, remark: str) -> None:
    """Ends a live generation: it is served as stale until another has come as far, or deleted if it is not served."""
    if not generation.served:
        forget(connection, generation)
        return
    connection.execute(
        sa.text("""
            UPDATE gapless.programs SET live = false, remark = :remark, version = version + 1,
                   updated_at = now() WHERE id = :id
        """),
        {"id": generation.program_id, "remark": remark},
    )


def forget(connection: Connection, generation: ProgramGeneration) -> None:
    """Deletes a generation with its tables; the views that showed it are made anew."""
    connection.execute(sa.text("DELETE FROM gapless.programs WHERE id = :id"), {"id": generation.program_id})
    if generation.served:
        show(connection, generation.name, also=generation.tables)
    _drop_tables(connection, generation)


def serve(connection: Connection, generation: ProgramGeneration) -> bool:
    """Serves a generation in place of a stale one, if it has come as far as that.

    Returns:
        Whether it is the one that is served from now on, and was not before.
    """
    before = [one for one in load(connection, generation.name, generation.chain_id) if one.served]
    if generation.served or any(one.through_block > generation.through_block for one in before):
        return False
    connection.execute(sa.text("UPDATE gapless.programs SET served = false WHERE id = ANY(:ids)"), _ids(before))
    connection.execute(
        sa.text("UPDATE gapless.programs SET served = true WHERE id = :id"), {"id": generation.program_id}
    )
    show(connection, generation.name, also=[table for one in before for table in one.tables])
    for one in before:
        connection.execute(sa.text("DELETE FROM gapless.programs WHERE id = :id"), {"id": one.program_id})
        _drop_tables(connection, one)
    return True


def _drop_tables(connection: Connection, generation: ProgramGeneration) -> None:
    for table in generation.tables:
        with naming_readers(table.name):
            program_tables.drop(connection, table)


def show(connection: Connection, name: str, *, also: Sequence[ProgramTable] = ()) -> None:
    """Makes the views of a program's tables anew: ``derived.<table>`` has the rows of all served program_generations.

    Its columns are those of the newest one; a generation that lacks one has null there.

    Args:
        connection: in a transaction.
        name: of the program.
        also: tables whose views go if nothing is shown of them any more.
    """
    served = [one for one in load(connection, name) if one.served]
    driver = psycopg_connection(connection)
    for table_name in sorted({table.name for one in served for table in one.tables} | {table.name for table in also}):
        parts = [table for one in served for table in one.tables if table.name == table_name]
        if not parts:
            views.show_again(connection, drop_view(connection, table_name))
            continue
        newest = parts[-1]
        selects = [
            sql.SQL("SELECT chain_id, {} FROM {}").format(
                sql.SQL(", ").join(
                    sql.Identifier(column.name)
                    if column in part.columns
                    else sql.SQL("NULL::{} AS {}").format(sql.SQL(column.pg_type), sql.Identifier(column.name))
                    for column in newest.columns
                ),
                part.identifier,
            )
            for part in parts
        ]
        view = sql.Identifier(SCHEMA, table_name)
        readers = replace_view(connection, table_name, sql.SQL(" UNION ALL ").join(selects))
        comment = f"kept by the program {name} (gapless.programs says how far)"
        driver.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(comment)))
        for column in (CHAIN_COLUMN, *newest.columns):
            driver.execute(
                sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(
                    view, sql.Identifier(column.name), sql.Literal(column.comment)
                )
            )
        views.show_again(connection, readers)
    views.show_waiting(connection)


def move(connection: Connection, generation: ProgramGeneration, through: int, *, near: bool) -> ProgramGeneration:
    """Notes that a generation's tables are true at a block now.

    Args:
        connection: in a transaction that holds the generation's lock and has written its tables.
        generation: the generation.
        through: the block.
        near: whether it may handle blocks that can be reorganised from here on.
    """
    if near and not generation.near:
        # A reorganisation under way has not seen that this one is near; it holds the chain's row until it is committed.
        connection.execute(
            sa.text("SELECT FROM gapless.chains WHERE chain_id = :chain_id FOR SHARE"),
            {"chain_id": generation.chain_id},
        )
    row = connection.execute(
        sa.text(f"""
            UPDATE gapless.programs SET through_block = :through, near = :near, problem = NULL, problem_block = NULL,
                   version = version + 1, updated_at = now()
            WHERE id = :id RETURNING {_COLUMNS}
        """),
        {"id": generation.program_id, "through": through, "near": near},
    ).one()
    return _generation(row)


def note_problem(connection: Connection, program_id: int, problem: str | None, block: int | None) -> None:
    """Notes why a generation stands still; None: it does not any more."""
    connection.execute(
        sa.text("""
            UPDATE gapless.programs SET problem = :problem, problem_block = :block, updated_at = now()
            WHERE id = :id AND live AND (problem, problem_block) IS DISTINCT FROM (CAST(:problem AS text), :block)
        """),
        {"id": program_id, "problem": problem, "block": block},
    )


def note_remark(connection: Connection, name: str, chain_id: int, remark: str) -> bool:
    """Notes why the served generation is stale that goes no further; returns whether that is another reason."""
    return bool(
        connection.execute(
            sa.text("""
                UPDATE gapless.programs SET remark = :remark, updated_at = now()
                WHERE name = :name AND chain_id = :chain_id AND served AND NOT live AND remark IS DISTINCT FROM :remark
            """),
            {"name": name, "chain_id": chain_id, "remark": remark},
        ).rowcount
    )


def retire(connection: Connection, wanted: Collection[str]) -> None:
    """Ends the generations of programs that the manifest does not name any more; their tables stay as they are.

    It changes the catalog, and is the last thing of its transaction.
    """
    connection.execute(
        sa.text("DELETE FROM gapless.program_standstills WHERE NOT name = ANY(:wanted)"), {"wanted": sorted(wanted)}
    )
    ended = connection.execute(
        sa.text("""
            UPDATE gapless.programs SET live = false, remark = 'no longer in the manifest', version = version + 1,
                   updated_at = now() WHERE live AND NOT name = ANY(:wanted)
        """),
        {"wanted": sorted(wanted)},
    ).rowcount
    if ended:
        change_ends(connection)


def mend(connection: Connection, generation: ProgramGeneration, code_hash: str) -> None:
    """Lets a generation that stands still go on with other code.

    Args:
        connection: in a transaction.
        generation: one with a problem.
        code_hash: of the other code.
    """
    remark = f"from block {generation.through_block + 1} on, mended code handles its events"
    connection.execute(
        sa.text("""
            UPDATE gapless.programs SET code_hash = :hash, remark = :remark, problem = NULL, problem_block = NULL,
                   version = version + 1, updated_at = now() WHERE id = :id
        """),
        {"id": generation.program_id, "hash": code_hash, "remark": remark},
    )


def _ids(generations: Sequence[ProgramGeneration]) -> dict[str, list[int]]:
    return {"ids": [one.program_id for one in generations]}


def _generation(row: sa.Row[tuple[object, ...]]) -> ProgramGeneration:
    values = row._mapping
    return ProgramGeneration(
        program_id=values["id"],
        tables=tuple(ProgramTable.from_json(table) for table in values["tables"]),
        event_ids=tuple(values["event_ids"]),
        **{
            name: values[name]
            for name in (
                *("name", "chain_id", "code_hash", "start_block", "through_block", "near", "live", "served"),
                *("remark", "problem", "problem_block", "version"),
            )
        },
    )
