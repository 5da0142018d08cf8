"""A database for each seed on one Postgres server, and the server of simulated nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg

from indexer.store import database
from indexer.store.apply import migrate
from tests.chaos.node import Server, serving


@dataclass(frozen=True)
class Arena:
    """Where seeds run."""

    postgres_url: str
    server: Server
    folder: Path

    @contextlib.contextmanager
    def database(self) -> Iterator[tuple[str, Path]]:
        """The URL of a new database with the static tables, and a folder of its own; both go afterwards."""
        name = f"chaos_{uuid4().hex[:12]}"
        folder = self.folder / name
        folder.mkdir()
        _execute(self.postgres_url, f"CREATE DATABASE {name} TEMPLATE chaos_template")
        try:
            yield self.postgres_url.rpartition("/")[0] + "/" + name, folder
        finally:
            _execute(self.postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def arena(postgres_url: str, folder: Path) -> Iterator[Arena]:
    """An arena on a running Postgres server."""
    _execute(postgres_url, "CREATE DATABASE chaos_template")
    url = postgres_url.rpartition("/")[0] + "/chaos_template"
    engine = database.create_engine(url)
    migrate.upgrade(engine)
    engine.dispose()
    try:
        with serving() as server:
            yield Arena(postgres_url, server, folder)
    finally:
        _execute(postgres_url, "DROP DATABASE chaos_template WITH (FORCE)")


def _execute(url: str, statement: str) -> None:
    """On a connection of its own: Postgres may crash between two."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())
