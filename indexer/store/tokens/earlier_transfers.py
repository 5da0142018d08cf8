"""Whether tokens gave anything before their transfers are counted: what is known, and what is to be asked of nodes.

A ledger counts from a block on. A token that gave before that has holders that the ledger does not know: its
balances are not exact (``gapless.balance_problem``).
"""

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from indexer.store.schema import tables

SAMPLE = 20
"""Children of a factory of which it is asked: one that gave before its announcement makes all others doubtful."""


@dataclass(frozen=True, slots=True)
class Question:
    """A token of which it is not known yet whether it gave before a block.

    Attributes:
        contract: the manifest's name, for messages.
        address: the token.
        before: the block from which on its transfers are counted.
        topics: the first topics of its transfer events.
        checked_from: from here to ``before`` it gave nothing.
        attempts: how often nodes were asked in vain.
        settled: it is known already, by what ``start_block = "auto"`` found out: it is only to be kept.
        found_by_code: the block is the first for which nodes have code, as they said for ``"auto"``.
    """

    contract: str
    address: bytes
    before: int
    topics: tuple[bytes, ...]
    checked_from: int
    attempts: int
    settled: bool
    found_by_code: bool


# Only where all blocks before that are final. Listed addresses; children that were announced before the counting
# begins, and a sample of those announced later.
_DUE = sa.text("""
    WITH counted AS (
        SELECT l.id, l.contract_id, c.name, l.event_ids, decode(substr(a.address, 3), 'hex') AS address,
               l.start_block AS before
        FROM gapless.ledgers l JOIN gapless.contracts c ON c.id = l.contract_id
        CROSS JOIN LATERAL jsonb_array_elements_text(coalesce(l.place -> 'addresses', '[]')) a(address)
        WHERE l.chain_id = :chain_id AND l.live AND l.start_block > 1
        UNION ALL
        SELECT l.id, l.contract_id, c.name, l.event_ids, s.address, s.before
        FROM gapless.ledgers l JOIN gapless.contracts c ON c.id = l.contract_id
        CROSS JOIN LATERAL (
            (SELECT h.address, l.start_block AS before FROM gapless.children h
             WHERE h.chain_id = l.chain_id AND h.contract_id = l.contract_id AND h.block_number < l.start_block
             ORDER BY h.block_number LIMIT :most)
            UNION ALL
            (SELECT h.address, h.block_number FROM gapless.children h
             WHERE h.chain_id = l.chain_id AND h.contract_id = l.contract_id AND h.block_number >= l.start_block
             ORDER BY h.address LIMIT :sample)) s
        WHERE l.chain_id = :chain_id AND l.live AND l.place ->> 'kind' = 'factory' AND s.before > 1
    )
    SELECT t.name, t.address, t.before, coalesce(e.checked_from, t.before) AS checked_from,
           coalesce(e.attempts, 0) AS attempts,
           ARRAY(SELECT v.topic0 FROM gapless.events v WHERE v.id = ANY (t.event_ids) ORDER BY v.id) AS topics,
           EXISTS (SELECT FROM gapless.deployment_blocks d WHERE d.chain_id = :chain_id AND d.address = t.address
                   AND d.block_number >= t.before AND d.checked_from = 0) AS settled,
           EXISTS (SELECT FROM gapless.deployment_blocks d WHERE d.chain_id = :chain_id AND d.address = t.address
                   AND d.block_number = t.before) AS found_by_code
    FROM counted t JOIN gapless.chains n ON n.chain_id = :chain_id AND n.finalized_number >= t.before - 1
    LEFT JOIN gapless.earlier_transfers e
      ON e.chain_id = :chain_id AND e.address = t.address AND e.before_block = t.before
    WHERE e.address IS NULL OR e.asked_again_at <= now()
    ORDER BY coalesce(e.attempts, 0), t.before, t.address LIMIT :most
""")


def due(connection: Connection, chain_id: int, most: int) -> list[Question]:
    """The tokens of live ledgers that are to be asked about now, those that were asked least often first."""
    rows = connection.execute(_DUE, {"chain_id": chain_id, "most": most, "sample": SAMPLE})
    return [
        Question(
            row.name, bytes(row.address), row.before, tuple(bytes(topic) for topic in row.topics), row.checked_from,
            row.attempts, row.settled, row.found_by_code,
        )
        for row in rows
    ]  # fmt: skip


def keep(
    connection: Connection,
    chain_id: int,
    question: Question,
    *,
    checked_from: int,
    found: int | None = None,
    silent: bool = False,
    detail: str | None = None,
    again_after: float | None = None,
) -> None:
    """Keep what became of a question.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        question: what was asked.
        checked_from: from here to the question's block the token gave nothing.
        found: a block before that in which it gave; None: none was found.
        silent: it gave nothing at all before the question's block.
        detail: why it is not known.
        again_after: seconds until it is asked again; None: it is known.
    """
    known = found is not None or silent
    later = None if again_after is None else sa.func.now() + timedelta(seconds=again_after)
    values = {
        "found_block": found,
        "silent": silent,
        "checked_from": checked_from,
        "detail": None if known else detail,
        "attempts": question.attempts + (again_after is not None and detail is not None),
        "asked_again_at": later,
    }
    key = {"chain_id": chain_id, "address": question.address, "before_block": question.before}
    connection.execute(
        insert(tables.earlier_transfers)
        .values(**key, **values)
        .on_conflict_do_update(index_elements=list(key), set_=values)
    )
    # Entity tags are made of the versions.
    connection.execute(
        sa.text("""
            UPDATE gapless.ledgers SET version = version + 1 WHERE id IN (
                SELECT l.id FROM gapless.ledgers l JOIN gapless.contracts c ON c.id = l.contract_id
                WHERE l.chain_id = :chain_id AND c.name = :contract ORDER BY l.id FOR UPDATE OF l)
        """),
        {"chain_id": chain_id, "contract": question.contract},
    )
