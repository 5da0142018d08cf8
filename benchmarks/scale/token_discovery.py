"""``address = "any"`` while its first history is filled: looking for tokens among rows that have no index yet."""

import time

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from benchmarks.scale import Row
from benchmarks.scale._setup import applied
from indexer.store.catalog import catalog
from indexer.store.rows import indexes
from indexer.store.tokens import metadata

MANIFEST = """
[chains.bench]
id = 1
rpc = ["${RPC_URL}"]

[contracts.anything]
abi = "erc20.json"
address = "any"
start_block = 1
"""
_INPUTS = [
    {"name": name, "type": kind, "indexed": indexed}
    for name, kind, indexed in (("from", "address", True), ("to", "address", True), ("value", "uint256", False))
]
ABIS = {"erc20.json": [{"type": "event", "name": "Transfer", "anonymous": False, "inputs": _INPUTS}]}
_ROWS, _FEW_ROWS = 2_000_000, 20_000
_EMITTERS, _FEW_EMITTERS = 200, 20


def measure(server_url: str, *, small: bool) -> Row:
    """The time of one look for tokens that were not read, in ms, with all indexes put off."""
    rows, emitters = (_FEW_ROWS, _FEW_EMITTERS) if small else (_ROWS, _EMITTERS)
    with applied(server_url, MANIFEST, ABIS) as engine:
        with engine.begin() as connection:
            (event,) = catalog.load_events(connection).values()
            indexes.put_off(connection, {event.event_id})
            fill(connection, rows=rows, emitters=emitters)
        with engine.connect() as connection:
            started = time.perf_counter()
            metadata.unread_emitters(connection, 1, event, 500)
            took = time.perf_counter() - started
    return Row(f"looking for tokens in {rows:,} rows without an index", took * 1000, 50, "ms")


def fill(connection: Connection, *, rows: int, emitters: int) -> None:
    """Puts rows into the table, of so many tokens in turn."""
    connection.execute(
        sa.text("""
            INSERT INTO anything.transfer
                (chain_id, block_number, block_time, tx_hash, tx_index, log_index, contract_address)
            SELECT 1, n / 100, now(), '\\x00', 0, n % 100, decode(lpad(to_hex(n % :emitters), 40, '0'), 'hex')
            FROM generate_series(1, :rows) n
        """),
        {"rows": rows, "emitters": emitters},
    )
