"""Queries of an analyst on millions of rows: ``python -m benchmarks.analysts``.

Makes the demo's tables without its chain, fills ``coins.transfer`` with rows of a year, runs every query of
``docs/analysts.md`` there, and prints how long each took to plan and to run, and the nodes of its plan that read whole
tables. ``--time-indexes`` measures instead what an index on ``block_time`` costs a writer and gives a reader.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg
from eth_utils.address import to_checksum_address

from benchmarks.measure import database
from indexer.demo.world import World, manifest_text
from indexer.manifest import load_manifest
from indexer.store.apply import migrate
from indexer.store.apply.apply import apply
from indexer.store.database import create_engine
from indexer.sync.setup.declaration import declaration

CHAIN_ID = 31337
ROWS = 10_000_000
_ROWS_A_BLOCK = 4
_YEAR = 365 * 24 * 3600
_HOLDERS = 200_000
_ROUNDS = 3

#: What docs/analysts.md asks for: an account of the demo, of which the rows have some.
ACCOUNT = "f39fd6e51aad88f6f4ce6ab8827279cfffb92266"
COINS = ("gold", "silver", "copper", "odd")
_NAMES = (*COINS, "maker", "silent", "nft", "items", "factory", "trader", "zoo")


def addresses() -> dict[str, str]:
    """The world's contracts by name, at addresses that are made up."""
    return {name: to_checksum_address(f"0x{0xC0FFEE00 + number:040x}") for number, name in enumerate(_NAMES)}


@contextlib.contextmanager
def demo_tables(server_url: str) -> Iterator[str]:
    """A database of its own with the demo's manifest applied; its URL."""
    world: Any = World(
        w3=None,  # type: ignore[arg-type]
        chain_id=CHAIN_ID,
        deployer=to_checksum_address("0x" + "11" * 20),
        accounts=(),
        addresses=MappingProxyType(addresses()),
        artifacts=MappingProxyType({}),
        start_block=1,
    )
    with database(server_url) as url, tempfile.TemporaryDirectory(prefix="gapless-analysts-") as folder:
        manifest = Path(folder) / "indexer.toml"
        manifest.write_text(manifest_text(world))
        engine = create_engine(url)
        try:
            migrate.upgrade(engine)
            apply(engine, declaration(load_manifest(manifest, {"RPC_URL": "http://127.0.0.1:9"})))
        finally:
            engine.dispose()
        yield url


_BLOCKS = """
INSERT INTO gapless.blocks (chain_id, number, hash, time)
SELECT {chain}, n, decode(lpad(to_hex(n), 64, '0'), 'hex'), now() - make_interval(secs => ({blocks} - n) * {seconds})
FROM generate_series(1, {blocks}) n
"""
# Accounts that move much and many that move little, as on a chain: the square of a number between 0 and 1.
_TRANSFERS = """
INSERT INTO coins.transfer (chain_id, block_number, block_time, tx_hash, tx_index, log_index, contract_address,
                            from_address, to_address, value)
SELECT {chain}, 1 + n / {a_block}, now() - make_interval(secs => ({blocks} - 1 - n / {a_block}) * {seconds}),
       decode(md5(n::text) || md5((-n)::text), 'hex'), n % {a_block}, n % {a_block},
       (ARRAY[{coins}])[1 + (power(random(), 2) * 3.999)::int % 4],
       CASE WHEN n % 1000 = 0 THEN '\\x{account}'::bytea
            ELSE decode(lpad(to_hex((power(random(), 4) * {holders})::bigint), 40, '0'), 'hex') END,
       CASE WHEN n % 1000 = 1 THEN '\\x{account}'::bytea
            ELSE decode(lpad(to_hex((power(random(), 4) * {holders})::bigint), 40, '0'), 'hex') END,
       (random() * 1e20)::numeric(78,0)
FROM generate_series({first}, {last}) n
"""
_PIECE = 500_000
# Built at the end, as after a first backfill.
_SECONDARY = """
SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
WHERE i.indrelid = 'coins.transfer'::regclass AND NOT i.indisprimary
"""


def fill(connection: psycopg.Connection[Any], rows: int) -> None:
    """Write the rows of a year, as history does, and what belongs to them: blocks, coverage, tokens, balances.

    Args:
        connection: with autocommit.
        rows: of ``coins.transfer``.
    """
    blocks = rows // _ROWS_A_BLOCK
    coins = ", ".join(f"'\\x{address[2:]}'::bytea" for name, address in addresses().items() if name in COINS)
    values = {
        "chain": CHAIN_ID, "blocks": blocks, "seconds": round(_YEAR / blocks, 6), "a_block": _ROWS_A_BLOCK,
        "coins": coins, "account": ACCOUNT, "holders": _HOLDERS,
    }  # fmt: skip
    connection.execute("SET synchronous_commit = off")
    there = connection.execute(_SECONDARY).fetchall()
    for name, _ in there:
        connection.execute(f"DROP INDEX {name}".encode())
    connection.execute(_BLOCKS.format(**values).encode())
    for first in range(0, rows, _PIECE):
        last = min(first + _PIECE, rows) - 1
        connection.execute(_TRANSFERS.format(**values, first=first, last=last).encode())
    for _, definition in there:
        connection.execute(definition.encode())
    connection.execute(
        "UPDATE gapless.chains SET tip_number = %(last)s, tip_time = now(), head_number = %(last)s, head_time = now(), "
        "finalized_number = %(last)s - 64",
        {"last": blocks},
    )
    connection.execute("UPDATE gapless.sources SET coverage = int8multirange(int8range(start_block, NULL))")
    for number, (name, address) in enumerate(addresses().items()):
        if name in COINS:
            connection.execute(
                "INSERT INTO gapless.tokens (chain_id, address, kind, name, symbol, decimals, block_number) "
                "VALUES (%s, %s, 'erc20', %s, %s, %s, 1)",
                (CHAIN_ID, bytes.fromhex(address[2:]), f"Demo {name}", name.upper(), 18 - 6 * number),
            )
    connection.execute(
        "UPDATE gapless.ledgers SET through_block = %s, served = true WHERE chain_id = %s", (blocks, CHAIN_ID)
    )
    connection.execute("""
        INSERT INTO gapless.holdings (ledger_id, token, token_id, holder, amount)
        SELECT l.id, m.token, 0, m.holder, sum(m.amount)
        FROM gapless.ledgers l JOIN gapless.contracts c ON c.id = l.contract_id AND c.name = 'coins',
             (SELECT contract_address AS token, to_address AS holder, value AS amount FROM coins.transfer
              UNION ALL SELECT contract_address, from_address, -value FROM coins.transfer) m
        GROUP BY 1, 2, 3, 4 HAVING sum(m.amount) <> 0
    """)
    connection.execute("VACUUM ANALYZE")
