"""Why a seed with kills stands still: what every indexer does and last said, and what Postgres makes wait."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg

LAST_LINES = 40
"""Of each indexer's log."""

_WRITES_WITHIN = 10.0
"""Seconds in which a process has written where its threads stand; the machine may be busy."""

_STILL = 4
"""Looks at the file in a row that found it as it was."""

_DEFECT = re.compile(r"indexer\.service\.\w+ job .* failed: ")
_SHOWN = 4000

_QUESTIONS = {
    "chains": "SELECT head_number, tip_number, finalized_number, follower, state, state_reason FROM gapless.chains",
    "leases": "SELECT name, holder, expires_at - clock_timestamp() AS left FROM gapless.leases",
    "endpoints": "SELECT host, state, head_number, updated_at, details FROM gapless.endpoints",
    "catalog": "SELECT version FROM gapless.catalog",
    "sources": "SELECT id, active, start_block, end_block, coverage, followed FROM gapless.sources ORDER BY id",
    "sessions": (
        "SELECT pid, state, wait_event_type, wait_event, now() - xact_start AS transaction, pg_blocking_pids(pid) AS "
        "waits_for, left(query, 200) AS query FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ),
    "locks": (
        "SELECT pid, locktype, mode, granted, classid, objid, relation::regclass FROM pg_locks "
        "WHERE (locktype = 'advisory' OR NOT granted) AND pid <> pg_backend_pid() ORDER BY pid"
    ),
}


def keep_a_record(folder: Path) -> None:
    """In an indexer's process: writes its log, and upon SIGUSR1 where its threads stand, to files of its own."""
    own = _log(folder, os.getpid())
    logging.basicConfig(filename=own, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    sys.stderr = own.open("a")
    faulthandler.register(signal.SIGUSR1, file=_threads(folder, os.getpid()).open("w"), all_threads=True)


def report(connection: psycopg.Connection[Any], folder: Path, pids: Iterable[int]) -> str:
    """Everything that tells what a run waits for.

    Args:
        connection: to its database, in autocommit mode.
        folder: given to :func:`keep_a_record`.
        pids: of the indexers that are alive.
    """
    parts = []
    for title, question in _QUESTIONS.items():
        cursor = connection.execute(question.encode())
        names = [column.name for column in cursor.description or ()]
        lines = ("  " + ", ".join(f"{n} {v}" for n, v in zip(names, row, strict=True)) for row in cursor)
        parts.append("\n".join([f"{title}:", *lines]))
    for pid in pids:
        parts += [_stacks(folder, pid), f"the last words of indexer {pid}:\n{_tail(_log(folder, pid))}"]
    return "\n".join(parts)


def defects(folder: Path) -> list[str]:
    """What the indexers' jobs ended with that nobody foresaw (``Service._failed``), with its traceback."""
    found = []
    for log in sorted(folder.glob("indexer-*.log")):
        text = log.read_text()
        if (at := _DEFECT.search(text)) is not None:
            found.append(text[at.start() : at.start() + _SHOWN])
    return found


def _stacks(folder: Path, pid: int) -> str:
    written = _threads(folder, pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)
    until = time.monotonic() + _WRITES_WITHIN
    sizes: list[int] = []
    # Done when it grows no more: the handler writes thread by thread, and says nothing at its end.
    while time.monotonic() < until and (len(sizes) < _STILL or not sizes[-1] or len(set(sizes[-_STILL:])) > 1):
        time.sleep(0.2)
        sizes.append(_size(written))
    return f"the threads of indexer {pid}:\n{written.read_text() if written.exists() else '  (not known)'}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tail(path: Path) -> str:
    lines = path.read_text().splitlines() if path.exists() else []
    return "\n".join(f"  {line}" for line in lines[-LAST_LINES:])


def _log(folder: Path, pid: int) -> Path:
    return folder / f"indexer-{pid}.log"


def _threads(folder: Path, pid: int) -> Path:
    return folder / f"indexer-{pid}.threads"
