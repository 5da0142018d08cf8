"""What befalls a process at its statements: cut connections, its end, a full disk, a commit whose answer is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Engine

COMES_BACK_WITHIN = 60.0
"""Seconds in which Postgres recovers."""


class KilledError(BaseException):
    """The process ends here; nothing of it may run any more."""


@dataclass
class Chances:
    """How often, 0 to 1, at each statement.

    Attributes:
        cut: the connection is cut.
        kill: the process is killed.
        full: the disk is full, as Postgres says it.
        unsure: a commit is done but its answer lost.
    """

    random: Random
    cut: float = 0.0
    kill: float = 0.0
    full: float = 0.0
    unsure: float = 0.0

    def calm(self) -> None:
        """From now on nothing happens."""
        self.cut = self.kill = self.full = self.unsure = 0.0


def endanger(engine: Engine, chances: Chances, terminate: Callable[[int], None]) -> None:
    """Lets connections and processes end at statements."""

    def before(connection: Any, cursor: Any, *_: Any) -> None:
        draw = chances.random.random()
        driver = connection.connection.driver_connection
        if draw < chances.kill:
            chances.kill = 1.0
            raise KilledError
        draw -= chances.kill
        if draw < chances.cut:
            terminate(driver.info.backend_pid)
        elif draw < chances.cut + chances.full:
            # In place of the statement: the transaction is lost, as it is then.
            driver.execute("DO $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$")

    def commit(connection: Any) -> None:
        if chances.random.random() < chances.unsure:
            driver = connection.connection.driver_connection
            driver.commit()
            terminate(driver.info.backend_pid)

    sa.event.listen(engine, "before_cursor_execute", before)
    sa.event.listen(engine, "commit", commit)


def crash_postgres(url: str) -> None:
    """Kills one server process, upon which Postgres ends all others and recovers from its log; waits until it has.

    Every connection of every process is lost, and new ones are refused for a while.
    """
    deadline = time.monotonic() + COMES_BACK_WITHIN
    victim, witness = psycopg.connect(url), psycopg.connect(url, autocommit=True)
    os.kill(victim.info.backend_pid, signal.SIGKILL)
    with contextlib.suppress(psycopg.OperationalError):
        # Until Postgres has noticed, everything is as before.
        while time.monotonic() < deadline:
            witness.execute("SELECT 1")
    victim.close()
    witness.close()
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
