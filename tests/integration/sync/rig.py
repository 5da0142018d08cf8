"""A chain, a database and a manifest, wired up as ``gapless run`` would, but stepped by the test."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from psycopg import sql
from sqlalchemy.engine import Engine

from indexer.chain.client import ChainClient
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from indexer.manifest import load_manifest
from indexer.manifest.model import Chain, Finality, Manifest
from indexer.store.apply import migrate
from indexer.store.apply.apply import apply
from indexer.store.catalog import catalog
from indexer.store.database import create_engine, psycopg_connection
from indexer.sync.head.follower import Follower, Tick
from indexer.sync.history.backfill import Backfill
from indexer.sync.setup.declaration import declaration

QUICK = ClientSettings(attempts=3, give_up_after=5.0, first_backoff=0.01, longest_backoff=0.05, start_blocks=40)


@dataclass
class Rig:
    engine: Engine
    manifest: Manifest
    chain: Chain
    client: ChainClient
    following: Any = None

    def follower(self, **arguments: Any) -> Follower:
        return Follower(
            self.engine,
            self.client,
            self.chain.chain_id,
            name=self.chain.name,
            finality=arguments.pop("finality", self.chain.finality),
            blooms=self.chain.bloom_checks,
            clock=arguments.pop("clock", _never_the_same),
        )

    def backfill(self, **arguments: Any) -> Backfill:
        return Backfill(self.engine, self.client, self.chain.chain_id, **arguments)

    def catch_up(self, follower: Follower) -> None:
        """Follows and fills until nothing is left to do."""
        for _ in range(100):
            outcomes = {follower.tick()}
            filled = self.backfill().run()
            if outcomes <= {Tick.NOTHING_NEW} and not filled.blocks and self.is_complete():
                return
        raise AssertionError("never complete")

    def is_complete(self) -> bool:
        with self.engine.connect() as connection:
            tip = catalog_tip(connection, self.chain.chain_id)
            return all(not source.gap(tip) for source in catalog.load_sources(connection, self.chain.chain_id))

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every event table's rows in order, by ``contract.Event``."""
        with self.engine.connect() as connection:
            driver = psycopg_connection(connection)
            return {
                event.label: driver.execute(
                    sql.SQL("SELECT * FROM {} ORDER BY chain_id, block_number, log_index").format(
                        event.table.identifier
                    )
                ).fetchall()
                for event in catalog.load_events(connection).values()
            }

    def query(self, text: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return psycopg_connection(connection).execute(text, parameters).fetchall()

    def apply(self, text: str, tmp_path: Path, url: str) -> None:
        self.manifest = write_manifest(text, tmp_path, url)
        apply(self.engine, declaration(self.manifest))


_moments = iter(range(0, 10**12, 1000))


def _never_the_same() -> float:
    """A clock that lets the follower ask for finality at every tick."""
    return float(next(_moments))


def catalog_tip(connection: Any, chain_id: int) -> int:
    from indexer.store.head import state as head_state

    tip = head_state.load_state(connection, chain_id).tip
    return -1 if tip is None else tip.number


def write_manifest(text: str, tmp_path: Path, url: str) -> Manifest:
    path = tmp_path / "indexer.toml"
    path.write_text(text)
    return load_manifest(path, {"RPC_URL": url})


@contextmanager
def rig(text: str, tmp_path: Path, node_url: str, database_url: str, settings: ClientSettings = QUICK) -> Any:
    manifest = write_manifest(text, tmp_path, node_url)
    engine = create_engine(database_url)
    migrate.upgrade(engine)
    apply(engine, declaration(manifest))
    (chain,) = manifest.chains.values()
    client = ChainClient(chain.name, chain.chain_id, [EndpointConfig(node_url)], settings=settings)
    try:
        yield Rig(engine, manifest, chain, client)
    finally:
        client.close()
        engine.dispose()


def normal(value: Any) -> Any:  # noqa: PLR0911 - one form, one line
    """Values from Postgres and from web3 in one form."""
    if isinstance(value, Decimal):
        return int(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
        return bytes.fromhex(value[2:])
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")  # which Postgres cannot store
    if isinstance(value, list | tuple):
        return [normal(item) for item in value]
    if isinstance(value, dict):
        return {name: normal(item) for name, item in value.items()}
    return value


FINAL_AT_TAG = Finality()
