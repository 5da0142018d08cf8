"""One chain, one node, one follower and one backfill, moved by hand: for tests of a single fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from sqlalchemy.engine import Engine

from indexer.chain.client import ChainClient
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from indexer.manifest import load_manifest
from indexer.manifest.model import Finality
from indexer.store.apply.apply import apply
from indexer.store.database import create_engine
from indexer.store.rows import failed_ranges
from indexer.sync.head.follower import Follower, Tick
from indexer.sync.history.backfill import Backfill
from indexer.sync.setup.declaration import declaration
from tests.chaos import manifests
from tests.chaos.arena import Arena
from tests.chaos.chain import CHAIN_ID, COINS, Chain
from tests.chaos.node import Call, Honest, Node
from tests.chaos.simulation import Clock
from tests.chaos.truth import Judge, Picture, look

QUICK = ClientSettings(attempts=2, give_up_after=30.0, start_blocks=50)


def contract(name: str, abi: str, place: str, **more: str) -> str:
    """One contract of a manifest."""
    lines = [f"[contracts.{name}]", 'chain = "sim"', f'abi = "{abi}.json"', place]
    return "\n".join([*lines, *(f"{key} = {value}" for key, value in more.items())])


COIN = contract("coins", "coin", f'address = "{COINS[0]}"', start_block="0")
FACTORIES = manifests.ALWAYS + manifests.KIDS.format(events='["Said", "Paid"]')


@dataclass
class Twist(Honest):
    """An honest node with one wrong answer: ``lie`` says what it answers in place of the truth."""

    lie: Callable[[Node, Call, Any], Any] | None = None

    def result(self, node: Node, call: Call, result: Any) -> Any:
        return result if self.lie is None else self.lie(node, call, result)


_QUIET, _MOST_ROUNDS = 3, 20


@dataclass
class Stage:
    """What a test moves."""

    chain: Chain
    node: Node
    engine: Engine
    url: str
    database_url: str
    folder: Path
    twist: Twist
    reader: psycopg.Connection[Any]
    judge: Judge
    finality: Finality = field(default_factory=Finality)
    clock: Clock = field(default_factory=Clock)
    settings: ClientSettings = QUICK
    requests_per_second: float | None = None

    def client(self, more: Sequence[str] = ()) -> ChainClient:
        endpoints = [EndpointConfig(url, requests_per_second=self.requests_per_second) for url in (self.url, *more)]
        return ChainClient("sim", CHAIN_ID, endpoints, settings=self.settings, clock=self.clock, sleep=self.clock.sleep,
                           random=Random(1), spawn=lambda job: job())  # fmt: skip

    def follower(self, name: str = "sim", *, more: Sequence[str] = ()) -> Follower:
        return Follower(self.engine, self.client(more), CHAIN_ID, name=name, finality=self.finality, clock=self.clock)

    def backfill(self) -> Backfill:
        with self.engine.begin() as connection:  # the pauses of ranges that failed are real time's
            failed_ranges.retry_now(connection, CHAIN_ID)
        return Backfill(self.engine, self.client(), CHAIN_ID)

    def apply(self, *contracts: str) -> None:
        path = self.folder / "indexer.toml"
        chain = f'[chains.sim]\nid = {CHAIN_ID}\nrpc = ["${{NODE}}"]'
        path.write_text("\n".join([chain, *contracts]))
        apply(self.engine, declaration(load_manifest(path, {"NODE": self.url})))

    def tick(self, follower: Follower) -> Tick:
        """A look at the head that asks for finality too; a reader looks afterwards."""
        self.clock.sleep(60.0)
        outcome = follower.tick()
        self.look()
        return outcome

    def settle(self, follower: Follower) -> Picture:
        """Everything is brought in; nothing is missing afterwards, and a few more rounds change nothing."""
        before, quiet, rounds = None, 0, 0
        while quiet < _QUIET and rounds < _MOST_ROUNDS:
            outcome = self.tick(follower)
            self.backfill().run()
            picture = self.look()
            quiet = quiet + 1 if (outcome, picture) == (Tick.NOTHING_NEW, before) else 0
            before, rounds = picture, rounds + 1
        self.judge.check_complete(picture)
        return picture

    def look(self) -> Picture:
        picture = look(self.reader)
        self.judge.check(picture)
        return picture

    def query(self, text: str) -> list[tuple[Any, ...]]:
        cursor = self.reader.execute(text.encode())
        while cursor.nextset():
            pass
        return cursor.fetchall()


@contextmanager
def stage(
    arena: Arena,
    path: str,
    *,
    seed: int = 7,
    hostile: float = 0.1,
    first_log: int = 0,
    per_transaction: bool = False,
    null_rounds: float = 0.0,
) -> Iterator[Stage]:
    """A chain of 40 blocks of which 30 are final, and an empty database."""
    chain = Chain(
        Random(seed),
        depth=30,
        hostile=hostile,
        first_log=first_log,
        per_transaction=per_transaction,
        null_rounds=null_rounds,
    )
    chain.mine(40)
    chain.finalize(30)
    twist = Twist()
    node = Node(chain, liar=twist)
    with arena.database() as (database_url, folder):
        manifests.write_abis(folder)
        engine = create_engine(database_url)
        with psycopg.connect(database_url, autocommit=True) as reader:
            url = arena.server.add(path, node)
            try:
                yield Stage(chain, node, engine, url, database_url, folder, twist, reader, Judge(chain))
            finally:
                arena.server.remove(path)
                engine.dispose()
