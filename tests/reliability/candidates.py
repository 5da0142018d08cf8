"""What the public suite names as not asked yet, asked here; and one request that is never answered."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import psutil
import psycopg

from tests.chaos.chain import TRANSFER, Saying, branch_of, topic
from tests.reliability.chain import PEOPLE, TOKEN, TokenChain, rows_of
from tests.reliability.faults import Faults
from tests.reliability.rig import ERC20, Gapless, Rig, closed_port, fail, until
from tests.reliability.scenarios import BEHIND, Report, caught_up, following, pause_for, scenario

TAKES_OVER_WITHIN = 15.0
"""Seconds without a new block until a second instance follows."""

MOST_MEMORY = 400_000_000
"""Bytes that an indexer may hold while its database is slow."""


@scenario("candidate")
def equal_runs(rig: Rig, report: Report) -> None:
    """Two runs of one range, one of them with failing requests and a kill, give the same bytes."""
    chain = TokenChain(2_000, rig.seconds)
    faults = Faults()
    faults.most_blocks = 50
    rig.serve(chain.node(liar=faults))
    rig.manifest()

    def dump() -> bytes:
        with psycopg.connect(rig.postgres.url) as connection, connection.cursor() as cursor:
            statement = "COPY (SELECT * FROM token.transfer ORDER BY block_number, log_index) TO STDOUT"
            with cursor.copy(statement.encode()) as copy:
                return b"".join(bytes(piece) for piece in copy)

    process = rig.gapless("run")
    rig.settle(chain, process)
    first = dump()
    process.kill()
    rig.forget()
    faults.rate = 0.12
    process = rig.gapless("run")
    until(rig.count, rig.patience, lambda: f"nothing was indexed\n{process.said[-1500:]}")
    process.kill()
    process = rig.gapless("run")
    pause_for(10 * rig.scale)
    faults.rate = 0.0
    rig.settle(chain, process)
    report.holds("two runs of one range are equal to the byte", lambda: dump() == first)


@scenario("candidate")
def undecodable_log(rig: Rig, report: Report) -> None:
    """A log that bears the topic but not the shape, then a kill."""
    chain, _, miner, process = following(rig)
    miner.pause()
    rig.settle(chain, process)
    short = Saying(TOKEN, (TRANSFER, topic(PEOPLE[0]), topic(PEOPLE[1])), b"\1" * 7, None)
    chain.mine(1, short)
    pause_for(2 * rig.seconds)
    process.kill()
    chain.mine(2)
    process = rig.gapless("run")
    report.holds("the rows around it are there", lambda: rig.settle(chain, process))
    kept = "SELECT block_number, data FROM gapless.undecoded_logs"
    expected = [(block.number, b"\1" * 7) for block in chain.canonical for log in block.logs if log.saying is short]
    report.holds(
        "it is kept once",
        lambda: [(n, bytes(d)) for n, d in rig.postgres.query(kept)] == expected or fail(str(rig.postgres.query(kept))),
    )


@scenario("candidate")
def slow_database(rig: Rig, report: Report) -> None:
    """Postgres stands still for most of a backfill: memory stays bounded."""
    chain, faults = TokenChain(20_000, rig.seconds), Faults()
    faults.most_blocks = 100
    rig.serve(chain.node(liar=faults))
    rig.manifest()
    process = rig.gapless("run")
    until(rig.count, rig.patience, lambda: f"nothing was indexed\n{process.said[-1500:]}")
    largest = 0
    for _ in range(8):
        with rig.postgres.frozen():
            pause_for(3 * rig.scale)
            largest = max(largest, psutil.Process(process.popen.pid).memory_info().rss)
        pause_for(0.2)
    report.holds("a slow database: every row", lambda: rig.settle(chain, process))
    report.holds(
        "a slow database: memory is bounded",
        lambda: f"{largest // 1_000_000} MB" if largest < MOST_MEMORY else fail(f"{largest // 1_000_000} MB"),
    )


@scenario("candidate")
def api_states(rig: Rig, report: Report) -> None:
    """Every answer of the API during reorganisations is a state that the chain had."""
    chain, _, miner, process = following(rig)
    port = closed_port()
    rig.gapless("serve", API_PORT=str(port), API_HOST="127.0.0.1")
    url = f"http://127.0.0.1:{port}/v1/contracts/token/events/Transfer?limit=1000&order=asc&from_block=180"

    def ask() -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except (urllib.error.URLError, OSError, ValueError):
            return None

    until(ask, rig.patience, lambda: "the API does not answer")
    answers: list[dict[str, Any]] = []
    for depth in (1, 3, 2, 5, 1, 4):
        until_then = time.monotonic() + rig.seconds
        while time.monotonic() < until_then:
            if (answer := ask()) is not None:
                answers.append(answer)
        chain.reorganise(depth, depth + 1)
    miner.pause()
    rig.settle(chain, process)
    states: dict[int, set[frozenset[tuple[int, int, str, str, str]]]] = {}
    heads = list(chain.by_hash.values())
    for head in heads:
        if head.number < 180:
            continue
        rows = [row for block in branch_of(head) if block.number >= 180 for row in rows_of(block)]
        texts = frozenset((n, i, "0x" + a.hex(), "0x" + b.hex(), str(v)) for n, i, a, b, v in rows)
        states.setdefault(head.number, set()).add(texts)

    def known(answer: dict[str, Any]) -> bool:
        rows = frozenset(
            (r["block_number"], r["log_index"], r["args"]["from"], r["args"]["to"], r["args"]["value"])
            for r in answer["data"]
        )
        return rows in states.get(answer["meta"]["indexed_block"], set())

    strange = [answer for answer in answers if not known(answer)]
    report.holds(
        "every answer of the API is a state that the chain had",
        lambda: f"{len(answers)} answers" if not strange and answers else fail(f"{len(strange)} of {len(answers)}"),
    )


@scenario("candidate")
def another_schema(rig: Rig, report: Report) -> None:
    """The manifest asks for one more event at the next start."""
    chain, _, miner, process = following(rig)
    miner.pause()
    chain.mine(1)
    rig.settle(chain, process)
    process.kill()
    rig.manifest(events='["Transfer", "Approval"]')
    process = rig.gapless("run")
    complete = (
        "SELECT 1 FROM gapless.events WHERE name = 'Approval' AND active AND EXISTS "
        "(SELECT FROM gapless.sources s WHERE s.event_id = events.id AND s.active)"
    )
    report.holds(
        "another schema at restart",
        lambda: (
            until(lambda: rig.postgres.query(complete), rig.patience, lambda: process.said[-1500:])
            and rig.settle(chain, process)
        ),
    )


@scenario("candidate")
def a_silent_chain(rig: Rig, report: Report) -> None:
    """Two chains, the node of one of them never answers."""
    silent = Faults()
    silent.mood = "silence"
    rig.stack.callback(silent.release)
    other = TokenChain(10, rig.seconds, name="silent")
    url = rig.server.add(f"{rig.folder.name}/silent", other.node(liar=silent))
    more = (
        '[chains.silent]\nid = 31340\nrpc = ["${SILENT}"]\n[contracts.other]\nchain = "silent"\n'
        f'abi = "{ERC20}"\naddress = "{TOKEN}"\nstart_block = 1\n'
    )
    chain, faults = TokenChain(500, rig.seconds), Faults()
    rig.serve(chain.node(liar=faults))
    rig.manifest(more=more)
    miner = rig.miner(chain)
    process = rig.gapless("run", SILENT=url)
    rig.settle(chain, process)
    miner.start()
    pause_for(5 * rig.seconds)
    report.holds("the other chain is followed", lambda: caught_up(rig, chain, rig.patience, process))


@scenario("candidate")
def full_disk(rig: Rig, report: Report) -> None:
    """Postgres says for a while that the disk is full; and so does ``gapless status``."""
    chain, _, _, process = following(rig)
    with psycopg.connect(rig.postgres.url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER full_disk BEFORE INSERT ON token.transfer FOR EACH STATEMENT EXECUTE FUNCTION full_disk()"
        )
        pause_for(max(4.0, 10 * rig.scale))
        state = rig.postgres.query("SELECT state, state_reason FROM gapless.chains")
        said = process.said
        connection.execute("DROP TRIGGER full_disk ON token.transfer")
    report.holds(
        "a full disk is told",
        lambda: "could not extend file" in said or "disk" in str(state) or fail(f"{state}\n{said[-1500:]}"),
    )
    report.holds("goes on after a full disk", lambda: caught_up(rig, chain, rig.patience, process))


@scenario("candidate")
def times_that_go_back(rig: Rig, report: Report) -> None:
    """Blocks whose time is before their parents'."""
    chain, _, miner, process = following(rig)
    pause_for(2 * rig.seconds)
    chain._block_class.shift = -30  # type: ignore[attr-defined]
    pause_for(4 * rig.seconds)
    miner.pause()
    report.holds("times that go back", lambda: rig.settle(chain, process))


@scenario("candidate")
def another_chain(rig: Rig, report: Report) -> None:
    """Behind the endpoint stands another chain for a while."""
    chain, _, miner, process = following(rig)
    caught_up(rig, chain, rig.patience, process)
    other = TokenChain(400, rig.seconds, name="other")
    node = rig.server._nodes[f"/{rig.folder.name}/0"]
    node.chain = node.tokens = other  # type: ignore[attr-defined, assignment]
    pause_for(max(6.0, 20 * rig.scale))
    report.holds("nothing of another chain is indexed", lambda: rig.whole(chain))
    node.chain = node.tokens = chain  # type: ignore[attr-defined, assignment]
    report.holds("goes on when the chain is back", lambda: caught_up(rig, chain, rig.patience, process))
    miner.pause()
    report.holds("the table equals the chain after another one", lambda: rig.settle(chain, process))


@scenario("candidate")
def two_instances(rig: Rig, report: Report) -> None:
    """A second one takes over when the first is killed, and when it stands still."""
    chain, _, miner, first = following(rig)
    second = rig.gapless("run")
    pause_for(4 * rig.seconds + 2)
    first.kill()
    report.holds("takes over from a killed one", lambda: _moves_on(rig, chain, second))
    third = rig.gapless("run")
    pause_for(4 * rig.seconds + 2)
    second.popen.send_signal(signal.SIGSTOP)
    report.holds("takes over from a frozen one", lambda: _moves_on(rig, chain, third))
    second.popen.send_signal(signal.SIGCONT)
    pause_for(3 * rig.seconds)
    miner.pause()
    report.holds("two instances: the table equals the chain", lambda: rig.settle(chain, third))


def _moves_on(rig: Rig, chain: TokenChain, process: Gapless) -> str:
    began = time.monotonic()
    wanted = chain.head.number + 1
    until(
        lambda: rig.tip() >= wanted, TAKES_OVER_WITHIN + 2 * rig.seconds, lambda: f"no takeover\n{process.said[-1500:]}"
    )
    return f"{time.monotonic() - began:.1f} s"


@scenario("candidate")
def a_hundred_at_once(rig: Rig, report: Report) -> None:
    """The chain stalls, then a hundred blocks come at once."""
    chain, _, miner, process = following(rig)
    miner.pause()
    pause_for(5 * rig.seconds)
    chain.mine(100)
    report.holds("a stall, then 100 blocks at once", lambda: rig.settle(chain, process))


def _unanswered(rig: Rig, report: Report, endpoints: int) -> None:
    chain = TokenChain(200, rig.seconds)
    faults = [Faults(seed) for seed in range(endpoints)]
    for fault in faults:
        rig.stack.callback(fault.release)
        rig.serve(chain.node(liar=fault))
    rig.manifest()
    miner = rig.miner(chain)
    process = rig.gapless("run")
    rig.settle(chain, process)
    miner.start()
    caught_up(rig, chain, rig.patience, process)
    for method in ("eth_getBlockByNumber", "eth_getLogs"):
        for fault in faults[:1]:
            fault.mute = method
        behind, watching = [0], time.monotonic() + 10 * max(1.0, rig.seconds)
        while time.monotonic() < watching:
            behind.append(chain.head.number - rig.tip())
            threading.Event().wait(0.05)
        least_blocks = BEHIND * max(1.0, 2.0 / rig.seconds)
        report.holds(
            f"{method} that is never answered, {endpoints} endpoint{'s' * (endpoints > 1)}",
            lambda behind=behind, least=least_blocks: (
                f"at most {max(behind)} blocks behind"  # type: ignore[misc]
                if max(behind) <= least
                else fail(f"{max(behind)} blocks behind")
            ),
        )


@scenario("candidate")
def a_lost_request(rig: Rig, report: Report) -> None:
    """One request at the head is never answered; there is one endpoint."""
    _unanswered(rig, report, 1)


@scenario("candidate")
def a_lost_request_of_two(rig: Rig, report: Report) -> None:
    """One request at the head is never answered; a second endpoint is healthy."""
    _unanswered(rig, report, 2)
