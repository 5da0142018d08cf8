"""A factory with 1,000,000 children whose history is whole: what a look costs that finds nothing to do."""

import threading
from typing import Any, cast

import sqlalchemy as sa

from benchmarks.scale import Row
from benchmarks.scale._setup import applied, cpu_ms, declared
from indexer.chain.client import ChainClient
from indexer.store.apply.apply import apply
from indexer.store.catalog.children import adopt
from indexer.sync.history.backfill import Backfill

MANIFEST = """
[chains.bench]
id = 1
rpc = ["${RPC_URL}"]

[contracts.factory]
abi = "factory.json"
address = "0x00000000000000000000000000000000000000f1"
start_block = 1
"""
CHILD = """
[contracts.child]
abi = "child.json"
factory = { contract = "factory", event = "Born", argument = "child" }
"""
_CHILDREN, _FEW_CHILDREN = 1_000_000, 50_000
_BLOCKS = 10_000
_LOOKS = 10


def _event(name: str, argument: str, kind: str) -> list[dict[str, Any]]:
    inputs = [{"name": argument, "type": kind, "indexed": False}]
    return [{"type": "event", "name": name, "anonymous": False, "inputs": inputs}]


ABIS = {"factory.json": _event("Born", "child", "address"), "child.json": _event("Spoke", "number", "uint256")}


def measure(server_url: str, *, small: bool) -> Row:
    """The CPU time of one look for gaps and one apply that changes nothing, in ms.

    At 100, both every five seconds are 0.02 of a core.
    """
    count = _FEW_CHILDREN if small else _CHILDREN
    with applied(server_url, MANIFEST, ABIS) as engine:
        with engine.begin() as connection:
            connection.execute(
                sa.text("""
                    INSERT INTO factory.born
                        (chain_id, block_number, block_time, tx_hash, tx_index, log_index, contract_address, child)
                    SELECT 1, 1 + n % :blocks, now(), '\\x00', 0, n / :blocks, decode(lpad('f1', 40, '0'), 'hex'),
                           decode(lpad(to_hex(n), 40, '0'), 'hex')
                    FROM generate_series(1, :count) n
                """),
                {"count": count, "blocks": _BLOCKS},
            )
        both = declared(MANIFEST + CHILD, ABIS)
        apply(engine, both)
        adopt(engine, 1, threading.Event())
        with engine.begin() as connection:
            connection.execute(
                sa.text(
                    "UPDATE gapless.chains SET finalized_number = :last, finalized_hash = '\\x00', tip_number = :last, "
                    "tip_hash = '\\x00', tip_time = now()"
                ),
                {"last": _BLOCKS},
            )
            connection.execute(
                sa.text("UPDATE gapless.sources SET coverage = int8multirange(int8range(1, :end))"),
                {"end": _BLOCKS + 1},
            )
            found = connection.execute(sa.text("SELECT count(*) FROM gapless.children")).scalar_one()
        if found != count:
            raise AssertionError(f"{found} children, not {count}")
        work = Backfill(engine, cast(ChainClient, None), 1)

        def look() -> None:
            if work.plan().gaps or apply(engine, both):
                raise AssertionError("there is nothing to do")

        took = cpu_ms(engine, look, _LOOKS)
    return Row(f"{count:,} children: a look for gaps, an apply of the same", took, 100, "ms CPU")
