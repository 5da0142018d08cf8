"""A database with a manifest applied, for the rows of this package."""

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Engine

from benchmarks.measure import PostgresCpu, database
from indexer.manifest import load_manifest
from indexer.store.apply import migrate
from indexer.store.apply.apply import apply
from indexer.store.catalog.declaration import Declaration
from indexer.store.database import create_engine
from indexer.sync.setup.declaration import declaration

TOKEN: list[Any] = [
    {
        "type": "event",
        "name": "Transfer",
        "anonymous": False,
        "inputs": [
            {"name": name, "type": kind, "indexed": indexed}
            for name, kind, indexed in (("from", "address", True), ("to", "address", True), ("value", "uint256", False))
        ],
    }
]
"""The ABI of a token, as far as its transfers are concerned."""


def cpu_ms(engine: Engine, work: Callable[[], object], times: int) -> float:
    """The CPU time of this process and of Postgres that work takes, in ms: a busy machine makes it little longer.

    Args:
        engine: the database that it works with; Postgres must be at rest otherwise.
        work: what to measure; done once before.
        times: how often it is done.
    """
    work()
    postgres = PostgresCpu(psycopg_url(engine))
    began = time.process_time() + postgres.cpu()
    for _ in range(times):
        work()
    return (time.process_time() + postgres.cpu() - began) * 1000 / times


def psycopg_url(engine: Engine) -> str:
    """The database's URL as psycopg reads it."""
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)


@contextlib.contextmanager
def applied(server_url: str, manifest: str, abis: Mapping[str, Any]) -> Iterator[Engine]:
    """A database of its own in which a manifest was applied.

    Args:
        server_url: a Postgres where databases may be made.
        manifest: its text; the URL of a node is ``RPC_URL``.
        abis: by file name, beside the manifest.
    """
    with database(server_url) as url, tempfile.TemporaryDirectory(prefix="gapless-scale-") as folder:
        engine = create_engine(url)
        try:
            migrate.upgrade(engine)
            apply_again(engine, Path(folder), manifest, abis)
            yield engine
        finally:
            engine.dispose()


def declared(manifest: str, abis: Mapping[str, Any]) -> Declaration:
    """A manifest with its ABIs, as the store wants it."""
    with tempfile.TemporaryDirectory(prefix="gapless-scale-") as folder:
        return _declared(Path(folder), manifest, abis)


def apply_again(engine: Engine, folder: Path, manifest: str, abis: Mapping[str, Any]) -> None:
    """Applies a manifest, written to a folder with its ABIs."""
    apply(engine, _declared(folder, manifest, abis))


def _declared(folder: Path, manifest: str, abis: Mapping[str, Any]) -> Declaration:
    path = folder / "indexer.toml"
    path.write_text(manifest)
    for name, document in abis.items():
        (folder / name).write_text(json.dumps(document))
    return declaration(load_manifest(path, {"RPC_URL": "http://127.0.0.1:9"}))
