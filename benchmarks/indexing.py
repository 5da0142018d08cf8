"""The indexer as the benchmark runs it: a process of its own, so that its memory and CPU time can be told apart.

Run: ``python -m benchmarks.indexing DATABASE_URL MANIFEST NODE_URL``. Prints what it took as JSON.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

from benchmarks.memory import peak
from indexer.manifest import load_manifest
from indexer.settings import Settings
from indexer.store.apply import migrate
from indexer.store.apply.apply import apply
from indexer.store.database import create_engine
from indexer.sync.head.follower import Follower
from indexer.sync.history.backfill import Backfill
from indexer.sync.setup import network
from indexer.sync.setup.declaration import declaration


def main() -> None:
    """Read the command line, index, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database_url")
    parser.add_argument("manifest", type=Path)
    parser.add_argument("node_url")
    parser.add_argument("--in-flight", type=int, default=Settings().backfill_in_flight)
    parser.add_argument("--portal", default="", help="PORTAL_URL of the manifest")
    arguments = parser.parse_args()
    environ = {"RPC_URL": arguments.node_url, "PORTAL_URL": arguments.portal}
    print(json.dumps(index(arguments.database_url, arguments.manifest, environ, arguments.in_flight)))


def index(database_url: str, manifest_path: Path, environ: dict[str, str], in_flight: int) -> dict[str, Any]:
    """Fill the history of the manifest's one chain.

    Returns:
        What it took: seconds, bytes, counts.
    """
    manifest = load_manifest(manifest_path, environ)
    engine = create_engine(database_url)
    migrate.upgrade(engine)
    apply(engine, declaration(manifest))
    (chain,) = manifest.chains.values()
    client = network.connect(chain, Settings())
    used, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    follower = Follower(engine, client, chain.chain_id, name=chain.name, finality=chain.finality, blooms=False)
    follower.prepare()
    history = network.history(chain, Settings(), client)
    backfill = Backfill(engine, client, chain.chain_id, in_flight=in_flight, history=history)
    progress = backfill.run()
    seconds, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    follower.close()
    if history is not None:
        history.close()
    client.close()
    engine.dispose()
    return {
        "seconds": seconds,
        "indexing": progress.indexing,
        "rows": progress.rows,
        "requests": progress.requests,
        "bytes": progress.bytes,
        "cpu": now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime,
        "peak_bytes": peak(),
    }


if __name__ == "__main__":
    main()
