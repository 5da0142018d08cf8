"""The processes of programs, one each, kept running: a hot loop or a crash in one of them stops nothing else.

A process that ends is started again, at once where its code is another one, else after pauses that double. All of them
end with the one that supervises them, however that ends (:mod:`indexer.processes`).
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from indexer.processes import tied
from indexer.programs.worker import CHANGED
from indexer.redact import redact
from indexer.store.database import create_engine, process_name
from indexer.store.programs import standstills

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
STEADY_AFTER: Final = 60.0
"""Seconds after which a process that ends is started as if for the first time."""
GRACE: Final = 6.0
"""Seconds that a process has to end."""
_LOOK_EVERY: Final = 0.2


@dataclass(frozen=True, slots=True)
class ProgramTask:
    """A program that is to run.

    Attributes:
        name: in the manifest.
        path: its file.
        chain_ids: the chains whose events it handles.
        working_set: rows in memory at most, about.
    """

    name: str
    path: Path
    chain_ids: tuple[int, ...]
    working_set: int


class ProgramSupervisor:
    """Runs programs, each in a process of its own. Not thread-safe.

    Args:
        database_url: where Postgres is.
    """

    def __init__(self, database_url: str) -> None:
        # Sets are gone through in the same order in every process.
        self._environment = {**os.environ, "DATABASE_URL": database_url, "PYTHONHASHSEED": "0"}
        self._running: dict[ProgramTask, tuple[threading.Event, threading.Thread]] = {}

    def take_over(self, tasks: Iterable[ProgramTask]) -> None:
        """Starts the programs that are new, and ends those that are gone or are to run otherwise."""
        wanted = set(tasks)
        self._end([task for task in self._running if task not in wanted])
        for task in sorted(wanted - self._running.keys(), key=lambda one: one.name):
            stop = threading.Event()
            thread = threading.Thread(target=self._keep, args=(task, stop), name=f"program {task.name}", daemon=True)
            self._running[task] = stop, thread
            thread.start()

    def close(self) -> None:
        """Ends all of them."""
        self._end(list(self._running))

    def _end(self, tasks: Iterable[ProgramTask]) -> None:
        ending = [self._running.pop(task) for task in tasks]
        for stop, _ in ending:
            stop.set()
        for _, thread in ending:
            thread.join()

    def _keep(self, task: ProgramTask, stop: threading.Event) -> None:
        pause = FIRST_PAUSE
        while not stop.is_set():
            began = time.monotonic()
            status = self._run(task, stop)
            if stop.is_set() or status == CHANGED:
                continue
            pause = FIRST_PAUSE if time.monotonic() > began + STEADY_AFTER else pause
            log.error("program %s: its process ended with status %s; again in %.0f s", task.name, status, pause)
            self._tell(task, f"its process ended with status {status}, and is started again: the log says why it ended")
            stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _tell(self, task: ProgramTask, problem: str) -> None:
        """Notes why a program makes no progress, until it does; what it has noted itself says more."""
        engine = create_engine(
            self._environment["DATABASE_URL"], application_name=process_name("gapless programs"), pool_size=1
        )
        try:
            with engine.begin() as connection:
                standstills.note(connection, task.name, task.chain_ids, problem, unless_known=True)
        except sa.exc.SQLAlchemyError as error:
            log.warning("program %s: %s", task.name, redact(str(error).partition("\n")[0]))
        finally:
            engine.dispose()

    def _run(self, task: ProgramTask, stop: threading.Event) -> int | None:
        command = [
            *(sys.executable, "-m", "indexer.programs.worker", "--name", task.name, "--module", str(task.path)),
            *("--chains", ",".join(map(str, task.chain_ids)), "--working-set", str(task.working_set)),
        ]
        with tied(command, environment=self._environment, grace=GRACE) as process:
            while process.poll() is None and not stop.wait(_LOOK_EVERY):
                pass
        return process.returncode if not stop.is_set() else None
