"""Head latency: from a block at the node to its rows in Postgres, and to the API's answer.

``gapless run`` and ``gapless serve`` as they always run, in processes of their own, beside a chain that grows by the
clock (:mod:`benchmarks.head_node`), its heads pushed or polled. Every contract says something in every block; of a
quiet chain none does, and what a block costs is counted at the node.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from benchmarks.head_node import BEFORE, CHAIN_ID, address
from benchmarks.measure import database
from indexer.store import embedded

_GAPLESS = [sys.executable, "-c", "from indexer.cli import main; main()"]
_PATIENCE = 180.0
_LOOK_EVERY = 0.004


@dataclass(frozen=True)
class Latency:
    """What a run showed. Seconds from the moment at which a block is at the node.

    Attributes:
        what: the chain's pace, and how its heads come.
        rows: for each block, until its rows are committed in Postgres.
        answers: for some blocks, until ``?min_block=N&wait=10`` is answered by the API.
        behind: blocks that the tip was behind the chain in the end.
        requests: questions to the node for each block; each of a batch counts.
        cpu: seconds of one core that the indexer took for each second.
    """

    what: str
    rows: Sequence[float]
    answers: Sequence[float]
    behind: int
    requests: float
    cpu: float


def main() -> None:
    """Print a line for each pace."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head", description=__doc__)
    parser.add_argument("--seconds", type=float, default=40.0, help="how long each chain is followed (default 40)")
    parser.add_argument("--contracts", type=int, default=20)
    arguments = parser.parse_args()
    run(arguments.seconds, arguments.contracts)


def run(seconds: float, contracts: int) -> None:
    """Measures a block a second, then ten, pushed and polled, and a quiet contract, and prints a line for each."""
    print(
        "head, ms                blocks   rows: median      p99   API: median      p99   behind at the end   "
        "requests/block   CPU"
    )
    with tempfile.TemporaryDirectory(prefix="gapless-bench-") as folder, embedded.postgres(Path(folder)) as server:
        for interval, pushed, saying in (
            (1.0, True, contracts),
            (1.0, False, contracts),
            (0.1, True, contracts),
            (0.1, False, contracts),
            (1.0, True, 0),
            (1.0, False, 0),
        ):
            with database(server) as url:
                found = measure(url, Path(folder), interval, contracts if saying else 1, seconds, pushed, saying)
            print(_line(found), flush=True)


def _line(found: Latency) -> str:
    rows, answers = (f"{_ms(values, 50):>15} {_ms(values, 99):>8}" for values in (found.rows, found.answers))
    cost = f"{found.behind:>19} {found.requests:>16.2f} {found.cpu:>5.0%}"
    return f"{found.what:<24} {len(found.rows):>5} {rows} {answers[2:]} {cost}"


def measure(
    url: str, folder: Path, interval: float, contracts: int, seconds: float, pushed: bool, saying: int
) -> Latency:
    """Follows a chain for a while.

    Args:
        url: of an empty database.
        folder: for the manifest.
        interval: seconds between blocks.
        contracts: how many there are.
        seconds: how long.
        pushed: whether the node pushes its new heads.
        saying: how many of them say something in each block.
    """
    manifest = folder / f"head-{interval:g}.toml"
    what = f"{1 / interval:.0f} a second, {'pushed' if pushed else 'polled'}{'' if saying else ', quiet'}"
    with _node(interval, contracts, saying) as (node_url, push_url, genesis):
        manifest.write_text(_manifest(contracts, pushed))
        port = free_port()
        environment = {
            "DATABASE_URL": url, "RPC_URL": node_url, "GAPLESS_MANIFEST": str(manifest), "API_PORT": str(port),
            "GAPLESS_DATA_DIR": str(folder / "data"), "PUSH_URL": push_url,
        }  # fmt: skip
        with command("run", environment) as indexer, psycopg.connect(url, autocommit=True) as connection:
            _until_followed(connection)
            with command("serve", environment):
                until_served(port)
                # The pace is learned from the first blocks.
                time.sleep(max(3.0, 8 * interval))
                chain = _Chain(node_url, genesis, interval)
                return _watched(what, connection, chain, port, contracts if saying else 0, seconds, indexer)


@dataclass(frozen=True)
class _Chain:
    node_url: str
    genesis: float
    interval: float

    def moment(self, number: int) -> float:
        return self.genesis + number * self.interval


def _watched(
    what: str,
    connection: psycopg.Connection[tuple[int]],
    chain: _Chain,
    port: int,
    contracts: int,
    seconds: float,
    indexer: psutil.Process,
) -> Latency:
    rows: list[float] = []
    answers: list[float] = []
    end = time.time() + seconds
    asking = threading.Thread(target=_ask, args=(answers, port, chain, contracts - 1, end), daemon=True)
    if contracts:
        asking.start()
    sent, used = _requests(chain.node_url), _cpu(indexer)
    seen = _newest(connection)
    began = seen
    while time.time() < end:
        newest = _newest(connection)
        now = time.time()
        rows += [now - chain.moment(number) for number in range(seen + 1, newest + 1)]
        seen = newest
        time.sleep(_LOOK_EVERY)
    behind = int((time.time() - chain.genesis) / chain.interval) - _newest(connection)
    cost = (_requests(chain.node_url) - sent) / max(1, seen - began)
    cpu = (_cpu(indexer) - used) / seconds
    if contracts:
        asking.join(_PATIENCE)
    return Latency(what, rows, answers, behind, cost, cpu)


def _ask(answers: list[float], port: int, chain: _Chain, contract: int, end: float) -> None:
    """One reader that waits for block after block, and asks at another moment of a block's time each."""
    while time.time() < end:
        number = int((time.time() - chain.genesis) / chain.interval) + 1
        path = f"/v1/contracts/c{contract}/events/Transfer?min_block={number}&wait=10&limit=20"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=_PATIENCE) as answer:
            body = json.loads(answer.read())
        now = time.time()
        if body["data"][0]["block_number"] >= number:
            answers.append(now - chain.moment(number))


def _manifest(contracts: int, pushed: bool) -> str:
    abi = Path(__file__).resolve().parent.parent / "abis" / "erc20.json"
    urls = '"${RPC_URL}", "${PUSH_URL}"' if pushed else '"${RPC_URL}"'
    parts = [f"[chains.bench]\nid = {CHAIN_ID}\nrpc = [{urls}]\n"]
    parts += [
        f'[contracts.c{number}]\nchain = "bench"\nabi = "{abi.as_posix()}"\naddress = "{address(number)}"\n'
        f'start_block = {BEFORE - 50}\nevents = ["Transfer"]\n'
        for number in range(contracts)
    ]
    return "\n".join(parts)


def _newest(connection: psycopg.Connection[tuple[int]]) -> int:
    """The newest block whose rows are there: they are committed with it."""
    row = connection.execute("SELECT max(tip_number) FROM gapless.chains").fetchone()
    return row[0] or 0 if row else 0


def _until_followed(connection: psycopg.Connection[tuple[int]]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg.Error):
            if _newest(connection) >= BEFORE:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing was indexed within {_PATIENCE:.0f} s")


def until_served(port: int) -> None:
    """Waits until ``gapless serve`` is ready."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5):
            return
        time.sleep(0.1)
    raise TimeoutError(f"the API was not ready within {_PATIENCE:.0f} s")


@contextlib.contextmanager
def _node(interval: float, contracts: int, saying: int) -> Iterator[tuple[str, str, float]]:
    command = [sys.executable, "-m", "benchmarks.head_node", str(interval), str(contracts), str(saying)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        genesis = float(process.stdout.readline())
        pushing, asked = (int(process.stdout.readline()) for _ in range(2))
        yield f"http://127.0.0.1:{asked}", f"ws://127.0.0.1:{pushing}", genesis
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def command(name: str, environment: dict[str, str]) -> Iterator[psutil.Process]:
    """A command of ``gapless`` in a process of its own, told to stop in the end."""
    process = subprocess.Popen(
        [*_GAPLESS, name], env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def _requests(node_url: str) -> int:
    with urllib.request.urlopen(node_url + "/requests") as answer:
        return int(answer.read())


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _ms(values: Sequence[float], percent: int) -> str:
    if len(values) < 2:
        return "-"
    return f"{1000 * statistics.quantiles(values, n=100)[percent - 1]:,.0f}"


if __name__ == "__main__":
    main()
