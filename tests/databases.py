"""Databases of a test's own, and where the servers that hold them keep their files."""

from __future__ import annotations

import shutil
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql

_MEMORY = Path("/dev/shm")
_ROOM = 12 * 2**30
"""Bytes that the servers of all test processes together need at most."""


def fast_directory() -> Path | None:
    """Where servers' files go: memory if there is room, else None, the directory for temporary files.

    A database has a thousand files. To make one takes 1.6 seconds on a disk and 0.08 in memory, and there are
    thousands of them in a run of the tests.
    """
    try:
        free = shutil.disk_usage(_MEMORY).free
    except OSError:
        return None
    return _MEMORY if free > _ROOM else None


def create(server: str, template: str = "template1", prefix: str = "test") -> str:
    """Make a database on a server, like another one of it; returns its URL.

    Its files are copied, where Postgres would write each page to its log by default: that takes twelve times as long.
    """
    name = f"{prefix}_{uuid4().hex[:12]}"
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    return server.rpartition("/")[0] + "/" + name


def drop(server: str, url: str) -> None:
    """Remove a database, whoever is connected."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(url.rpartition("/")[2])))
