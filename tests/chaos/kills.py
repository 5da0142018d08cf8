"""One seed with real processes: ``gapless run`` is killed again and again while the chain and its nodes misbehave.

The seed decides the chain, the lies, and what the world does; when it happens is the machine's doing, so that a seed
that failed need not fail again. What is asserted holds at every instant, whatever the timing.
"""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random

import psycopg
import sqlalchemy as sa
from psycopg import sql

from indexer.errors import GaplessError
from indexer.manifest import load_manifest
from indexer.store.apply.apply import apply
from indexer.store.database import create_engine
from indexer.sync.setup.declaration import declaration
from tests.chaos import autopsy, lies, manifests
from tests.chaos.chain import Chain
from tests.chaos.mishaps import crash_postgres
from tests.chaos.node import Node, Server
from tests.chaos.simulation import Tale
from tests.chaos.truth import Judge, Picture, WrongError, look
from tests.chaos.worker import work

GOES_ON_WITHIN = 60.0
"""Seconds in which something must be indexed, once everything is honest, until all is; the machine may be busy."""

AMID_WORK = 0.6
"""How often, 0 to 1, a kill waits until something is being indexed: one that is still starting has little to lose."""

WRITES_WITHIN = 2.0
"""Seconds for which it waits at most."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.chaos.worker"])


class KillingSpree:
    """Runs one seed.

    Args:
        seed: decides what happens.
        server: where the endpoints are served.
        database_url: of a database with the static tables, empty.
        folder: for manifests.
        crashes: whether Postgres may crash; it has to be this seed's alone.
    """

    def __init__(self, seed: int, server: Server, database_url: str, folder: Path, *, crashes: bool = False) -> None:
        self.tale = Tale(seed)
        self._random = random = Random(seed)
        self._database_url = database_url
        self._chain = chain = Chain(Random(random.random()), depth=random.choice((3, 8, 20)), namings=0.15)
        chain.mine(random.randint(30, 140))
        chain.finalize()
        self._liars = [lies.choose(Random(random.random()), self.tale.told) for _ in range(random.choice((1, 1, 2)))]
        for liar in self._liars:
            # A limit of one block makes a thousand requests of a hundred blocks, which says nothing more.
            liar.most_blocks = None if liar.most_blocks == 1 else liar.most_blocks
            # Whoever is told often that it asks too often slows down for minutes of real time, as it should.
            liar.bucket = liar.in_haste = None
            liar.list_wording = 0
            liar.rates = {name: min(rate, 0.01) if "rate" in name else rate for name, rate in liar.rates.items()}
            liar.rates.pop("one error", None)
        self._urls = {
            f"NODE_{i}": server.add(f"{seed}/{i}", Node(chain, liar=liar)) for i, liar in enumerate(self._liars)
        }
        self._server = server
        self._folder = folder
        self._manifest = folder / "indexer.toml"
        manifests.write_abis(folder)
        self._manifest.write_text(manifests.manifest(random, len(self._liars)))
        self._judge = Judge(chain)
        self._crashes = crashes
        self._processes: list[BaseProcess] = []

    def run(self, steps: int = 40) -> Tale:
        """Kills and restarts, then lets everything settle, and compares.

        Raises:
            WrongError: the tables were wrong, at the end or to a reader on the way.
        """
        self._reader = psycopg.connect(self._database_url, autocommit=True)
        try:
            self._start()
            for _ in range(steps):
                self._step()
                time.sleep(self._random.choice((0.0, 0.02, 0.1)))
                self._look()
            self._settle()
            if defects := autopsy.defects(self._folder):
                raise WrongError(f"a job ended as nobody foresaw: {defects[0]}")
        finally:
            for process in self._processes:
                self._end(process)
            self._server.remove(f"{self.tale.seed}/")
            self._reader.close()
        return self.tale

    def _step(self) -> None:
        random, chain = self._random, self._chain
        action = random.choices(
            ("mine", "reorg", "flip", "finalize", "kill", "second", "cut", "pause", "nothing", "apply", "crash"),
            (8, 4, 2, 4, 5, 1, 2, 1, 4, 2, self._crashes),
        )[0]
        self.tale.events[action] += 1
        match action:
            case "mine":
                chain.mine(random.randint(1, 6))
            case "reorg":
                chain.reorganise()
            case "flip":
                chain.flip()
            case "finalize":
                chain.finalize()
            case "kill":
                if random.random() < AMID_WORK:
                    self._until_it_writes()
                self._end(self._processes.pop(0))
                if random.random() < 0.2:
                    self._manifest.write_text(manifests.manifest(random, len(self._liars)))
                if not self._processes:
                    self._start()
            case "second":
                if len(self._processes) < 2:
                    self._start()
            case "cut":
                self._cut()
            case "crash":
                crash_postgres(self._database_url)
                self._reader = psycopg.connect(self._database_url, autocommit=True)
            case "apply":
                self._apply()
            case "pause":
                chain.mine(70)
                chain.finalize()

    def _apply(self) -> None:
        """An operator applies another manifest beside a second indexer and the first, which know the old one."""
        if len(self._processes) < 2:
            self._start()
        self._manifest.write_text(manifests.manifest(self._random, len(self._liars)))
        if self._random.random() < 0.5:
            return  # the processes look at the file themselves
        engine = create_engine(self._database_url)
        try:
            apply(engine, declaration(load_manifest(self._manifest, self._urls)))
        except (GaplessError, sa.exc.DBAPIError) as error:
            self.tale.events[f"apply: {type(error).__name__}"] += 1
        finally:
            engine.dispose()

    def _until_it_writes(self) -> None:
        self._chain.mine(1)
        question = "SELECT tip_hash, (SELECT sum(version) FROM gapless.events) FROM gapless.chains"
        before, until = self._reader.execute(question).fetchall(), time.monotonic() + WRITES_WITHIN
        while time.monotonic() < until and self._reader.execute(question).fetchall() == before:
            time.sleep(0.005)
        # The next write is under way, or its question to a node.
        time.sleep(self._random.choice((0.0, 0.002, 0.01, 0.05)))
        self.tale.events["kill amid work"] += time.monotonic() < until

    def _settle(self) -> None:
        for liar in self._liars:
            liar.active = False
        self._chain.mine(1)
        began = since = time.monotonic()
        before, longest = None, 0.0
        while True:
            picture = self._look()
            now = time.monotonic()
            indexed = (picture.tip_hash, [source.coverage for source in picture.sources])
            if indexed != before:
                longest = max(longest, now - since)
                since, before = now, indexed
            try:
                self._judge.check_complete(picture)
            except WrongError as error:
                if now > since + GOES_ON_WITHIN:
                    raise WrongError(f"it never settles: {error}\n{self._standing()}") from None
                time.sleep(0.1)
            else:
                # For people: a seed that was slow to settle, and how long it once stood still.
                self.tale.events["seconds to settle"] = round(now - began)
                self.tale.events["seconds without progress"] = round(longest)
                return

    def _supervise(self) -> None:
        """Starts an indexer anew that ended by itself, as an operating system's supervisor does.

        One whose connection is cut before it has begun ends with an error that says so.
        """
        alive = [process for process in self._processes if process.is_alive()]
        self.tale.events["ended"] += len(self._processes) - len(alive)
        self._processes = alive
        if not alive:
            self._start()

    def _look(self) -> Picture:
        self._supervise()
        picture = look(self._reader)
        self._judge.check(picture)
        return picture

    def _standing(self) -> str:
        alive = [process.pid for process in self._processes if process.pid is not None and process.is_alive()]
        return autopsy.report(self._reader, self._folder, alive)

    def _start(self) -> None:
        arguments = (self._database_url, self._manifest, self._urls)
        process = _context.Process(target=work, args=arguments, daemon=True)
        process.start()
        self._processes.append(process)

    def _end(self, process: BaseProcess) -> None:
        process.kill()
        process.join()

    def _cut(self) -> None:
        """Every connection of every indexer, as when Postgres restarts."""
        self._reader.execute(
            sql.SQL(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
