"""What a scenario stands on: a Postgres that can be stopped and frozen, nodes, and ``gapless`` as processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

from indexer.store import embedded
from tests.chaos.node import Server
from tests.conftest import FAST
from tests.processes import living
from tests.ready import ReadyProcess
from tests.reliability.chain import CHAIN_ID, TOKEN, Miner, Row, TokenChain

GAPLESS = [sys.executable, "-c", "from indexer.cli import main; main()"]
ROOT = Path(__file__).resolve().parents[2]
ERC20 = ROOT / "abis" / "erc20.json"


class FailedError(AssertionError):
    """A check of a scenario that did not hold."""


def until(condition: Callable[[], Any], seconds: float, complaint: Callable[[], str]) -> Any:
    """Waits for something to be true.

    Returns:
        What the condition returned at last.

    Raises:
        FailedError: it did not become true in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise FailedError(complaint())
        time.sleep(0.02)
    return found


def fail(complaint: str) -> bool:
    """Raises :class:`FailedError`, where an expression is wanted."""
    raise FailedError(complaint)


class Postgres:
    """A server of a scenario's own, whose port stays the same when it is started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self.url = ""
        self.start()

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        settings = {**FAST, "synchronous_commit": "on"}
        self.url = self._stack.enter_context(embedded.postgres(self._folder, settings=settings))

    def stop(self) -> None:
        """Stops the server; every connection is lost."""
        self._stack.close()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stands still, with all of its processes, as a machine that swaps or a disk that hangs."""
        port = self.url.rpartition("/")[0].rpartition(":")[2]
        servers = [p for p, arguments in living() if "-p" in arguments and port in arguments and "-D" in arguments]
        frozen = [one for server in servers for one in (*server.children(recursive=True), server)]
        for one in frozen:
            with contextlib.suppress(psutil.Error):
                one.suspend()
        try:
            yield
        finally:
            for one in frozen:
                with contextlib.suppress(psutil.Error):
                    one.resume()

    def query(self, statement: str, *parameters: Any) -> list[Any]:
        """Runs one statement; an empty list while the server does not answer, or has no such table yet."""
        try:
            with psycopg.connect(self.url, connect_timeout=5, autocommit=True) as connection:
                return connection.execute(statement.encode(), parameters).fetchall()
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            return []


class Gapless:
    """One command of ``gapless`` as a process of its own."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], folder: Path, number: int) -> None:
        self._log = folder / f"gapless-{number}.log"
        with self._log.open("wb") as output:
            self.popen = ReadyProcess(
                [*GAPLESS, *arguments],
                env={**os.environ, "PYTHONPATH": str(ROOT), "LOG_FORMAT": "text", **environment},
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        """Its log so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.popen.poll() is None

    def kill(self) -> None:
        """SIGKILL."""
        self.popen.kill()
        self.popen.wait()

    def terminate(self, seconds: float) -> int:
        """SIGTERM.

        Returns:
            Its exit status.

        Raises:
            FailedError: it has not ended in time.
        """
        self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise FailedError(f"it did not end within {seconds:g} s of SIGTERM") from None


@dataclass
class Rig:
    """One scenario's servers, files and processes.

    Attributes:
        seconds: a block's time at the head.
        patience: seconds in which everything must be indexed once nothing is wrong any more.
        scale: how long troubles last, as a part of the suite's own times: 1.0 is as written there.
    """

    folder: Path
    server: Server
    seconds: float
    patience: float
    scale: float
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _postgres: Postgres | None = None
    _urls: list[str] = field(default_factory=list)
    _started: list[Gapless] = field(default_factory=list)

    @property
    def postgres(self) -> Postgres:
        """The database server; started at its first use."""
        if self._postgres is None:
            (self.folder / "postgres").mkdir()
            self._postgres = Postgres(self.folder / "postgres")
            self.stack.callback(self._postgres.stop)
        return self._postgres

    def miner(self, chain: TokenChain) -> Miner:
        """What makes the chain's blocks; it stands still at first."""
        miner = Miner(chain)
        self.stack.callback(miner.stop)
        return miner

    def serve(self, node: Any) -> str:
        """Lets a node answer; returns its URL, which the next manifest names."""
        url = self.server.add(f"{self.folder.name}/{len(self._urls)}", node)
        self._urls.append(url)
        return url

    def manifest(self, *, more: str = "", chain: str = "", events: str = '["Transfer"]') -> Path:
        """Writes the manifest: the token at all served nodes, with default settings unless told otherwise."""
        path = self.folder / "indexer.toml"
        names = ", ".join(f'"${{NODE_{number}}}"' for number in range(len(self._urls)))
        path.write_text(
            f"[chains.suite]\nid = {CHAIN_ID}\nrpc = [{names}]\n{chain}\n"
            f'[contracts.token]\nchain = "suite"\nabi = "{ERC20}"\naddress = "{TOKEN}"\n'
            f"start_block = 1\nevents = {events}\n{more}\n"
        )
        return path

    def gapless(self, *arguments: str, **environment: str) -> Gapless:
        """Starts a command."""
        given = {
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": f"redis://127.0.0.1:{closed_port()}",
            "GAPLESS_MANIFEST": str(self.folder / "indexer.toml"),
            "GAPLESS_DATA_DIR": str(self.folder / "data"),
            **{f"NODE_{number}": url for number, url in enumerate(self._urls)},
            **environment,
        }
        process = Gapless(arguments, given, self.folder, len(self._started))
        self._started.append(process)
        self.stack.callback(process.kill)
        return process

    def forget(self) -> None:
        """Empties the database, as if nothing had run yet."""
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA token, gapless CASCADE")

    # -- what the tables hold --------------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """The transfers in the table, in the chain's order."""
        found = self.postgres.query(
            "SELECT block_number, log_index, from_address, to_address, value FROM token.transfer "
            "ORDER BY block_number, log_index"
        )
        return [(number, index, bytes(one), bytes(other), int(value)) for number, index, one, other, value in found]

    def count(self) -> int:
        """How many there are."""
        found = self.postgres.query("SELECT count(*) FROM token.transfer")
        return int(found[0][0]) if found else 0

    def tip(self) -> int:
        """The newest block that is indexed; -1 before the first."""
        found = self.postgres.query("SELECT tip_number FROM gapless.chains WHERE chain_id = %s", CHAIN_ID)
        return -1 if not found or found[0][0] is None else int(found[0][0])

    def settle(self, chain: TokenChain, process: Gapless | None = None) -> None:
        """Waits until the table equals the chain.

        Raises:
            FailedError: it does not within ``patience`` seconds; the message says how they differ.
        """

        def equal() -> bool:
            return self.count() == len(chain.rows()) and self.rows() == chain.rows()

        def complaint() -> str:
            rows, truth = self.rows(), chain.rows()
            lost, more = sorted(set(truth) - set(rows))[:3], sorted(set(rows) - set(truth))[:3]
            said = process.said[-1500:] if process else ""
            return f"{len(rows)} rows for {len(truth)} of the chain; lost {lost}, not of the chain {more}\n{said}"

        until(equal, self.patience, complaint)

    def whole(self, chain: TokenChain) -> None:
        """Checks that what is in the table now is of the chain, once, and in whole blocks.

        Raises:
            FailedError: it is not.
        """
        rows = self.rows()
        if len({row[:2] for row in rows}) != len(rows):
            raise FailedError("a row stands twice")
        if strangers := set(rows) - set(chain.rows()):
            raise FailedError(f"rows that the chain does not have: {sorted(strangers)[:3]}")
        expected = {block.number: len(block.logs) for block in chain.canonical if block.logs}
        numbers = [row[0] for row in rows]
        if broken := [number for number in set(numbers) if numbers.count(number) != expected[number]]:
            raise FailedError(f"blocks that are there in part: {sorted(broken)[:5]}")


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
