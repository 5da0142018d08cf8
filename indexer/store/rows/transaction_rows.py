"""Blocks and transactions of events (``include``) as rows, with what no node gave of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy.engine import Connection

from indexer.store.database import psycopg_connection
from indexer.store.rows import missing_transactions
from indexer.store.rows.missing_transactions import Missing


class BlockDetails(Protocol):
    """A row of ``block_details``; ``time`` in Unix seconds."""

    number: int
    hash: bytes
    time: int
    miner: bytes | None
    gas_limit: int | None
    gas_used: int | None
    base_fee: int | None
    transaction_count: int | None
    size: int | None


class Transaction(Protocol):
    """A row of ``transactions``, or a part of one."""

    number: int
    index: int
    hash: bytes
    sender: bytes | None
    recipient: bytes | None
    type: int | None
    value: int | None
    nonce: int | None
    gas_limit: int | None
    status: int | None
    gas_used: int | None
    effective_gas_price: int | None
    created_contract: bytes | None


@dataclass(frozen=True, slots=True)
class DetailRows:
    """What nodes said.

    Attributes:
        blocks: the blocks.
        transactions: without what only receipts say.
        receipts: without what only transactions say.
        missing: what no node gave.
    """

    blocks: Sequence[BlockDetails] = ()
    transactions: Sequence[Transaction] = ()
    receipts: Sequence[Transaction] = ()
    missing: Sequence[Missing] = ()


def write(connection: Connection, chain_id: int, seconds: Mapping[int, int], facts: DetailRows) -> None:
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
    missing_transactions.forget(
        connection,
        chain_id,
        {
            "block": [(b.number, -1) for b in facts.blocks],
            "transaction": [(t.number, t.index) for t in facts.transactions],
            "receipt": [(t.number, t.index) for t in facts.receipts],
        },
    )
    missing_transactions.note(connection, chain_id, facts.missing)
