"""A database for each seed on one Postgres server, and the server of simulated nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from indexer.store import database
from indexer.store.apply import migrate
from tests import databases
from tests.chaos.node import Server, serving


@dataclass(frozen=True)
class Arena:
    """Where seeds run."""

    postgres_url: str
    template: str
    server: Server
    folder: Path

    @contextlib.contextmanager
    def database(self) -> Iterator[tuple[str, Path]]:
        """The URL of a new database with the static tables, and a folder of its own; both go afterwards."""
        url = databases.create(self.postgres_url, self.template, "chaos")
        folder = self.folder / url.rpartition("/")[2]
        folder.mkdir()
        try:
            yield url, folder
        finally:
            databases.drop(self.postgres_url, url)


@contextlib.contextmanager
def arena(postgres_url: str, folder: Path) -> Iterator[Arena]:
    """An arena on a running Postgres server."""
    url = databases.create(postgres_url, prefix="template")
    engine = database.create_engine(url)
    migrate.upgrade(engine)
    engine.dispose()
    try:
        with serving() as server:
            yield Arena(postgres_url, url.rpartition("/")[2], server, folder)
    finally:
        databases.drop(postgres_url, url)
