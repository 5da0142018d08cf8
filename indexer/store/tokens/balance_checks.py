"""Whether balances are exact: what the transfers in the tables sum up to, and what is known of earlier transfers.

A ledger counts from a block on. A token that gave before that has holders that the ledger does not know: its balances
are not exact (``gapless.balance_problem``). Nodes are asked for that (:func:`due`, :func:`keep`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from indexer.store.catalog import ledgers
from indexer.store.catalog.ledgers import Ledger
from indexer.store.database import psycopg_connection
from indexer.store.schema import tables
from indexer.store.tokens import balances, daily_balances

SAMPLE = 20
"""Children of a factory of which it is asked: one that gave before its announcement makes all others doubtful."""


@dataclass(frozen=True, slots=True)
class HoldingDifference:
    """A holding that is not what the transfers in the tables sum up to.

    Attributes:
        token, token_id, holder: whose.
        kept: what the tables of balances say.
        counted: what the transfers sum up to.
        day: the day at whose end; None: at the end of the ledger's newest block.
    """

    token: bytes
    token_id: int
    holder: bytes
    kept: int
    counted: int
    day: date | None = None


def differences(connection: Connection, ledger: Ledger, most: int) -> tuple[int, list[HoldingDifference]]:
    """Counts all of a ledger's transfers anew and compares, at the ends of days too if it keeps those.

    Args:
        connection: in a transaction with one snapshot.
        ledger: the ledger.
        most: how many differences to return.

    Returns:
        How many holdings differ, and the first of them.
    """
    events = ledgers.events_of(connection, ledger).values()
    compared = [_HOLDINGS.format(balances.deltas(ledger, events))]
    if ledger.daily:
        compared.append(_DAYS.format(daily_balances.recounted(balances.deltas(ledger, events, by_day=True))))
    values = {
        "ledger": ledger.ledger_id,
        "chain_id": ledger.chain_id,
        "addresses": ledger.addresses,
        "first": ledger.start_block,
        "last": ledger.through_block,
        "sign": 1,
        "most": most,
    }
    count, found = 0, []
    for statement in compared:
        rows = psycopg_connection(connection).execute(statement, values).fetchall()
        count += rows[0][0] if rows else 0
        found += [HoldingDifference(bytes(r[1]), int(r[2]), bytes(r[3]), int(r[4]), int(r[5]), r[6]) for r in rows]
    return count, found[:most]


_HOLDINGS = sql.SQL("""
    SELECT count(*) OVER (), coalesce(h.token, c.token), coalesce(h.token_id, c.token_id),
           coalesce(h.holder, c.holder), coalesce(h.amount, 0), coalesce(c.delta, 0), NULL::date
    FROM (SELECT * FROM gapless.holdings WHERE ledger_id = %(ledger)s) h
    FULL JOIN ({}) c ON c.token = h.token AND c.token_id = h.token_id AND c.holder = h.holder
    WHERE h.amount IS DISTINCT FROM c.delta ORDER BY 2, 3, 4 LIMIT %(most)s
""")
_DAYS = sql.SQL("""
    SELECT count(*) OVER (), coalesce(h.token, c.token), coalesce(h.token_id, c.token_id),
           coalesce(h.holder, c.holder), coalesce(h.amount, 0), coalesce(c.amount, 0), coalesce(h.day, c.day)
    FROM (SELECT * FROM gapless.holdings_daily WHERE ledger_id = %(ledger)s) h
    FULL JOIN ({}) c ON c.token = h.token AND c.token_id = h.token_id AND c.holder = h.holder AND c.day = h.day
    WHERE (h.amount, h.change) IS DISTINCT FROM (c.amount, c.change) ORDER BY 2, 3, 4, 7 LIMIT %(most)s
""")


@dataclass(frozen=True, slots=True)
class Holding:
    """What an account has of a token."""

    token: bytes
    token_id: int
    holder: bytes
    amount: int


def sample(connection: Connection, ledger: Ledger, most: int, seed: float) -> Sequence[Holding]:
    """Some holdings of a ledger, each as likely as any other.

    Args:
        connection: to read with.
        ledger: whose.
        most: how many.
        seed: -1 to 1; decides which.
    """
    driver = psycopg_connection(connection)
    driver.execute("SELECT setseed(%s)", (seed,))
    rows = driver.execute(
        """
        SELECT token, token_id, holder, amount FROM (
            SELECT token, token_id, holder, amount, random() AS place FROM
            (SELECT * FROM gapless.holdings WHERE ledger_id = %s ORDER BY token, token_id, holder) ordered) drawn
        ORDER BY place LIMIT %s
        """,
        (ledger.ledger_id, most),
    )
    return [Holding(bytes(token), int(number), bytes(holder), int(amount)) for token, number, holder, amount in rows]


def note_problem(connection: Connection, ledger: Ledger, token: bytes, detail: str, block_number: int) -> None:
    """Marks a token whose balances do not follow from its transfers."""
    connection.execute(
        sa.text("""
            INSERT INTO gapless.balance_problems (ledger_id, token, detail, block_number)
            VALUES (:ledger, :token, :detail, :block)
            ON CONFLICT (ledger_id, token) DO UPDATE
            SET detail = excluded.detail, block_number = excluded.block_number, found_at = now()
        """),
        {"ledger": ledger.ledger_id, "token": token, "detail": detail, "block": block_number},
    )


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
