"""A hundred chains in one process, with a pool of connections that is much smaller."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from indexer.cli.context import prepare
from indexer.manifest import load_manifest
from indexer.service import scheduler
from indexer.settings import Settings
from indexer.store.cache import Cache
from indexer.store.database import create_engine
from tests.further import examples
from tests.posts import HttpAnswer, serving

CHAINS = examples(100)
PATIENCE = 300.0
ARGUMENT = {"name": "by", "type": "address", "indexed": True}
ABI = [{"type": "event", "name": "Ping", "anonymous": False, "inputs": [ARGUMENT]}]


class Nodes:
    """The node of chain N at the path /N: every chain has the same height, and no logs."""

    def __init__(self) -> None:
        self.url = ""
        self.head = 20

    def respond(self, path: str, body: bytes) -> HttpAnswer:
        asked = json.loads(body)
        chain = int(path.strip("/"))
        if isinstance(asked, list):
            return HttpAnswer(200, json.dumps([self.answer(chain, call) for call in asked]).encode())
        return HttpAnswer(200, json.dumps(self.answer(chain, asked)).encode())

    def answer(self, chain: int, call: dict[str, Any]) -> dict[str, Any]:
        method, params = call["method"], call.get("params", [])
        result: Any = []
        if method == "eth_chainId":
            result = hex(chain)
        elif method == "eth_getBlockByNumber":
            number = self.number(params[0])
            result = None if number > self.head else header(chain, number)
        elif method == "eth_blockNumber":
            result = hex(self.head)
        return {"jsonrpc": "2.0", "id": call["id"], "result": result}

    def number(self, tag: str) -> int:
        known = {"latest": self.head, "safe": self.head - 4, "finalized": self.head - 8}
        return known[tag] if tag in known else int(tag, 16)


def header(chain: int, number: int) -> dict[str, Any]:
    def block_hash(of: int) -> str:
        return "0x" + hashlib.sha256(f"{chain}/{of}".encode()).hexdigest()

    return {
        "number": hex(number),
        "hash": block_hash(number),
        "parentHash": block_hash(number - 1),
        "timestamp": hex(1_700_000_000 + number),
        "logsBloom": "0x" + "00" * 256,
        "transactions": [],
    }


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    with serving(nodes.respond) as nodes.url:
        yield nodes


def test_all_of_a_hundred_chains_are_followed(nodes: Nodes, migrated_url: str, tmp_path: Path) -> None:
    (tmp_path / "ping.json").write_text(json.dumps(ABI))
    numbers = range(1001, 1001 + CHAINS)
    text = "".join(f'[chains.c{n}]\nid = {n}\nrpc = ["${{URL_{n}}}"]\npoll_interval = 1.0\n' for n in numbers)
    text += f'[contracts.ping]\nabi = "ping.json"\naddress = "0x{"11" * 20}"\nstart_block = 1\n'
    text += f"chains = {json.dumps([f'c{n}' for n in numbers])}\n"
    path = tmp_path / "indexer.toml"
    path.write_text(text)
    manifest = load_manifest(path, {f"URL_{n}": f"{nodes.url}/{n}" for n in numbers})
    engine = create_engine(migrated_url, pool_size=5)  # and as many more
    prepare(engine, manifest)
    service = scheduler.Service(engine, Cache(None), manifest, Settings(_env_file=None))
    service.start()
    try:
        with psycopg.connect(migrated_url, autocommit=True) as connection:
            waited = threading.Event()
            for _ in range(2):
                for _ in range(int(PATIENCE / 0.2)):
                    behind = connection.execute(
                        "SELECT count(*) FROM gapless.chains WHERE tip_number IS DISTINCT FROM %s", (nodes.head,)
                    ).fetchone()
                    if behind == (0,):
                        break
                    waited.wait(0.2)
                assert behind == (0,), f"{behind} of {CHAINS} chains stand still"
                nodes.head += 3
            held = connection.execute("SELECT count(*) FROM gapless.leases WHERE name LIKE 'follow %'").fetchone()
            assert held == (CHAINS,)
    finally:
        service.stop()
        engine.dispose()
