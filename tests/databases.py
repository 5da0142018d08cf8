"""Databases of a test's own, and where the servers that hold them keep their files."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql

_MEMORY = Path("/dev/shm")
_ROOM = 12 * 2**30
"""Bytes that the servers of all test processes together need at most."""


_PREFIX = "gapless-tests-"
_LOCK = "in-use"


@contextlib.contextmanager
def servers_directory() -> Iterator[Path]:
    """A directory for the files of servers, gone afterwards: in memory if there is room, else among temporary files.

    A database has a thousand files. To make one takes 1.6 seconds on a disk and 0.08 in memory, and there are
    thousands of them in a run of the tests.
    """
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_place(), ignore_cleanup_errors=True) as name:
        directory = Path(name)
        with (directory / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield directory


def _place() -> Path | None:
    try:
        _remove_abandoned()
        return _MEMORY if shutil.disk_usage(_MEMORY).free > _ROOM else None
    except OSError:  # no such place here
        return None


def _remove_abandoned() -> None:
    """Frees the memory of runs that were killed: nothing holds their locks."""
    for directory in _MEMORY.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), (directory / _LOCK).open() as lock:
            if directory.stat().st_ctime < time.time() - 60.0:  # one that has just been made is not locked yet
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)


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
    """Remove a database, also while others are connected to it."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(url.rpartition("/")[2])))
