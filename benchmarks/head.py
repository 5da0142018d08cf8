"""Head latency: from a block at the node to its rows in Postgres, and to the API's answer.

``gapless run`` and ``gapless serve`` as they always run, in processes of their own, beside a chain that grows by the
clock (:mod:`benchmarks.head_node`): every contract says something in every block.
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
_PATIENCE = 60.0
_LOOK_EVERY = 0.004


@dataclass(frozen=True)
class Latency:
    """What a run showed. Seconds from the moment at which a block is at the node.

    Attributes:
        interval: seconds between blocks.
        contracts: how many are followed; each says something in every block.
        rows: for each block, until its rows are committed in Postgres.
        answers: for some blocks, until ``?min_block=N&wait=10`` is answered by the API.
        behind: blocks that the tip was behind the chain in the end.
        requests: that the node was sent, for each block.
        cpu: seconds of one core that the indexer took for each second.
    """

    interval: float
    contracts: int
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
    """Measures a block a second, then ten, and prints both."""
    print(
        "head, ms     blocks   rows: median      p99   API: median      p99   behind at the end   requests/block   CPU"
    )
    with tempfile.TemporaryDirectory(prefix="gapless-bench-") as folder, embedded.postgres(Path(folder)) as server:
        for interval in (1.0, 0.1):
            with database(server) as url:
                found = measure(url, Path(folder), interval, contracts, seconds)
            print(_line(found), flush=True)


def _line(found: Latency) -> str:
    rows, answers = (f"{_ms(values, 50):>15} {_ms(values, 99):>8}" for values in (found.rows, found.answers))
    pace = f"{1 / found.interval:>5.0f} a second {len(found.rows):>5}"
    return f"{pace} {rows} {answers[2:]} {found.behind:>19} {found.requests:>16.1f} {found.cpu:>5.0%}"


def measure(url: str, folder: Path, interval: float, contracts: int, seconds: float) -> Latency:
    """Follows a chain for a while.

    Args:
        url: of an empty database.
        folder: for the manifest.
        interval: seconds between blocks.
        contracts: how many there are.
        seconds: how long.
    """
    manifest = folder / f"head-{interval:g}.toml"
    with _node(interval, contracts) as (node_url, genesis):
        manifest.write_text(_manifest(contracts))
        port = free_port()
        environment = {
            "DATABASE_URL": url, "RPC_URL": node_url, "GAPLESS_MANIFEST": str(manifest), "API_PORT": str(port),
            "GAPLESS_DATA_DIR": str(folder / "data"),
        }  # fmt: skip
        with command("run", environment) as indexer, psycopg.connect(url, autocommit=True) as connection:
            _until_followed(connection)
            with command("serve", environment):
                until_served(port)
                # The pace is learned from the first blocks.
                time.sleep(max(3.0, 8 * interval))
                return _watched(connection, node_url, port, genesis, interval, contracts, seconds, indexer)


def _watched(
    connection: psycopg.Connection[tuple[int]],
    node_url: str,
    port: int,
    genesis: float,
    interval: float,
    contracts: int,
    seconds: float,
    indexer: psutil.Process,
) -> Latency:
    rows: list[float] = []
    answers: list[float] = []
    end = time.time() + seconds
    asking = threading.Thread(target=_ask, args=(answers, port, genesis, interval, contracts - 1, end), daemon=True)
    asking.start()
    sent, used = _requests(node_url), _cpu(indexer)
    seen = _newest(connection, contracts - 1)
    began = seen
    while time.time() < end:
        newest = _newest(connection, contracts - 1)
        now = time.time()
        rows += [now - (genesis + number * interval) for number in range(seen + 1, newest + 1)]
        seen = newest
        time.sleep(_LOOK_EVERY)
    behind = int((time.time() - genesis) / interval) - _newest(connection, contracts - 1)
    asking.join(_PATIENCE)
    cost = (_requests(node_url) - sent) / max(1, seen - began)
    return Latency(interval, contracts, rows, answers, behind, cost, (_cpu(indexer) - used) / seconds)


def _ask(answers: list[float], port: int, genesis: float, interval: float, contract: int, end: float) -> None:
    """One reader that waits for block after block, and asks at another moment of a block's time each."""
    while time.time() < end:
        number = int((time.time() - genesis) / interval) + 1
        path = f"/v1/contracts/c{contract}/events/Transfer?min_block={number}&wait=10&limit=20"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=_PATIENCE) as answer:
            body = json.loads(answer.read())
        now = time.time()
        if body["data"][0]["block_number"] >= number:
            answers.append(now - (genesis + number * interval))


def _manifest(contracts: int) -> str:
    abi = Path(__file__).resolve().parent.parent / "abis" / "erc20.json"
    parts = [f'[chains.bench]\nid = {CHAIN_ID}\nrpc = ["${{RPC_URL}}"]\nbloom_checks = false\n']
    parts += [
        f'[contracts.c{number}]\nchain = "bench"\nabi = "{abi.as_posix()}"\naddress = "{address(number)}"\n'
        f'start_block = {BEFORE - 50}\nevents = ["Transfer"]\n'
        for number in range(contracts)
    ]
    return "\n".join(parts)


def _newest(connection: psycopg.Connection[tuple[int]], contract: int) -> int:
    row = connection.execute(f"SELECT max(block_number) FROM c{contract}.transfer").fetchone()
    return row[0] or 0 if row else 0


def _until_followed(connection: psycopg.Connection[tuple[int]]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(psycopg.Error):
            if _newest(connection, 0) >= BEFORE:
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
def _node(interval: float, contracts: int) -> Iterator[tuple[str, float]]:
    command = [sys.executable, "-m", "benchmarks.head_node", str(interval), str(contracts)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        genesis = float(process.stdout.readline())
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", genesis
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
        return int(answer.read().count(b"\n")) + 1


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
