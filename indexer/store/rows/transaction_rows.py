"""Blocks and transactions of events (``include``) as rows, and what no node gave of them.

What is missing is kept with its reason, and asked for again later and later. All the rest goes on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.block_records import TransactionDetails, UnavailableDetail
from indexer.store.database import psycopg_connection

FIRST_PAUSE = 3600.0
"""Seconds until it is asked for again for the first time; four times as long after each failure."""
LONGEST_PAUSE = 14 * 86_400.0


@dataclass(frozen=True, slots=True)
class MissingDetails:
    """What is missing of one kind on one chain.

    Attributes:
        chain: the chain's name.
        kind: ``block``, ``transaction`` or ``receipt``.
        count: how many of them.
        first: the first block that lacks one.
        last: the last.
        reason: what the nodes said of the newest.
        retry_at: the next of them is asked for again then.
    """

    chain: str
    kind: str
    count: int
    first: int
    last: int
    reason: str
    retry_at: datetime


@dataclass(frozen=True, slots=True)
class Due:
    """One that is to be asked for again.

    Attributes:
        number: the block.
        block_hash: its hash, as it is now.
        time: its Unix seconds.
        kind: ``block``, ``transaction`` or ``receipt``.
        index: the place of the transaction; -1: the block itself.
        hash: of the transaction, or of the block.
    """

    number: int
    block_hash: bytes
    time: int
    kind: str
    index: int
    hash: bytes


def note_missing(connection: Connection, chain_id: int, missing: Iterable[UnavailableDetail]) -> None:
    """Keep what no node gave, and when to ask again.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        missing: what it is.
    """
    statement = sa.text("""
        INSERT INTO gapless.missing_details AS m
            (chain_id, block_number, kind, tx_index, tx_hash, reason, failures, retry_at)
        VALUES (:chain_id, :number, :kind, :index, :hash, :reason, 1, now() + make_interval(secs => :first))
        ON CONFLICT (chain_id, block_number, kind, tx_index) DO UPDATE
        SET tx_hash = excluded.tx_hash, reason = excluded.reason, failures = m.failures + 1, failed_at = now(),
            retry_at = now() + make_interval(secs => least(:first * 4.0 ^ least(m.failures, 20), :longest))
    """)
    values = [
        {
            "chain_id": chain_id,
            "number": one.number,
            "kind": one.kind,
            "index": one.index,
            "hash": one.hash,
            "reason": one.reason,
            "first": FIRST_PAUSE,
            "longest": LONGEST_PAUSE,
        }
        for one in missing
    ]
    if values:
        connection.execute(statement, values)


def due_again(connection: Connection, chain_id: int, most: int) -> list[Due]:
    """What is to be asked for again now, the newest blocks first.

    Args:
        connection: to the database.
        chain_id: the chain.
        most: at most so many.
    """
    rows = connection.execute(
        sa.text("""
            SELECT m.block_number, b.hash, extract(epoch FROM b.time)::bigint, m.kind, m.tx_index, m.tx_hash
            FROM gapless.missing_details m
            JOIN gapless.blocks b ON b.chain_id = m.chain_id AND b.number = m.block_number
            WHERE m.chain_id = :chain_id AND m.retry_at <= now()
            ORDER BY m.block_number DESC, m.tx_index LIMIT :most
        """),
        {"chain_id": chain_id, "most": most},
    )
    return [
        Due(number, bytes(of), time, kind, index, bytes(tx_hash)) for number, of, time, kind, index, tx_hash in rows
    ]


def forget_missing(connection: Connection, chain_id: int, found: Mapping[str, Iterable[tuple[int, int]]]) -> None:
    """Drop what has come.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        found: by kind, the blocks and places that came.
    """
    for kind, places in found.items():
        values = [{"chain_id": chain_id, "kind": kind, "number": number, "index": index} for number, index in places]
        if values:
            connection.execute(
                sa.text("""
                    DELETE FROM gapless.missing_details WHERE chain_id = :chain_id AND block_number = :number
                        AND kind = :kind AND tx_index = :index
                """),
                values,
            )


def forget_missing_above(connection: Connection, chain_id: int, common: int) -> None:
    """Drop what is missing of a branch that is gone."""
    connection.execute(
        sa.text("DELETE FROM gapless.missing_details WHERE chain_id = :chain_id AND block_number > :common"),
        {"chain_id": chain_id, "common": common},
    )


def retry_now(connection: Connection, chain_id: int) -> None:
    """Let all be asked for again at once."""
    connection.execute(
        sa.text("UPDATE gapless.missing_details SET retry_at = now() WHERE chain_id = :chain_id"),
        {"chain_id": chain_id},
    )


def load_missing(connection: Connection) -> list[MissingDetails]:
    """Read how much is missing, by chain and kind."""
    rows = connection.execute(
        sa.text("""
            SELECT n.name AS chain, m.kind, count(*) AS count, min(m.block_number) AS first,
                   max(m.block_number) AS last, (array_agg(m.reason ORDER BY m.block_number DESC))[1] AS reason,
                   min(m.retry_at) AS retry_at
            FROM gapless.missing_details m JOIN gapless.chains n ON n.chain_id = m.chain_id
            WHERE n.active GROUP BY n.name, m.kind ORDER BY n.name, m.kind
        """)
    )
    return [MissingDetails(**row._mapping) for row in rows]


def write_details(connection: Connection, chain_id: int, seconds: Mapping[int, int], facts: TransactionDetails) -> None:
    """Keep what nodes said, and what they did not give.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        seconds: the Unix times of the blocks, by number.
        facts: what they said.
    """
    times = {number: datetime.fromtimestamp(time, UTC) for number, time in seconds.items()}
    with psycopg_connection(connection).cursor() as cursor:
        cursor.executemany(
            "INSERT INTO gapless.block_details (chain_id, block_number, block_hash, block_time, miner, gas_limit, "
            "gas_used, base_fee, transaction_count, size) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT DO NOTHING",
            [
                (
                    chain_id, b.number, b.hash, datetime.fromtimestamp(b.time, UTC), b.miner, b.gas_limit,
                    b.gas_used, b.base_fee, b.transaction_count, b.size,
                )
                for b in facts.blocks
            ],
        )  # fmt: skip
        cursor.executemany(
            "INSERT INTO gapless.transactions (chain_id, block_number, tx_index, tx_hash, block_time, sender, "
            "recipient, type, value, nonce, gas_limit) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (chain_id, block_number, tx_index) DO UPDATE "
            "SET value = excluded.value, nonce = excluded.nonce, gas_limit = excluded.gas_limit",
            [
                (
                    chain_id, t.number, t.index, t.hash, times[t.number], t.sender, t.recipient, t.type, t.value,
                    t.nonce, t.gas_limit,
                )
                for t in facts.transactions
            ],
        )  # fmt: skip
        cursor.executemany(
            "INSERT INTO gapless.transactions (chain_id, block_number, tx_index, tx_hash, block_time, sender, "
            "recipient, type, status, gas_used, effective_gas_price, created_contract) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (chain_id, block_number, tx_index) DO UPDATE SET status = excluded.status, "
            "gas_used = excluded.gas_used, effective_gas_price = excluded.effective_gas_price, "
            "created_contract = excluded.created_contract",
            [
                (
                    chain_id, t.number, t.index, t.hash, times[t.number], t.sender, t.recipient, t.type, t.status,
                    t.gas_used, t.effective_gas_price, t.created_contract,
                )
                for t in facts.receipts
            ],
        )  # fmt: skip
    forget_missing(
        connection,
        chain_id,
        {
            "block": [(b.number, -1) for b in facts.blocks],
            "transaction": [(t.number, t.index) for t in facts.transactions],
            "receipt": [(t.number, t.index) for t in facts.receipts],
        },
    )
    note_missing(connection, chain_id, facts.missing)
