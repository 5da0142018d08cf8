"""One seed: the program's own parts against a lying node, with a real Postgres behind.

Everything is decided by the seed: the chain, how each endpoint lies, what the world does and when. Between any two
questions to a node the chain may move, another part of the program may run, or a reader may look; any statement to
Postgres may be the last of its connection, and any step the last of its process.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import psycopg
import redis
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from indexer.chain.client import ChainClient
from indexer.chain.records import column_reader
from indexer.chain.records.messages import Header, parse_proven_header
from indexer.chain.rpc import hedging
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from indexer.errors import GaplessError
from indexer.manifest import load_manifest
from indexer.manifest.model import Finality, Manifest
from indexer.store.apply.apply import apply
from indexer.store.cache import Cache
from indexer.store.database import create_engine
from indexer.store.rows import blocks, failed_ranges, transaction_rows
from indexer.store.rows.blocks import ForeignBlockError
from indexer.store.tokens.metadata import StoredCacheSecret
from indexer.sync.head import follower as follow
from indexer.sync.head.follower import ChainHaltedError, Follower
from indexer.sync.history import derived_history
from indexer.sync.history.backfill import Backfill
from indexer.sync.history.transactions import Includer
from indexer.sync.setup import deployment_block
from indexer.sync.setup.declaration import declaration
from indexer.sync.snapshots.points import UNANSWERED
from indexer.sync.snapshots.series import Snapshots
from indexer.sync.tokens import balances, metadata_job
from tests.chaos import balances_over_time, derived, lies, manifests
from tests.chaos.chain import CHAIN_ID, COINS, Block, Chain, dumps
from tests.chaos.mishaps import Chances, KilledError, crash_postgres, endanger
from tests.chaos.node import NULL_WORDINGS, Honest, Node, Server
from tests.chaos.truth import Judge, Picture, WrongError, look, normal, snapshot

log = logging.getLogger(__name__)

# What these stand for in production takes thousands of blocks to reach.
SMALL = {"FURTHEST_BEHIND": 60, "MAX_BLOCKS": 16}

NOT_ASKED_AGAIN = 3600.0
"""Seconds until a question of the head is asked a second time; ``test_lost_requests.py`` has what happens then."""

LONGEST = 400
"""Blocks after which the chain no longer moves between two questions: where a node answers for one block at a time, the
chain would grow faster than it can be read."""


class Clock:
    """Time that passes by being asked for, and by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.005
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Process:
    """One indexer: what ``gapless run`` holds in memory, lost when it is killed."""

    name: str
    engine: Engine
    clients: list[ChainClient]
    follower: Follower
    backfill: Backfill
    chances: Chances


@dataclass
class Tale:
    """What happened under a seed."""

    seed: int
    events: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        happened = ", ".join(f"{name} {count}" for name, count in sorted(self.events.items()))
        return f"seed {self.seed}: {happened}; {self.told.total()} lies"


class Simulation:
    """Runs one seed.

    Args:
        seed: decides everything.
        server: where the endpoints are served.
        database_url: of a database with the static tables, empty.
        folder: for manifests.
        redis_url: of a Redis that nobody else uses, for what is cached; None: nothing is.
        crashes: whether Postgres may crash; it has to be this simulation's alone.
        balances: whether balances are kept; None: the seed decides.
        null_rounds: whether the chain leaves block numbers out; None: the seed decides.
        derives: whether there are derived tables; None: the seed decides.
    """

    def __init__(
        self,
        seed: int,
        server: Server,
        database_url: str,
        folder: Path,
        *,
        redis_url: str | None = None,
        crashes: bool = False,
        balances: bool | None = None,
        null_rounds: bool | None = None,
        derives: bool | None = None,
    ) -> None:
        self.tale = Tale(seed)
        self.random = Random(seed)
        self.world = Random(self.random.random())
        self.server = server
        self.database_url = database_url
        self.folder = folder
        self.clock = Clock()
        # Apart from the others, so that it does not change what else happens under a seed.
        self.nulls = Random(f"null rounds of {seed}")
        leaves_out = self.nulls.random() < 0.15 if null_rounds is None else null_rounds
        self.chain = Chain(
            Random(self.random.random()),
            depth=self.random.choice((3, 8, 20)),
            hostile=self.random.choice((0.0, 0.1, 0.3)),
            first_log=0xFFFFFFE2 if seed % 4 == 0 else 0,
            namings=self.random.choice((0.0, 0.1, 0.3)),
            null_rounds=0.1 if leaves_out else 0.0,
        )
        self.null_wordings = self.nulls.choices(NULL_WORDINGS, k=3)
        self.declares = self.nulls.random() < 0.5
        self.chain.mine(self.random.randint(30, 140))
        self.chain.finalize()
        self.endpoints = self.random.choice((1, 1, 1, 2, 3))
        self.liars = [lies.choose(Random(self.random.random()), self.tale.told) for _ in range(self.endpoints)]
        for liar in self.liars:
            liar.clock = self.clock
        if self.endpoints > 1 and self.random.random() < 0.3:
            self.liars[1].rates = {"http error": 1.0}
        self.finality = self.random.choice((Finality(), Finality(), Finality("blocks", self.chain.depth)))
        # With a depth, finality follows the head at once.
        self.moves = self.random.choice((0.0, 0.02, 0.1))
        self.visits = self.random.choice((0.0, 0.02, 0.08))
        self.chances = {"cut": self.random.choice((0.0, 0.0, 0.004, 0.02)), "kill": self.random.choice((0.0, 0.004)),
                        "full": self.random.choice((0.0, 0.0, 0.004)),
                        "unsure": self.random.choice((0.0, 0.01))}  # fmt: skip
        kept = self.random.random() < 0.5
        self.balances = kept if balances is None else balances
        self.crashes = self.random.choice((0.0, 0.0, 0.002)) if crashes else 0.0
        # Apart from the others, so that it does not change what else happens under a seed.
        self.coups = Random(f"coups of {seed}")
        self.unseats = self.coups.choice((0.0, 0.01, 0.05))
        self.sweeps = Random(f"sweeps of {seed}")
        self.thins = self.sweeps.choice((0.0, 0.02, 0.1))
        self.ages = Random(f"ages of {seed}")
        self.pairs = Random(f"pairs of {seed}")
        self.pairing = self.pairs.choice((0.0, 0.01, 0.04))
        self.pushes = Random(f"pushes of {seed}")
        self.pushing = self.pushes.choice((0.0, 0.3, 0.9))
        self.rules = Random(f"rules of {seed}")
        with_rules = self.rules.random() < 0.1
        self.derives = with_rules if derives is None else derives
        # Answers as small as these are otherwise read log by log.
        self.columns = self.coups.random() < 0.5
        self.redis = None if redis_url is None else redis.Redis.from_url(redis_url)
        self.redis_url = redis_url
        self.judge = Judge(self.chain)
        self.tips: set[bytes] = set()
        self.nodes: dict[str, list[Node]] = {}
        self.processes: dict[str, Process] = {}
        self.manifest: Manifest
        self._visiting = threading.Lock()
        self._reading = threading.Lock()
        self._counting = threading.Lock()
        self._settled = False
        self._calls_until_apply: int | None = None
        self._at_work: dict[str, str] = {}
        self._engines: list[Engine] = []

    # -- the whole

    def run(self, steps: int = 60, again: int = 0) -> Tale:
        """Lets everything happen, then lets it settle, and compares.

        Args:
            steps: how many happen.
            again: how many happen once more, after all has been brought in: where nodes keep no old logs, balances
                count nothing before that.

        Raises:
            WrongError: the tables were wrong, at the end or to a reader on the way.
        """
        manifests.write_abis(self.folder)
        with ExitStack() as stack:
            logger = logging.getLogger("indexer")
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
            for name, value in SMALL.items():
                stack.enter_context(mock.patch.object(follow, name, value))
            # A step of another part takes as long as it takes: the question it came between must not be asked again
            # meanwhile, or two parts of one process would be at work at once.
            for name in ("SOONEST", "LATEST"):
                stack.enter_context(mock.patch.object(hedging, name, NOT_ASKED_AGAIN))
            if self.columns:
                always = functools.partial(column_reader.read, least=1, few=1)
                stack.enter_context(mock.patch.object(column_reader, "read", always))
            stack.callback(self._end)
            self._connect()
            self._apply()
            self._act(steps)
            if again:
                self._resume()
                self._act(again)
        return self.tale

    def _act(self, steps: int) -> None:
        for _ in range(steps):
            self._step()
            self._read()
        self._settle()

    def _resume(self) -> None:
        """The nodes lie again, and processes start that may be killed."""
        for name in list(self.processes):
            self._kill(name)
        for liar in self.liars:
            liar.active = True
        self._settled = False

    def _step(self) -> None:
        name = self.random.choices(("one", "two"), (8, 2))[0]
        if self.ages.random() < 0.1:
            self._try(name, self._ask_age, "age")
        if self.sweeps.random() < self.thins:
            self._try(self.sweeps.choice(("one", "two")), self._thin, "thin")
        if self.derives and self.rules.random() < 0.2:
            self._try(name, self._count_derived, "derived")
        action = self.random.choices(
            (
                "tick",
                "fill",
                "world",
                "kill",
                "apply",
                "snapshot",
                "pause",
                "waits",
                "lag",
                "balances",
                "include",
                "tokens",
                "flush",
                "crash",
            ),
            (30, 16, 20, 3, 3, 4, 1, 4, 3, 20 * self.balances, 8, 3, 1, bool(self.crashes)),
        )[0]
        match action:
            case "tick":
                pushed = self._pushed()
                self._try(name, lambda p: p.follower.tick(pushed), action)
            case "fill":
                self._try(name, self._fill, action)
            case "world":
                self._move()
            case "kill":
                self._kill(name)
            case "apply":
                self._apply()
            case "snapshot":
                self._try(name, self._snapshot, action)
            case "pause":
                self._long_pause()
            case "waits":
                self.clock.sleep(self.random.choice((1.0, 5.0, 60.0, 600.0)))
            case "lag":
                for nodes in self.nodes.values():
                    self.random.choice(nodes).lag = self.random.choice((0, 0, 1, 5, 30))
            case "balances":
                self._try(name, self._count, action)
            case "include":
                self._try(name, lambda p: Includer(p.engine, p.clients[2], CHAIN_ID).run(), action)
            case "tokens":
                self._try(name, self._tokens, action)
            case "flush":
                self._flush()
            case "crash":
                self._crash()

    def _pushed(self) -> list[Header]:
        """What a source of pushed heads has for the follower: the newest blocks, too few, too old, or made-up ones."""
        random, chain = self.pushes, self.chain
        if random.random() >= self.pushing:
            return []
        what = random.choice(("all", "all", "newest", "some", "left", "made up"))
        self.tale.events[f"pushed {what}"] += 1
        head = random.choice(chain.abandoned) if what == "left" and chain.abandoned else chain.head
        blocks = [head.ancestor(number) for number in range(max(1, head.number - 20), head.number + 1)]
        match what:
            case "newest":
                blocks = blocks[-1:]
            case "some":
                blocks = [block for block in blocks if random.random() < 0.7]
            case "made up":
                for _ in range(random.randint(1, 3)):
                    blocks.append(Block(blocks[-1].number + 1, blocks[-1], (), random.randbytes(8)))
                    chain.by_hash[blocks[-1].hash] = blocks[-1]  # a branch that no node ever serves as its own
        found = (parse_proven_header(dumps(block.header_json)) for block in blocks)
        return [header for header in found if header is not None]

    @staticmethod
    def _include(process: Any) -> None:
        with process.engine.begin() as connection:  # the pauses of what no node gave are real time's
            transaction_rows.retry_now(connection, CHAIN_ID)
        Includer(process.engine, process.clients[2], CHAIN_ID).run()

    def _settle(self) -> None:
        """From now on everything is honest and quick; what is left must come right by itself."""
        with self._visiting:  # whoever is at it comes to an end first
            self._settled = True
        for liar in self.liars:
            liar.active = False
        for nodes in self.nodes.values():
            for node in nodes:
                node.lag = 0
        for process in self.processes.values():
            process.chances.calm()
        # A branch that is a mere beginning of what was indexed looks like a node that is behind, for a while.
        if self.random.random() < 0.5:
            self.chain.mine(1)
        missing = ""
        for turn in range(100):
            self.clock.sleep(min(30.0 * (1 + turn), 600.0))  # what was refused is left alone for up to an hour
            trouble = []
            for name in ("one", "two"):
                trouble.append(self._try(name, lambda p: p.follower.tick(), "tick"))
                trouble.append(self._try(name, self._fill, "fill"))
                trouble.append(self._try(name, self._snapshot, "snapshot"))
                trouble.append(self._try(name, self._count, "balances"))
                trouble.append(self._try(name, self._count_derived, "derived"))
                trouble.append(self._try(name, self._include, "include"))
                trouble.append(self._try(name, self._tokens, "tokens"))
            picture = self._read()
            try:
                self.judge.check_complete(picture)
                derived.check_included_complete(self._reader)
            except WrongError as error:
                missing = f"{error} ({'; '.join(filter(None, trouble))})"
                continue
            self._check_reorgs(picture)
            self._check_snapshots()
            derived.check_tokens(self._reader, complete=True)
            self.tale.events["derived tables"] = derived.check_derived_complete(self._auditor)
            self.tale.events["ledgers"] = derived.check_ledgers_complete(self._auditor)
            self.tale.events["days of holders"] = balances_over_time.check(self._reader, picture)
            return
        raise WrongError(f"it never settles: {missing}")

    # -- the world

    def _move(self) -> None:
        chain, random = self.chain, self.world
        match random.choices(("mine", "reorg", "flip", "shorter", "finalize"), (10, 5, 2, 1, 5))[0]:
            case "mine":
                chain.mine(random.choice((1, 1, 1, 2, 5, 20)))
            case "reorg":
                self.tale.events["reorg"] += chain.reorganise() > 0
            case "flip":
                self.tale.events["flip"] += chain.flip()
            case "shorter":
                self.tale.events["shorter"] += chain.reorganise(random.randint(2, 8), 1) > 0
            case "finalize":
                if self.finality.kind == "tag":
                    chain.finalize()
        self._keep_depth()

    def _keep_depth(self) -> None:
        """Where a depth makes blocks final, no branch may leave below it from now on."""
        if self.finality.kind == "blocks":
            self.chain.finalize(max(self.chain.finalized, self.chain.head.number - self.finality.amount))

    def _long_pause(self) -> None:
        self.chain.mine(self.random.randint(65, 90))
        self.chain.finalize()
        self.tale.events["long pause"] += 1

    def _before_call(self, name: str) -> None:
        """Between two questions to a node the world goes on."""
        if self._settled:
            return
        if not self._visiting.acquire(blocking=False):
            if self._calls_until_apply is not None:
                self._approach_apply()
            return
        try:
            if self.world.random() < self.moves and self.chain.head.number < LONGEST:
                self._move()
            if self._at_work.get(name) == "tick" and self.coups.random() < self.unseats:
                self._unseat(name)
            if self._at_work.get(name) in ("fill", "tick") and self.pairs.random() < self.pairing:
                self._pair(name)
            if self.world.random() < self.visits:
                other = self.world.choice(("one", "two"))
                what = self.world.choice(("tick", "fill", "read", "apply"))
                if self.world.random() < self.crashes:
                    self._crash()
                elif what == "read":
                    self._read()
                elif what == "apply":
                    if self.world.random() < 0.3:
                        self._apply()
                elif (other, what) != (name, self._at_work.get(name)):
                    self._visit(other, what)
        finally:
            self._visiting.release()

    def _visit(self, name: str, what: str) -> None:
        """Another part of a process, or another process, takes a step while one waits for a node."""
        if self._at_work.get(name) == what:
            return
        self.tale.events["visit"] += 1
        work: Callable[[Process], Any] = (lambda p: p.follower.tick()) if what == "tick" else self._fill
        self._try(name, work, what)

    def _pair(self, name: str) -> None:
        """Another process begins too, and a manifest is applied while both wait for a node: both know the old one."""
        other, what = "two" if name == "one" else "one", self.pairs.choice(("fill", "fill", "tick"))
        self._calls_until_apply = self.pairs.randint(1, 5)
        try:
            self._visit(other, what)
        finally:
            if self._calls_until_apply is not None:  # it asked less often
                self._calls_until_apply = None
                self._apply()

    def _approach_apply(self) -> None:
        with self._counting:
            left = self._calls_until_apply
            if left is None:
                return
            self._calls_until_apply = left - 1 if left > 1 else None
        if left == 1:
            self.tale.events["apply beside two"] += 1
            self._apply()

    def _unseat(self, name: str) -> None:
        """The lease by which a process follows expires while that waits for a node; the other takes over."""
        if self._expire_leases():
            self.tale.events["unseated"] += 1
            self.chain.mine(self.coups.randint(0, 3))
            self._keep_depth()
            self._visit("two" if name == "one" else "one", "tick")

    def _expire_leases(self, holder: str = "%") -> bool:
        """Time passes in which a process, or any, renews none of its leases; whether one has expired by that."""
        return bool(
            self._admin.execute(
                "UPDATE gapless.leases SET expires_at = '-infinity' WHERE holder LIKE %s RETURNING 1", (holder,)
            ).fetchall()
        )

    # -- processes

    def _try(self, name: str, work: Callable[[Process], Any], what: str) -> str:
        """Lets a process do something, as the scheduler does: what is foreseen is reported, and tried again later."""
        process = self.processes.get(name) or self._start(name)
        before = self._at_work.get(name)
        self._at_work[name] = what
        try:
            outcome = work(process)
            log.debug("%s %s: %s", name, what, outcome)
        except (ChainHaltedError, ForeignBlockError) as error:
            raise WrongError(f"halted though nothing final has changed: {error}") from error
        except KilledError:
            self._kill(name)
        except (GaplessError, sa.exc.DBAPIError, psycopg.Error) as error:
            self.tale.events[f"trouble {type(error).__name__}"] += 1
            log.debug("%s %s: %r", name, what, error)
            return f"{type(error).__name__}: {error}"
        finally:
            if before is None:
                self._at_work.pop(name, None)
            else:
                self._at_work[name] = before
        return ""

    def _start(self, name: str) -> Process:
        engine = create_engine(self.database_url, application_name=f"chaos {name}")
        self._engines.append(engine)
        chances = Chances(Random(self.random.random()), **({} if self._settled else self.chances))
        endanger(engine, chances, self._terminate)
        configs = []
        self.nodes[name] = []
        for position, liar in enumerate(self.liars):
            node = Node(self.chain, liar=liar)
            node.before = lambda: self._before_call(name)
            node.null_wording = self.null_wordings[position]
            self.nodes[name].append(node)
            configs.append(EndpointConfig(self.server.add(f"{self.tale.seed}/{name}/{position}", node)))
        settings = ClientSettings(
            attempts=4, give_up_after=40.0, read_timeout=20.0, start_blocks=self.random.choice((3, 20, 100)),
            batch_size=self.random.choice((2, 10, 100)), survey_every=5.0,
            addresses_per_request=self.random.choice((3, 1000)),
            null_blocks=bool(self.chain.null_rounds) and self.declares,
            check_history=("bloom", "sample", "none")[self.tale.seed % 3],
        )  # fmt: skip
        # One client for each part: where one waits for an answer the others take their steps, so they must not wait for
        # its place in the queue.
        clients = [
            ChainClient(
                "sim", CHAIN_ID, configs, settings=settings, clock=self.clock, sleep=self.clock.sleep,
                random=Random(self.random.random()),
            )
            for _ in range(3)
        ]  # fmt: skip
        follower = Follower(
            engine, clients[0], CHAIN_ID, name=f"sim ({name})", finality=self.finality, blooms=True, clock=self.clock
        )
        backfill = Backfill(engine, clients[1], CHAIN_ID, in_flight=self.random.choice((1, 3)))
        process = Process(name, engine, clients, follower, backfill, chances)
        self.processes[name] = process
        self.tale.events["start"] += 1
        return process

    def _kill(self, name: str) -> None:
        """As by SIGKILL: memory is lost, the server ends the sessions whenever it finds out."""
        process = self.processes.pop(name, None)
        if process is None:
            return
        self.tale.events["kill"] += 1
        process.chances.kill = 1.0  # whatever is still on the stack ends at its next statement
        process.backfill.stop.set()
        self._admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND datname = %s",
            (f"chaos {name}", self._admin.info.dbname),
        )
        self._expire_leases(f"chaos {name}")

    def _terminate(self, pid: int) -> None:
        self.tale.events["cut"] += 1
        with psycopg.connect(self.database_url, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 2000)", (pid,))

    def _snapshot(self, process: Process) -> None:
        for one in self.manifest.snapshots.values():
            Snapshots(process.engine, process.clients[2], CHAIN_ID, one).take_due()

    def _count(self, process: Process) -> None:
        balances.catch_up(process.engine, CHAIN_ID, step_rows=self.random.choice((2, 20, 1000)))

    def _count_derived(self, process: Process) -> None:
        derived_history.catch_up(process.engine, CHAIN_ID, step_rows=self.rules.choice((2, 20, 1000)))

    def _tokens(self, process: Process) -> None:
        cache = Cache(self.redis_url, secret=StoredCacheSecret(process.engine))
        metadata_job.refresh(process.engine, process.clients[2], CHAIN_ID, frozenset({"coins"}), cache)

    def _ask_age(self, process: Process) -> None:
        """How old a contract is, and whether tokens gave before they are counted."""
        balances.ask_for_earlier(process.engine, process.clients[2], CHAIN_ID)
        coin = self.ages.choice(COINS)
        address, finalized = bytes.fromhex(coin[2:]), self.chain.finalized
        by_code = deployment_block.first_with_code(process.clients[2], address, finalized, coin)
        number, since = deployment_block.as_old_as_its_logs(process.clients[2], address, by_code, coin)
        derived.check_deployed(self.chain, coin, number, since)
        self.tale.events["ages"] += 1

    def _thin(self, process: Process) -> None:
        with process.engine.begin() as connection:
            found = blocks.prune_blocks(connection, CHAIN_ID, batch=self.sweeps.choice((5, 40, 20_000)))
        self.tale.events["thinned"] += found.removed if found else 0

    # -- what everybody stands on

    def _connect(self) -> None:
        self._reader = psycopg.connect(self.database_url, autocommit=True)
        self._admin = psycopg.connect(self.database_url, autocommit=True)
        self._auditor = create_engine(self.database_url, application_name="chaos auditor")
        self._engines.append(self._auditor)

    def _crash(self) -> None:
        self.tale.events["crash"] += 1
        crash_postgres(self.database_url)
        self._connect()

    def _flush(self) -> None:
        if self.redis is not None:
            self.tale.events["flush"] += 1
            self.redis.flushall()

    def _apply(self) -> None:
        """An operator changes the manifest."""
        path = self.folder / "indexer.toml"
        text = manifests.manifest(self.random, self.endpoints, balances=self.balances)
        path.write_text(text + (manifests.derived_rules(self.rules) if self.derives else ""))
        self.manifest = load_manifest(path, {f"NODE_{i}": f"{self.server.url}/{i}" for i in range(self.endpoints)})
        engine = create_engine(self.database_url)
        try:
            self.tale.events["apply"] += bool(apply(engine, declaration(self.manifest)))
        finally:
            engine.dispose()

    def _end(self) -> None:
        self.server.remove(f"{self.tale.seed}/")
        for process in self.processes.values():
            process.follower.close()
            for client in process.clients:
                client.close()
        for engine in self._engines:
            engine.dispose()
        self._reader.close()
        self._admin.close()

    def _fill(self, process: Process) -> None:
        with process.engine.begin() as connection:  # the pauses of ranges that failed are real time's
            failed_ranges.retry_now(connection, CHAIN_ID)
        process.backfill.run()

    # -- readers

    def _read(self) -> Picture:
        # A thread of a scan may still be at its last question, and let a reader look meanwhile.
        with self._reading:
            return self._look()

    def _look(self) -> Picture:
        picture = look(self._reader)
        self.judge.check(picture)
        if picture.tip_hash is not None:
            self.tips.add(picture.tip_hash)
        self.tale.events["ledgers read"] += derived.check_ledgers(self._auditor)
        if self.derives and self.rules.random() < 0.5:
            self.tale.events["derived tables read"] += derived.check_derived(self._auditor)
        self.tale.events["transactions read"] += derived.check_included(self._reader, self.chain)
        self.tale.events["earlier transfers read"] += derived.check_earlier_transfers(self._reader, self.chain)
        self.tale.events["tokens read"] += derived.check_tokens(self._reader)
        self.tale.events["read"] += 1
        return picture

    def _check_reorgs(self, picture: Picture) -> None:
        """Every tip that was seen and is gone is known as an orphan, and each reorganisation joins the next."""
        with snapshot(self._reader):
            orphans = {
                (number, bytes(block_hash))
                for number, block_hash in self._reader.execute("SELECT number, hash FROM gapless.orphans")
            }
            reorgs = self._reader.execute(
                "SELECT common_number, common_hash, old_tip_hash, new_tip_hash, depth FROM gapless.reorgs ORDER BY id"
            ).fetchall()
        for block_hash in self.tips:
            block = self.chain.by_hash[block_hash]
            if not self.chain.is_canonical(block) and (block.number, block_hash) not in orphans:
                raise WrongError(f"block {block.number} was the tip and is gone, but is not among the orphans")
        for common, common_hash, old, new, depth in reorgs:
            parent = self.chain.by_hash[bytes(common_hash)]
            for tip in (old, new):
                block = self.chain.by_hash[bytes(tip)]
                if block.ancestor(common) is not parent:
                    raise WrongError("a reorganisation is recorded whose branches do not join")
            if depth != self.chain.by_hash[bytes(old)].number - common or depth < 1:
                raise WrongError(f"a reorganisation is recorded with the depth {depth}")

    def _check_snapshots(self) -> None:
        with snapshot(self._reader):
            if self._reader.execute("SELECT 1 FROM gapless.series WHERE name = 'supply'").fetchone() is None:
                return
            rows = self._reader.execute("SELECT * FROM coins.supply ORDER BY block_number, contract_address")
            names = [column.name for column in rows.description or ()]
            found = [dict(zip(names, row, strict=True)) for row in rows]
            points = self._reader.execute("SELECT block_number, block_hash FROM gapless.series_points").fetchall()
        for number, block_hash in points:
            if self.chain.head.ancestor(number).hash != bytes(block_hash):
                raise WrongError(f"a snapshot is kept of block {number} of another branch")
        for row in found:
            # Where the number has no block, the newest one before it.
            block = self.chain.head.ancestor(row["block_number"])
            value = normal(row[names[-2]]) if names[-1] == "failures" else None
            if row.get("failures"):
                if all(said.startswith(UNANSWERED) for said in row["failures"].values()):
                    continue  # which is asked again
                raise WrongError(f"a snapshot failed: {row['failures']}")
            address = "0x" + bytes(row["contract_address"]).hex()
            supply = next((normal(v) for name, v in row.items() if name.startswith("total_supply")), value)
            if supply != block.supply(address):
                raise WrongError(f"snapshot of block {block.number}: {supply} in place of {block.supply(address)}")


@contextmanager
def honest_node(chain: Chain, server: Server, path: str) -> Iterator[tuple[Node, str]]:
    """An endpoint that does not lie, for tests that need one."""
    node = Node(chain, liar=Honest())
    try:
        yield node, server.add(path, node)
    finally:
        server.remove(path)
