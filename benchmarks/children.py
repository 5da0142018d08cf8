"""A factory with 300,000 children: what loading them costs, what a chunk and a look at the head cost, and the memory.

Run: ``python -m benchmarks.children``. Two chains, for the two ways to ask (``chain.logs``): on the first only the
children emit their topic (the pairs of an exchange, say), on the second so many strangers emit it too (as with ERC-20's
Transfer) that their logs would be most of the bytes.

The rows are counted before anything is printed; status 1: some are missing, or the memory is more than promised.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.children_node import FACTORY, WORDS_IN_A_BLOCK, Counts
from benchmarks.measure import database
from benchmarks.memory import peak
from benchmarks.workloads import CHAIN_ID
from indexer.store import embedded

CHILDREN = 300_000
MOST_MEMORY = 300e6
"""Bytes of resident memory that the indexer may take at its peak."""

SCENES = {"own topic": 0, "shared topic": 120}
HEAD_BLOCKS = 10

_ADDRESS = {"name": "child", "type": "address", "indexed": False}
_NUMBER = {"name": "number", "type": "uint256", "indexed": False}
_MANIFEST = f"""
[chains.bench]
id = {CHAIN_ID}
rpc = ["${{RPC_URL}}"]
finality = 50

[contracts.factory]
abi = "factory.json"
address = "{FACTORY}"
start_block = 1

[contracts.child]
abi = "child.json"
factory = {{ contract = "factory", event = "Born", argument = "child" }}
"""


def main() -> int:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.children", description=__doc__.split("\n", 1)[0])
    parser.add_argument("scene", nargs="*", choices=[*SCENES, []], help="which chain; both by default")
    parser.add_argument("--children", type=int, default=CHILDREN, help=f"how many (default {CHILDREN:,})")
    parser.add_argument("--index", nargs=3, metavar=("DATABASE", "MANIFEST", "NODE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.index:
        print(json.dumps(index(*arguments.index)))
        return 0
    failed = 0
    with tempfile.TemporaryDirectory(prefix="gapless-bench-") as folder:
        write_manifest(Path(folder))
        with embedded.postgres(Path(folder) / "servers") as server:
            for name in arguments.scene or SCENES:
                failed += not scene(Path(folder), server, name, arguments.children)
    return 1 if failed else 0


def write_manifest(folder: Path) -> None:
    """The manifest and its ABIs."""
    (folder / "indexer.toml").write_text(_MANIFEST)
    for name, event, argument in (("factory", "Born", _ADDRESS), ("child", "Spoke", _NUMBER)):
        item = {"type": "event", "name": event, "anonymous": False, "inputs": [argument]}
        (folder / f"{name}.json").write_text(json.dumps([item]))


def scene(folder: Path, server: str, name: str, children: int) -> bool:
    """Indexes one chain and prints what it took. False where it is not as it should be."""
    with node(children, SCENES[name]) as url, database(server) as database_url:
        command = [sys.executable, "-m", "benchmarks.children", "--index", database_url, folder / "indexer.toml", url]
        said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
        with psycopg.connect(database_url) as connection:
            found = connection.execute(
                "SELECT (SELECT count(*) FROM child.spoke), (SELECT count(*) FROM gapless.children)"
            ).fetchone()
    expected = (said["last"] * WORDS_IN_A_BLOCK, children)
    print(f"{name}: {children:,} children, {said['last']:,} blocks, {SCENES[name]} words of strangers in each")
    for part in said["parts"]:
        counts = part["counts"]
        print(
            f"  {part['what']:32} {part['seconds']:8.2f} s {counts['requests']:6,} requests "
            f"{counts['get_logs']:6,} eth_getLogs {counts['received'] / 1e6:8.1f} MB sent "
            f"{counts['sent'] / 1e6:8.1f} MB received {part['memory'] / 1e6:5.0f} MB of memory"
        )
    print(f"  children loaded in {said['load']:.2f} s; largest resident memory {said['peak'] / 1e6:.0f} MB", flush=True)
    if found != expected:
        print(f"  WRONG: (words, children) {found}, not {expected}", file=sys.stderr)
    if said["peak"] > MOST_MEMORY:
        print(f"  TOO MUCH MEMORY: more than {MOST_MEMORY / 1e6:.0f} MB", file=sys.stderr)
    return found == expected and said["peak"] <= MOST_MEMORY


@contextlib.contextmanager
def node(children: int, strangers: int) -> Iterator[str]:
    """The URL of a node that serves such a chain."""
    command = [sys.executable, "-m", "benchmarks.children_node", str(children), str(strangers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def index(database_url: str, manifest_path: str, node_url: str) -> dict[str, Any]:
    """Indexes the chain: history, then its head, block by block. Runs in a process of its own, for its memory.

    Returns:
        ``parts``: what each took; ``load``: seconds to read all children once more; ``peak``: bytes.
    """
    from indexer.cli.context import _share_arenas
    from indexer.manifest import load_manifest
    from indexer.settings import Settings
    from indexer.store.apply import migrate
    from indexer.store.apply.apply import apply
    from indexer.store.catalog import catalog
    from indexer.store.database import create_engine
    from indexer.sync.head.follower import Follower, Tick
    from indexer.sync.history.backfill import Backfill, Selection
    from indexer.sync.setup import network
    from indexer.sync.setup.declaration import declaration

    _share_arenas()  # as the commands do
    manifest = load_manifest(Path(manifest_path), {"RPC_URL": node_url})
    engine = create_engine(database_url)
    migrate.upgrade(engine)
    apply(engine, declaration(manifest))
    (chain,) = manifest.chains.values()
    client = network.connect(chain, Settings(_env_file=None))
    follower = Follower(engine, client, chain.chain_id, name=chain.name, finality=chain.finality, blooms=False)
    follower.prepare()
    parts: list[dict[str, Any]] = []

    @contextlib.contextmanager
    def measured(what: str) -> Iterator[None]:
        before, started = _ask(node_url, "counts"), time.perf_counter()
        yield
        seconds, after = time.perf_counter() - started, _ask(node_url, "counts")
        counts = {name: after[name] - before[name] for name in vars(Counts())}
        parts.append({"what": what, "seconds": seconds, "counts": counts, "memory": peak()})

    with measured("history of the factory"):
        Backfill(engine, client, chain.chain_id, Selection(contract="factory")).run()
    with measured("history of the children"):
        Backfill(engine, client, chain.chain_id, Selection(contract="child")).run()
    with measured("coming to the head"):
        while follower.tick() is not Tick.NOTHING_NEW:
            pass
    with measured(f"{HEAD_BLOCKS} blocks at the head"):
        for _ in range(HEAD_BLOCKS):
            _ask(node_url, "grow")
            follower.tick()
    started = time.perf_counter()
    with engine.connect() as connection:
        catalog.load_children(connection, chain.chain_id)
    load = time.perf_counter() - started
    last = client.head().number
    follower.close()
    client.close()
    engine.dispose()
    return {"parts": parts, "load": load, "last": last, "peak": peak()}


def _ask(url: str, what: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/{what}") as answer:
        found: dict[str, int] = json.loads(answer.read())
    return found


if __name__ == "__main__":
    sys.exit(main())
