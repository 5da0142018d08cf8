"""What became of the sources of history that are not nodes: how much they gave, and why not all."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class SourceTotals:
    """One source of one chain, summed up over all processes.

    Attributes:
        chain: the chain's name.
        host: the source, without its key.
        blocks: that were read from it.
        compared: how many of its blocks were compared with the chain's own nodes.
        fallback_blocks: those that were read from the nodes instead.
        contradictions: ranges in which it contradicted the nodes, the question or itself.
        last_problem: why blocks were last read from the nodes; None: they never were.
        updated_at: when anything was last read.
    """

    chain: str
    host: str
    blocks: int
    compared: int
    fallback_blocks: int
    contradictions: int
    last_problem: str | None
    updated_at: datetime


def add(
    connection: Connection,
    chain_id: int,
    host: str,
    *,
    blocks: int,
    compared: int,
    fallback_blocks: int,
    contradictions: int,
    last_problem: str | None,
) -> None:
    """Adds what became of a source; see :class:`SourceTotals`.

    Args:
        connection: in a transaction of its own: other processes wait for its row.
        chain_id: the chain.
        host: the source, without its key.
        blocks: and so on: what is added.
        compared: likewise.
        fallback_blocks: likewise.
        contradictions: likewise.
        last_problem: replaces the one before; None keeps it.
    """
    connection.execute(
        sa.text("""
            INSERT INTO gapless.history_sources AS s
                (chain_id, host, blocks, compared, fallback_blocks, contradictions, last_problem)
            VALUES (:chain_id, :host, :blocks, :compared, :fallback_blocks, :contradictions, :last_problem)
            ON CONFLICT (chain_id, host) DO UPDATE SET
                blocks = s.blocks + excluded.blocks, compared = s.compared + excluded.compared,
                fallback_blocks = s.fallback_blocks + excluded.fallback_blocks,
                contradictions = s.contradictions + excluded.contradictions,
                last_problem = coalesce(excluded.last_problem, s.last_problem), updated_at = now()
        """),
        {
            "chain_id": chain_id,
            "host": host,
            "blocks": blocks,
            "compared": compared,
            "fallback_blocks": fallback_blocks,
            "contradictions": contradictions,
            "last_problem": last_problem,
        },
    )


def load(connection: Connection) -> Sequence[SourceTotals]:
    """All sources of active chains."""
    found = connection.execute(
        sa.text("""
            SELECT n.name AS chain, h.host, h.blocks, h.compared, h.fallback_blocks, h.contradictions, h.last_problem,
                   h.updated_at
            FROM gapless.history_sources h JOIN gapless.chains n USING (chain_id)
            WHERE n.active ORDER BY h.chain_id, h.host
        """)
    )
    return [SourceTotals(**row._mapping) for row in found]
