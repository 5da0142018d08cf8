"""Why a program makes no progress, where that is not a matter of one event: its file, its process, a table's name.

It is noted with the live generation on each chain. Where there is none, because nothing could begin yet, it has a row
of its own (``gapless.program_standstills``), which goes as soon as a generation begins or the program is at work again.
"""

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.store.programs import program_generations

_NOTE = sa.text("""
    INSERT INTO gapless.program_standstills AS s (name, chain_id, problem) VALUES (:name, :chain_id, :problem)
    ON CONFLICT (name, chain_id) DO UPDATE SET problem = excluded.problem, noted_at = now()
    WHERE s.problem <> excluded.problem
""")


def note(
    connection: Connection, name: str, chain_ids: Iterable[int], problem: str, *, unless_known: bool = False
) -> None:
    """Notes why a program makes no progress on some chains.

    Args:
        connection: in a transaction.
        name: of the program.
        chain_ids: the chains.
        problem: for people.
        unless_known: a generation that stands still already keeps its reason, which says more.
    """
    for chain_id in chain_ids:
        live = [one for one in program_generations.load(connection, name, chain_id) if one.live]
        for one in live:
            if not (unless_known and one.problem is not None):
                program_generations.note_problem(connection, one.program_id, problem, one.through_block + 1)
        if not live:
            connection.execute(_NOTE, {"name": name, "chain_id": chain_id, "problem": problem})


def forget(connection: Connection, name: str, chain_id: int, beginning: str) -> None:
    """Forgets why a program made no progress on a chain: it is at work again.

    Args:
        connection: in a transaction.
        name: of the program.
        chain_id: the chain.
        beginning: of a live generation, only problems that begin so are forgotten: those of an event stay.
    """
    values = {"name": name, "chain_id": chain_id, "beginning": beginning}
    connection.execute(
        sa.text("DELETE FROM gapless.program_standstills WHERE name = :name AND chain_id = :chain_id"), values
    )
    connection.execute(
        sa.text("""
            UPDATE gapless.programs SET problem = NULL, problem_block = NULL, updated_at = now()
            WHERE name = :name AND chain_id = :chain_id AND live AND starts_with(problem, :beginning)
        """),
        values,
    )
