"""A followed chain with many events, moved block by block through the follower's side of the store, without a node."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from benchmarks.scale._setup import applied
from indexer.store.catalog import catalog
from indexer.store.catalog.catalog import CatalogEvent, Source
from indexer.store.catalog.version import load_version
from indexer.store.head import branch as head
from indexer.store.head import state
from indexer.store.head.state import become_follower
from indexer.store.rows.blocks import Block
from indexer.store.rows.writer import Rows

CHAIN_ID = 1
FINALIZED = 1000
_A_CONTRACT = 100


@dataclass
class Followed:
    """A chain that is followed from a finalized block on, with every event of it.

    Attributes:
        engine: the database.
        sources: all of the chain.
        events: by id.
    """

    engine: Engine
    sources: Sequence[Source]
    events: dict[int, CatalogEvent]
    version: int
    epoch: int
    tips: list[Block] = field(default_factory=list)

    def write(self, what: Callable[[sa.Connection, int], object]) -> float:
        """Follows all sources, then runs a transaction with their mark; returns its time in ms."""
        with self.engine.begin() as connection:
            mark = state.follow_sources(
                connection, CHAIN_ID, self.epoch, [s.source_id for s in self.sources], self.version
            )
        started = time.perf_counter()
        with self.engine.begin() as connection:
            what(connection, mark)
        return (time.perf_counter() - started) * 1000

    def extend(self, *bearing: CatalogEvent, branch: str = "a") -> float:
        """Appends a block with one row of each of some events; ms."""
        block = _block(self.tips[-1].number + 1, branch)
        rows = _rows(block, bearing)

        def append(connection: sa.Connection, mark: int) -> None:
            head.extend(
                connection, CHAIN_ID, self.epoch, after=block.number - 1, blocks=[block], sources=self.sources,
                mark=mark, rows=rows, catalog_version=self.version,
            )  # fmt: skip

        took = self.write(append)
        self.tips.append(block)
        return took

    def reorganise(self, depth: int, *bearing: CatalogEvent, branch: str) -> float:
        """Replaces the newest blocks by as many of another branch, each with a row of some events; ms."""
        old, common = self.tips[-1], self.tips[-1 - depth]
        blocks = [_block(common.number + 1 + one, branch) for one in range(depth)]
        rows = Rows()
        for block in blocks:
            rows.add(_rows(block, bearing))

        def swap(connection: sa.Connection, mark: int) -> None:
            head.swap(
                connection, CHAIN_ID, self.epoch, common=common, old_tip=old, blocks=blocks, sources=self.sources,
                mark=mark, events=self.events.values(), series=(), rows=rows, catalog_version=self.version,
            )  # fmt: skip

        took = self.write(swap)
        self.tips[-depth:] = blocks
        return took


@contextlib.contextmanager
def followed(server_url: str, events: int) -> Iterator[Followed]:
    """A database with so many events on one chain, all of them followed.

    Args:
        server_url: a Postgres where databases may be made.
        events: how many; each has one ``uint8``.
    """
    abis: dict[str, Any] = {}
    parts = [f'[chains.bench]\nid = {CHAIN_ID}\nrpc = ["${{RPC_URL}}"]']
    for first in range(0, events, _A_CONTRACT):
        name = f"c{first // _A_CONTRACT}"
        abis[f"{name}.json"] = [
            {"type": "event", "name": f"E{one}", "anonymous": False,
             "inputs": [{"name": "value", "type": "uint8", "indexed": False}]}
            for one in range(first, min(events, first + _A_CONTRACT))
        ]  # fmt: skip
        parts.append(f'[contracts.{name}]\nabi = "{name}.json"\naddress = "0x{first + 1:040x}"\nstart_block = 1')
    with applied(server_url, "\n".join(parts), abis) as engine:
        start = _block(FINALIZED, "a")
        with engine.begin() as connection:
            epoch = become_follower(connection, CHAIN_ID, "bench")
            head.start(connection, CHAIN_ID, epoch, _block(0, "a").hash, start)
            connection.execute(
                sa.text("UPDATE gapless.sources SET coverage = int8multirange(int8range(1, :end))"),
                {"end": FINALIZED + 1},
            )
        with engine.connect() as connection:
            version, sources = load_version(connection), catalog.load_sources(connection, CHAIN_ID)
            by_id = catalog.load_events(connection)
        yield Followed(engine, sources, by_id, version, epoch, [start])


def _block(number: int, branch: str) -> Block:
    def hash_of(height: int) -> bytes:
        return sha256(f"{branch if height > FINALIZED else 'a'} {height}".encode()).digest()

    return Block(number, hash_of(number), 1_700_000_000 + 12 * number, hash_of(number - 1) if number else bytes(32))


def _rows(block: Block, bearing: Sequence[CatalogEvent]) -> Rows:
    moment = datetime.fromtimestamp(block.time, UTC)
    return Rows(
        by_table={
            event.event_id: (event.table, [(CHAIN_ID, block.number, moment, bytes(32), 0, index, bytes(20), 1)])
            for index, event in enumerate(bearing)
        }
    )
