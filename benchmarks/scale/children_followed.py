"""A factory with 1,000,000 children: what its follower reads when it begins."""

import gc

import psutil
import sqlalchemy as sa

from benchmarks.scale import Row
from benchmarks.scale._setup import TOKEN, applied
from indexer.store.catalog import catalog

_MANIFEST = """
[chains.bench]
id = 1
rpc = ["${RPC_URL}"]

[contracts.child]
abi = "child.json"
address = "any"
start_block = 1
"""
_CHILDREN, _FEW_CHILDREN = 1_000_000, 50_000


def measure(server_url: str, *, small: bool) -> Row:
    """The memory that stays, in bytes for each child."""
    count = _FEW_CHILDREN if small else _CHILDREN
    with applied(server_url, _MANIFEST, {"child.json": TOKEN}) as engine, engine.connect() as connection:
        connection.execute(
            sa.text("""
                INSERT INTO gapless.children
                    (chain_id, contract_id, address, block_number, log_index, factory_address)
                SELECT 1, (SELECT id FROM gapless.contracts), substr(sha256(int8send(n)), 1, 20), n, 0, '\\x00'
                FROM generate_series(1, :count) n
            """),
            {"count": count},
        )
        process = psutil.Process()
        gc.collect()
        before = process.memory_info().rss
        (children,) = catalog.load_children(connection, 1).values()
        if len(children.addresses()) != count:
            raise AssertionError(f"{len(children)} children, not {count}")
        gc.collect()
        kept = process.memory_info().rss - before
    return Row(f"{count:,} children in the memory of a follower", max(kept, 0) / count, 100, "bytes each")
