"""History of tokens at any address, a quarter of whose transfers are another standard's: read, decoded and written."""

import json
import os
import random
import time
from pathlib import Path
from typing import Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from indexer.block_records import BlockColumns
from indexer.chain.records import column_reader
from indexer.chain.records.column_reader import LOG_FORM, Layouts
from indexer.chain.records.log_filter import LogFilter
from indexer.store.catalog import catalog
from indexer.store.catalog.version import load_version
from indexer.store.rows.writer import WriteOutcome, write_history
from indexer.sync.rows.router import Router

CHAIN_ID: Final = 1
LOGS_A_BLOCK: Final = 200
BLOCKS_A_CHUNK: Final = 50
_TOKENS, _COLLECTIONS = 400, 100

_Chunk = tuple[int, int, bytes]
"""First block, last block, and the answer's JSON."""


def answers(chunks: int, *, foreign: float) -> list[_Chunk]:
    """What a node says of so many chunks.

    Args:
        chunks: how many.
        foreign: the share of ERC-721 transfers among those of ERC-20 tokens.
    """
    draw = random.Random(1)
    tokens, collections = ([draw.randbytes(20).hex() for _ in range(n)] for n in (_TOKENS, _COLLECTIONS))
    topic0 = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    made: list[_Chunk] = []
    for first in range(1, chunks * BLOCKS_A_CHUNK + 1, BLOCKS_A_CHUNK):
        logs = []
        for number in range(first, first + BLOCKS_A_CHUNK):
            for index in range(LOGS_A_BLOCK):
                is_foreign, address = draw.random() < foreign, draw.randrange(1 << 30)
                people = [f"0x{draw.getrandbits(160):064x}", f"0x{draw.getrandbits(160):064x}"]
                amount = f"0x{draw.getrandbits(80):064x}"
                logs.append(
                    {
                        "address": "0x"
                        + (collections if is_foreign else tokens)[address % (_COLLECTIONS if is_foreign else _TOKENS)],
                        "topics": [topic0, *people, amount] if is_foreign else [topic0, *people],
                        "data": "0x" if is_foreign else amount,
                        "blockNumber": hex(number),
                        "blockHash": f"0x{number:064x}",
                        "transactionHash": f"0x{draw.getrandbits(256):064x}",
                        "transactionIndex": hex(index),
                        "logIndex": hex(index),
                        "removed": False,
                    }
                )
        made.append((first, first + BLOCKS_A_CHUNK - 1, json.dumps(logs, separators=(",", ":")).encode()))
    return made


def write(engine: Engine, chunks: list[_Chunk]) -> float:
    """Writes chunks into a database in which the manifest was applied, as history.

    Returns:
        Seconds of the processor that this took, here and in Postgres.
    """
    last = chunks[-1][1]
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "UPDATE gapless.chains SET tip_number = :last, tip_hash = '\\x00', tip_time = now(), "
                "finalized_number = :last, finalized_hash = '\\x00'"
            ),
            {"last": last},
        )
    with engine.connect() as connection:
        version, sources = load_version(connection), catalog.load_sources(connection)
        connection.rollback()
        router, layouts = Router(CHAIN_ID, sources, {}, among=sources), Layouts(LOG_FORM)
        before = _spent(connection)
        for first, end, answer in chunks:
            logs = column_reader.read(answer, first, end, LogFilter(), layouts)
            assert logs is not None
            times = 1_600_000_000 + logs.block_numbers
            rows = router.columns(logs, times)
            blocks = BlockColumns(
                numbers=logs.block_numbers, hashes=np.ascontiguousarray(logs.block_hashes), times=times
            )
            outcome = write_history(
                connection, CHAIN_ID, (first, end), sources, rows=rows, blocks=blocks, catalog_version=version
            )
            assert outcome is WriteOutcome.WRITTEN
            connection.commit()
        return _spent(connection) - before


def _spent(connection: Connection) -> float:
    """Seconds of the processor so far: this process, and the session's own in Postgres where the system tells."""
    server = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    connection.rollback()
    told = Path(f"/proc/{server}/stat")
    spent = time.process_time()
    if told.exists():
        user, system = told.read_text().rpartition(")")[2].split()[11:13]
        spent += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return spent
