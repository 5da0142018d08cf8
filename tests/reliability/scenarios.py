"""The scenarios: each lets one thing go wrong around ``gapless run``, and asks the public suite's checks of it."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.chain import APPROVAL
from tests.reliability.chain import PEOPLE, Miner, TokenChain, Words, approval, rows_of, transfer
from tests.reliability.faults import Faults
from tests.reliability.rig import FailedError, Gapless, Rig, fail, until

STOPS_WITHIN = 15.0
"""Seconds that a process may take to end after SIGTERM."""

BEHIND = 5
"""Blocks that the table may be behind the head while nothing is wrong."""


@dataclass
class Report:
    """What became of one scenario's checks.

    Attributes:
        passed: by the check's name, in the order in which they were asked: whether it held, and what was measured.
    """

    passed: dict[str, tuple[bool, str]] = field(default_factory=dict)

    def holds(self, check: str, condition: Callable[[], object]) -> bool:
        """Asks one check: it fails where the condition raises :class:`FailedError`, or returns False."""
        try:
            found = condition()
        except FailedError as error:
            self.passed[check] = (False, str(error))
            return False
        self.passed[check] = (found is not False, found if isinstance(found, str) else "")
        return found is not False


Scenario = Callable[[Rig, Report], None]
SCENARIOS: dict[str, tuple[str, Scenario]] = {}
"""By name: the group, and what to do."""


def scenario(group: str) -> Callable[[Scenario], Scenario]:
    """Adds a scenario under its function's name."""

    def add(function: Scenario) -> Scenario:
        SCENARIOS[function.__name__.replace("_", "-")] = (group, function)
        return function

    return add


def following(
    rig: Rig, *, backlog: int = 200, faults: Faults | None = None, words: Words | None = None, **manifest: str
) -> tuple[TokenChain, Faults, Miner, Gapless]:
    """A chain with one endpoint, and an indexer that has caught up and follows its growing head."""
    chain, faults = TokenChain(backlog, rig.seconds), faults or Faults()
    rig.stack.callback(faults.release)
    rig.serve(chain.node(liar=faults, words=words))
    rig.manifest(**manifest)
    miner = rig.miner(chain)
    process = rig.gapless("run")
    rig.settle(chain, process)
    miner.start()
    return chain, faults, miner, process


def caught_up(rig: Rig, chain: TokenChain, seconds: float, process: Gapless) -> None:
    """Waits until the tip is near the head while the chain grows."""
    until(
        lambda: rig.tip() >= chain.head.number - BEHIND,
        seconds,
        lambda: f"indexed up to {rig.tip()} of {chain.head.number} after {seconds:g} s\n{process.said[-1500:]}",
    )


def pause_for(seconds: float) -> None:
    threading.Event().wait(seconds)


# -- crashes -------------------------------------------------------------------------------------------------------


@scenario("crash")
def db_restart(rig: Rig, report: Report) -> None:
    """Postgres is stopped in a backfill, again at the head, then frozen."""
    chain, faults = TokenChain(6_000, rig.seconds), Faults()
    faults.most_blocks = 100
    rig.serve(chain.node(liar=faults))
    rig.manifest()
    miner = rig.miner(chain)
    process = rig.gapless("run")
    until(rig.count, rig.patience, lambda: f"nothing was indexed\n{process.said[-1500:]}")
    rig.postgres.stop()
    pause_for(10 * rig.scale)
    rig.postgres.start()
    alive = lambda: process.is_alive or fail(f"it ended\n{process.said[-1500:]}")  # noqa: E731
    report.holds("goes on alone after Postgres was away in a backfill", lambda: alive() and rig.settle(chain, process))
    miner.start()
    rig.postgres.stop()
    pause_for(10 * rig.scale)
    rig.postgres.start()
    report.holds(
        "goes on alone after Postgres was away at the head",
        lambda: alive() and caught_up(rig, chain, rig.patience, process),
    )
    with rig.postgres.frozen():
        pause_for(20 * rig.scale)
    report.holds(
        "goes on alone after Postgres stood still", lambda: alive() and caught_up(rig, chain, rig.patience, process)
    )
    miner.pause()
    report.holds("no row is lost", lambda: rig.settle(chain, process))
    report.holds("no row stands twice", lambda: rig.whole(chain))


@scenario("crash")
def process_kill(rig: Rig, report: Report) -> None:
    """SIGKILL at moments of a backfill, inside a COPY, and at the head."""
    chain, faults = TokenChain(6_000, rig.seconds), Faults()
    faults.most_blocks = 100
    rig.serve(chain.node(liar=faults))
    rig.manifest()
    for moment in range(6):
        process = rig.gapless("run")
        before = rig.count()
        if moment % 3 == 2:
            _until_it_copies(rig, rig.patience)
        else:
            until(lambda before=before: rig.count() > before or rig.count() == len(chain.rows()), rig.patience,  # type: ignore[misc]
                  lambda: f"it does not resume\n{process.said[-1500:]}")  # noqa: B023  # fmt: skip
        process.kill()
        rig.whole(chain)
    report.holds("a batch is whole or absent", lambda: rig.whole(chain))
    process = rig.gapless("run")
    report.holds("resumes", lambda: rig.settle(chain, process))
    miner = rig.miner(chain)
    miner.start()
    for _ in range(3):
        pause_for(1.5 * rig.seconds)
        process.kill()
        rig.whole(chain)
        process = rig.gapless("run")
    caught_up(rig, chain, rig.patience, process)
    miner.pause()
    report.holds("no gap", lambda: rig.settle(chain, process))
    report.holds("nothing is applied twice", lambda: rig.whole(chain))


def _until_it_copies(rig: Rig, seconds: float) -> None:
    """Waits until a COPY is under way; where none is seen in time, any moment is as good."""
    deadline = time.monotonic() + seconds / 4
    while time.monotonic() < deadline:
        if rig.postgres.query("SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY %%'"):
            return


@scenario("crash")
def graceful_shutdown(rig: Rig, report: Report) -> None:
    """SIGTERM in a backfill."""
    chain, faults = TokenChain(6_000, rig.seconds), Faults()
    faults.most_blocks = 50
    rig.serve(chain.node(liar=faults))
    rig.manifest()
    process = rig.gapless("run")
    until(rig.count, rig.patience, lambda: f"nothing was indexed\n{process.said[-1500:]}")

    def ends() -> str:
        started = time.monotonic()
        status = process.terminate(STOPS_WITHIN)
        if status != 0:
            raise FailedError(f"exit status {status}\n{process.said[-1500:]}")
        return f"{time.monotonic() - started:.1f} s"

    report.holds("ends with status 0 within 15 s", ends)

    def covered() -> None:
        rig.whole(chain)
        multirange = rig.postgres.query(
            "SELECT lower(r), upper(r) FROM gapless.sources s JOIN gapless.chains n USING (chain_id), "
            "unnest(gapless.covered(s.coverage, s.end_block, n.tip_number)) AS r ORDER BY 1"
        )
        there = {row for row in chain.rows() if any(first <= row[0] < beyond for first, beyond in multirange)}
        if lost := there - set(rig.rows()):
            raise FailedError(f"{len(lost)} rows of covered blocks are not there")
        rig.settle(chain, rig.gapless("run"))

    report.holds("what was covered is there", covered)


# -- reorganisations -----------------------------------------------------------------------------------------------


def _reorganised(rig: Rig, report: Report, check: str, change: Callable[[TokenChain], None]) -> None:
    chain, _, miner, process = following(rig)
    pause_for(3 * rig.seconds)
    miner.pause()
    rig.settle(chain, process)
    change(chain)
    miner.start()
    pause_for(3 * rig.seconds)
    miner.pause()
    report.holds(check, lambda: rig.settle(chain, process))


@scenario("reorganisation")
def reorg_shallow(rig: Rig, report: Report) -> None:
    """Two blocks are replaced."""
    _reorganised(rig, report, "shallow", lambda chain: chain.reorganise(2, 3))


@scenario("reorganisation")
def reorg_shorter(rig: Rig, report: Report) -> None:
    """Six blocks become three."""
    _reorganised(rig, report, "a chain that becomes shorter", lambda chain: chain.reorganise(6, 3))


@scenario("reorganisation")
def reorg_removes(rig: Rig, report: Report) -> None:
    """Four blocks are replaced by four without any event."""
    _reorganised(rig, report, "removes events", lambda chain: chain.reorganise(4, 4, without_logs=True))


@scenario("reorganisation")
def reorg_deep(rig: Rig, report: Report) -> None:
    """Eighty blocks are replaced; an indexer may refuse that, loudly."""
    _reorganised(rig, report, "80 deep", lambda chain: chain.reorganise(80, 81))


@scenario("reorganisation")
def reorg_while_down(rig: Rig, report: Report) -> None:
    """The chain is reorganised while the indexer is not running."""
    chain, _, miner, process = following(rig)
    pause_for(3 * rig.seconds)
    miner.pause()
    rig.settle(chain, process)
    process.kill()
    chain.reorganise(5, 8)
    process = rig.gapless("run")
    report.holds("while down", lambda: rig.settle(chain, process))


@scenario("reorganisation")
def reorg_storm(rig: Rig, report: Report) -> None:
    """Ten reorganisations, one after the other."""
    chain, _, miner, process = following(rig)
    for depth in (1, 3, 2, 5, 1, 8, 2, 4, 6, 3):
        pause_for(rig.seconds * 0.7)
        chain.reorganise(depth, depth + 1)
    pause_for(2 * rig.seconds)
    miner.pause()
    report.holds("a storm", lambda: rig.settle(chain, process))


@scenario("reorganisation")
def reorg_behind_backfill(rig: Rig, report: Report) -> None:
    """The head is reorganised while history is still being filled."""
    chain, faults = TokenChain(6_000, rig.seconds), Faults()
    faults.most_blocks = 50
    rig.serve(chain.node(liar=faults))
    rig.manifest()
    miner = rig.miner(chain)
    process = rig.gapless("run")
    miner.start()
    until(rig.count, rig.patience, lambda: f"nothing was indexed\n{process.said[-1500:]}")
    for depth in (2, 5, 3):
        pause_for(rig.seconds)
        chain.reorganise(depth, depth + 1)
    pause_for(2 * rig.seconds)
    miner.pause()
    report.holds("behind a running backfill", lambda: rig.settle(chain, process))


# -- nodes ---------------------------------------------------------------------------------------------------------


@scenario("node")
def rpc_outage(rig: Rig, report: Report) -> None:
    """Thirty seconds each of errors, 429, 502 and silence."""
    chain, faults, _, process = following(rig)
    caught_up(rig, chain, rig.patience, process)
    pause_for(5 * rig.seconds)
    usual = len(faults.asked) / max(1e-9, time.monotonic() - faults.asked[0][0])
    paces = []
    for mood in ("errors", "429", "502", "silence"):
        began = time.monotonic()
        faults.mood = mood
        pause_for(30 * rig.scale)
        faults.mood = None
        ended = time.monotonic()
        faults.release()
        half = (began + ended) / 2
        paces.append(sum(half < at for at, met in list(faults.asked) if met == mood) / (ended - half))
        report.holds(f"goes on after {mood}", lambda: caught_up(rig, chain, rig.patience, process))
    report.holds(
        "asks less while it fails",
        lambda: (
            f"{max(paces):.1f} requests a second, {usual:.1f} before"
            if max(paces) <= max(1.0, usual)
            else fail(f"{paces} requests a second while it fails, {usual:.1f} before")
        ),
    )


@scenario("node")
def rpc_chaos(rig: Rig, report: Report) -> None:
    """One request in eight fails for two minutes, in seven ways."""
    chain, faults, miner, process = following(rig)
    faults.rate = 0.12
    pause_for(120 * rig.scale)
    faults.rate = 0.0
    report.holds("survives", lambda: process.is_alive or fail(process.said[-1500:]))
    report.holds("catches up", lambda: caught_up(rig, chain, rig.patience, process))
    miner.pause()
    report.holds("no loss", lambda: rig.settle(chain, process))
    report.holds("no duplicate", lambda: rig.whole(chain))


@scenario("node")
def rpc_limits(rig: Rig, report: Report) -> None:
    """At most 1,000 blocks and 10,000 logs a question, nowhere configured; later neither."""
    chain, faults = TokenChain(30_000, rig.seconds), Faults()
    faults.most_blocks, faults.most_logs = 1_000, 10_000
    rig.serve(chain.node(liar=faults))
    rig.manifest()
    process = rig.gapless("run")
    report.holds("every row under limits", lambda: rig.settle(chain, process))
    process.kill()
    under = max(width for _, width in faults.widths)
    faults.most_blocks = faults.most_logs = None
    rig.forget()
    since = time.monotonic()
    process = rig.gapless("run")
    report.holds(
        "the width recovers",
        lambda: (
            rig.settle(chain, process)
            or (
                f"{under:,} blocks a question under the limit, then {max(w for at, w in faults.widths if at > since):,}"
                if max(width for at, width in faults.widths if at > since) > under
                else fail(f"never wider than {under} blocks again")
            )
        ),
    )


@scenario("node")
def rpc_inconsistency(rig: Rig, report: Report) -> None:
    """A head that goes backwards, logs served twice, null blocks, stale hashes."""
    chain, faults, miner, process = following(rig)

    def turned(check: str, on: Callable[[], None], off: Callable[[], None]) -> None:
        on()
        pause_for(8 * rig.seconds)
        off()
        miner.pause()
        report.holds(check, lambda: rig.settle(chain, process))
        miner.start()

    turned("a head that goes backwards", lambda: setattr(faults, "behind", 4), lambda: setattr(faults, "behind", 0))
    turned("logs served twice", lambda: setattr(faults, "twice", True), lambda: setattr(faults, "twice", False))

    def contradictory(nulls: int, stale: int) -> None:
        faults.null_every, faults.stale_every = nulls, stale

    turned("null blocks and stale hashes", lambda: contradictory(3, 4), lambda: contradictory(0, 0))


# -- values --------------------------------------------------------------------------------------------------------


@scenario("value")
def awkward_values(rig: Rig, report: Report) -> None:
    """A token without symbol, NUL in its name, a second event, 2^256-1, 500 empty blocks."""
    chain = TokenChain(50, rig.seconds)
    most = 2**256 - 1
    chain.mine(1, transfer(PEOPLE[0], PEOPLE[1], most), approval(PEOPLE[0], PEOPLE[1], most))
    chain.mine(500, empty=True)
    chain.mine(3)
    rig.serve(chain.node(words=Words(name="nul\0in it", symbol=None)))
    rig.manifest(events='["Transfer", "Approval"]')
    process = rig.gapless("run")
    report.holds("500 empty blocks", lambda: rig.settle(chain, process))
    report.holds("2^256-1", lambda: most in {row[4] for row in rig.rows()})
    approvals = "SELECT block_number, value FROM token.approval"
    report.holds(
        "a second event",
        lambda: (
            [(n, int(v)) for n, v in rig.postgres.query(approvals)]
            == [(row[0], row[4]) for row in chain.rows(APPROVAL)]
        ),
    )
    tokens = "SELECT name, symbol, decimals FROM gapless.tokens"
    until(lambda: rig.postgres.query(tokens), rig.patience, lambda: f"no token was read\n{process.said[-1500:]}")
    report.holds(
        "a token without symbol",
        lambda: rig.postgres.query(tokens)[0][1:] == (None, 18) or fail(str(rig.postgres.query(tokens))),
    )
    report.holds("NUL in its name", lambda: rig.postgres.query(tokens)[0][0] == "nulin it")


@scenario("value")
def large_log_indexes(rig: Rig, report: Report) -> None:
    """Log indexes from 0xffffffe2 on, as real providers have sent."""
    chain = TokenChain(60, rig.seconds, first_log_index=0xFFFFFFE2)
    rig.serve(chain.node())
    rig.manifest()
    miner = rig.miner(chain)
    process = rig.gapless("run")
    miner.start()
    pause_for(4 * rig.seconds)
    miner.pause()
    report.holds("log indexes from 0xffffffe2", lambda: rig.settle(chain, process))


# -- the head ------------------------------------------------------------------------------------------------------


@scenario("head")
def block_to_row(rig: Rig, report: Report) -> None:
    """Ninety blocks, a reorganisation of four to five, fifteen more."""
    chain, _, miner, process = following(rig)
    caught_up(rig, chain, rig.patience, process)
    seen: dict[bytes, float] = {}
    behind: list[int] = []
    over = threading.Event()

    def watch() -> None:
        import psycopg

        with psycopg.connect(rig.postgres.url, autocommit=True) as connection:
            while not over.wait(0.01):
                for number, block_hash in connection.execute(
                    "SELECT tip_number, tip_hash FROM gapless.chains WHERE tip_number IS NOT NULL"
                ).fetchall():
                    behind.append(chain.head.number - number)
                    block = chain.by_hash.get(bytes(block_hash))
                    now = time.monotonic()
                    while block is not None and block.hash not in seen and len(seen) < 10_000:
                        seen[block.hash] = now
                        block = block.parent

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    first = chain.head.number + 1
    pause_for(90 * rig.seconds * rig.scale)
    last = chain.head.number - 2
    chain.reorganise(4, 5)
    after = chain.head.number + 1
    pause_for(max(15 * rig.scale, 4) * rig.seconds)
    end = chain.head.number - 2
    over.set()
    watcher.join()

    def delays(one: int, other: int) -> list[float]:
        blocks = [chain.block(number) for number in range(one, other)]
        return [seen[b.hash] - chain.born[b.hash] for b in blocks if b is not None and b.hash in seen]

    usual, later = delays(first, last - 4), delays(after, end)
    median, p99 = statistics.median(usual), statistics.quantiles(usual, n=100)[98]
    report.holds("median under a block time", lambda: f"{1000 * median:.0f} ms" if median < rig.seconds else False)
    report.holds("p99 under 10 s", lambda: f"{1000 * p99:.0f} ms" if p99 < 10 else False)
    report.holds("at most 5 blocks behind", lambda: f"{max(behind)}" if max(behind) <= BEHIND else False)
    report.holds(
        "normal again after a reorganisation",
        lambda: f"median {1000 * statistics.median(later):.0f} ms" if statistics.median(later) < rig.seconds else False,
    )
    miner.pause()
    rig.settle(chain, process)
    assert rows_of(chain.head)
