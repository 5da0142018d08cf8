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

_WRITES_WITHIN, _ONCE_WITHIN = 60.0, 3.0
"""Seconds in which a process has written where its threads stand, and in which one try has; the machine may be busy."""

_LAST_FRAME = " in <module>\n"
"""Of the main thread, which comes last."""

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
    written, said = _threads(folder, pid), ""
    until = time.monotonic() + _WRITES_WITHIN
    with contextlib.suppress(ProcessLookupError):
        # The handler stops no thread: one that begins or ends meanwhile can lead it astray, and it is asked again.
        while _LAST_FRAME not in said and time.monotonic() < until:
            os.kill(pid, signal.SIGUSR1)
            said = _written_after(written, len(said), min(until, time.monotonic() + _ONCE_WITHIN))
    return f"the threads of indexer {pid}:\n{said or '  (not known)'}"


def _written_after(path: Path, before: int, until: float) -> str:
    while True:
        said = path.read_text() if path.exists() else ""
        if _LAST_FRAME in said[before:] or time.monotonic() > until:
            return said
        time.sleep(0.1)


def _tail(path: Path) -> str:
    lines = path.read_text().splitlines() if path.exists() else []
    return "\n".join(f"  {line}" for line in lines[-LAST_LINES:])


def _log(folder: Path, pid: int) -> Path:
    return folder / f"indexer-{pid}.log"


def _threads(folder: Path, pid: int) -> Path:
    return folder / f"indexer-{pid}.threads"
