"""The process of one program (``python -m indexer.programs.worker``): it works on all chains of the program in turn.

The right to write a program's tables on a chain is a lease; where another process has it, this one stands by. Once a
second it looks whether the code is another one, and ends for that (:data:`CHANGED`): a new process loads it.
"""

import argparse
import gc
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Final

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from indexer import signals
from indexer.errors import GaplessError
from indexer.log import configure
from indexer.programs import module
from indexer.programs.memory import WORKING_SET
from indexer.programs.module import LoadedProgram, ProgramFileError
from indexer.programs.runner import ProgramRunner
from indexer.redact import redact
from indexer.store.database import create_engine, process_name
from indexer.store.leases import Lease, Renewer
from indexer.store.programs import standstills

log = logging.getLogger(__name__)

CHANGED: Final = 75
"""Exit status of a process that wants to be started again: the code is another one."""
LOOK_EVERY = 0.25
"""Seconds between two looks for new blocks."""
FILES_EVERY: Final = 1.0
"""Seconds between two looks at the files."""
LONGEST_PAUSE: Final = 30.0
_NOTED_AFTER: Final = 2
"""Steps in a row that failed, after which that is told to others than the log."""
_TROUBLE: Final = "it is tried again and again, and fails: "
COLLECT_EVERY: Final = 300.0
"""Seconds between two searches for cycles of objects. Rows are in none, and there are hundreds of thousands."""


class ChainWork:
    """A program's work on one chain: its lease, its runner, and its trouble.

    Args:
        engine: the database.
        lease_engine: the same, by connections that only renew leases.
        runner: the program on the chain.
        name: of the program.
        chain_id: the chain.
    """

    def __init__(self, engine: Engine, lease_engine: Engine, runner: ProgramRunner, name: str, chain_id: int) -> None:
        self.lease = Lease(lease_engine, f"program {name} {chain_id}")
        self._engine = engine
        self._runner = runner
        self._name = name
        self._chain_id = chain_id
        self._trouble = ""
        self._failures = 0
        self._may_be_noted = True  # by the process before this one, too
        self._pause = 0.0
        self._again_at = 0.0

    def step(self) -> bool:
        """Takes a step, if this process may; returns whether there may be more to do at once."""
        if time.monotonic() < self._again_at:
            return False
        try:
            if not self.lease.is_held():
                self._runner.forget()
                if not self.lease.take():
                    return False
                log.info("%s: this process writes its tables", self._runner.label)
            moved = self._runner.step() == "moved"
            if self._may_be_noted:
                self._note(None)
        except (sa.exc.SQLAlchemyError, psycopg.Error, GaplessError) as error:
            self._wait(error)
            return False
        self._trouble, self._pause, self._failures = "", 0.0, 0
        return moved

    def _wait(self, error: Exception) -> None:
        self._pause = min(max(2 * self._pause, 1.0), LONGEST_PAUSE)
        self._again_at = time.monotonic() + self._pause
        trouble = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        if trouble != self._trouble:
            log.warning("%s: %s; trying again", self._runner.label, redact(trouble))
        self._trouble = trouble
        self._failures += 1
        if self._failures >= _NOTED_AFTER:
            try:
                self._note(f"{_TROUBLE}{redact(trouble)}")
            except (sa.exc.SQLAlchemyError, psycopg.Error):
                log.debug("%s: its trouble cannot be noted", self._runner.label, exc_info=True)

    def _note(self, problem: str | None) -> None:
        """Notes why it makes no progress; None: it is at work again."""
        with self._engine.begin() as connection:
            if problem is None:
                standstills.forget(connection, self._name, self._chain_id, _TROUBLE)
            else:
                standstills.note(connection, self._name, [self._chain_id], problem, unless_known=True)
        self._may_be_noted = problem is not None


def work(
    engine: Engine,
    lease_engine: Engine,
    name: str,
    loaded: LoadedProgram,
    chain_ids: list[int],
    working_set: int,
    stop: threading.Event,
) -> int:
    """Works until it is told to stop; returns the exit status."""
    every = [
        ChainWork(
            engine,
            lease_engine,
            ProgramRunner(engine, name, loaded, chain_id, working_set=max(1, working_set // len(chain_ids))),
            name,
            chain_id,
        )
        for chain_id in chain_ids
    ]
    module.forbid_outside()
    looked = collected = time.monotonic()
    with Renewer(lease_engine, lambda: [one.lease for one in every]):
        try:
            while not stop.is_set():
                moved = [one.step() for one in every]
                now = time.monotonic()
                if now >= looked + FILES_EVERY:
                    looked = now
                    if loaded.is_changed():
                        log.info("program %s: its code has changed", name)
                        return CHANGED
                if now >= collected + COLLECT_EVERY:
                    collected = now
                    gc.collect()
                if not any(moved):
                    stop.wait(LOOK_EVERY)
        finally:
            for one in every:
                one.lease.release()
    return 0


def _await_change(
    engine: Engine, name: str, path: Path, chain_ids: list[int], problem: str, stop: threading.Event
) -> int:
    """Says why a file cannot be used, and waits until it is another one."""
    log.error("program %s stands still: %s. Mend the file; it is loaded again by itself", name, problem)
    try:
        with engine.begin() as connection:
            standstills.note(connection, name, chain_ids, problem)
    except sa.exc.SQLAlchemyError as error:
        log.warning("program %s: %s", name, redact(str(error).partition("\n")[0]))
    before = _stat(path)
    while not stop.wait(FILES_EVERY):
        if _stat(path) != before:
            return CHANGED
    return 0


def _stat(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_size


def main() -> int:
    """Runs the process; returns its exit status."""
    parser = argparse.ArgumentParser(description="Run one program of a manifest.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--module", type=Path, required=True)
    parser.add_argument("--chains", required=True, help="EIP-155 chain ids, separated by commas")
    parser.add_argument("--working-set", type=int, default=WORKING_SET)
    given = parser.parse_args()
    configure(os.environ.get("LOG_LEVEL", "INFO"), os.environ.get("LOG_FORMAT", "auto"))  # type: ignore[arg-type]
    chain_ids = [int(one) for one in given.chains.split(",")]
    stop = threading.Event()
    url = os.environ["DATABASE_URL"]
    command = f"gapless program {given.name}"
    engine = create_engine(url, application_name=process_name(command), pool_size=3)
    lease_engine = create_engine(url, application_name=process_name(command), pool_size=1)
    gc.disable()
    with signals.acting_on({signal.SIGTERM: stop.set, signal.SIGINT: stop.set}):
        try:
            loaded = module.load(given.module)
        except ProgramFileError as error:
            return _await_change(engine, given.name, given.module, chain_ids, str(error), stop)
        return work(engine, lease_engine, given.name, loaded, chain_ids, given.working_set, stop)


if __name__ == "__main__":
    raise SystemExit(main())
