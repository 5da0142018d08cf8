"""Idle clients of streams and waiting requests on one process: what each costs, and how soon all have a new block.

``gapless serve`` as it always runs. Every client listens to the same event, as the visitors of a page do; half of the
time nothing happens, then blocks come.
"""

import argparse
import asyncio
import re
import resource
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from benchmarks.api import fill
from benchmarks.head import command, free_port, until_served
from benchmarks.measure import database
from indexer.store import embedded

_ROWS = 20_000
_PATH = "/v1/contracts/token/events/Transfer"
#: Files that this program opens beside its connections.
_FILES = 100
#: Connections that are opened at once: a page's visitors do not all come in the same millisecond.
_AT_ONCE = 100

Clients = Sequence[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


@dataclass(frozen=True)
class Cost:
    """What clients cost.

    Attributes:
        clients: how many there were.
        bytes_each: memory of the process for each.
        idle_cpu: seconds of CPU in a second without a new block.
        median, last: seconds from the commit of a block until half of them, and all, have its row or their answer.
    """

    clients: int
    bytes_each: float
    idle_cpu: float
    median: float
    last: float


def main() -> None:
    """Print a line for waiting requests and one for streams."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--clients", type=int, default=5000, help="streams at once (default 5000)")
    parser.add_argument("--waits", type=int, default=1000, help="waiting requests at once (default 1000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="without anything new (default 10)")
    arguments = parser.parse_args()
    run(arguments.clients, arguments.waits, arguments.seconds)


def run(clients: int, waits: int, seconds: float) -> list[Cost]:
    """Serve, measure and print."""
    _allow_files(max(clients, waits) + _FILES)
    with (
        tempfile.TemporaryDirectory(prefix="gapless-bench-") as folder,
        embedded.postgres(Path(folder)) as server,
        database(server) as url,
    ):
        fill(url, Path(folder), _ROWS)
        port, admin = free_port(), free_port()
        environment = {
            "DATABASE_URL": url, "API_PORT": str(port), "ADMIN_PORT": str(admin), "LOG_LEVEL": "WARNING",
            "STREAMS_MAX": str(2 * clients + 10), "API_WAIT_SLOTS": str(2 * waits + 10),
            "GAPLESS_MANIFEST": str(Path(folder) / "indexer.toml"), "GAPLESS_DATA_DIR": str(Path(folder) / "data"),
        }  # fmt: skip
        with command("serve", environment) as process:
            until_served(port)
            print(f"{'clients':<26} {'bytes each':>10} {'idle CPU':>9} {'median s':>9} {'last s':>7}")
            found = []
            for name, measured in (
                ("waiting requests", _waits(port, admin, url, process, waits)),
                ("streams", _streams(port, url, process, clients, seconds)),
            ):
                cost = asyncio.run(measured)
                print(
                    f"{cost.clients:>7,} {name:<18} {cost.bytes_each:>10,.0f} {cost.idle_cpu:>9.3f} "
                    f"{cost.median:>9.2f} {cost.last:>7.2f}"
                )
                found.append(cost)
    return found


async def _streams(port: int, url: str, process: psutil.Process, count: int, seconds: float) -> Cost:
    # The first one makes what all share.
    await _open(port, 1, f"{_PATH}/stream", b"event: status")
    before = process.memory_info().rss
    clients = await _open(port, count, f"{_PATH}/stream", b"event: status")
    grown = process.memory_info().rss - before
    cpu, began = _cpu(process), time.monotonic()
    await asyncio.sleep(seconds)
    idle = (_cpu(process) - cpu) / (time.monotonic() - began)
    row = asyncio.gather(*(_until(reader, b"event: row") for reader, _ in clients))
    began = await asyncio.to_thread(_grow, url)
    times = sorted(moment - began for moment in await row)
    _close(clients)
    return Cost(count, grown / count, idle, statistics.median(times), times[-1])


async def _waits(port: int, admin: int, url: str, process: psutil.Process, count: int) -> Cost:
    tip = await asyncio.to_thread(_tip, url)
    # The first one makes what all share.
    _close(await _open(port, 1, f"{_PATH}?min_block={tip}&wait=1", b'"data":[{'))
    before = process.memory_info().rss
    clients = await _open(port, count, f"{_PATH}?min_block={tip + 1}&wait=10&limit=1", None)
    while await asyncio.to_thread(_waiting, admin) < count:
        await asyncio.sleep(0.1)
    grown = process.memory_info().rss - before
    cpu, began = _cpu(process), time.monotonic()
    await asyncio.sleep(1)
    idle = (_cpu(process) - cpu) / (time.monotonic() - began)
    answers = asyncio.gather(*(_until(reader, b'"data":[{') for reader, _ in clients))
    began = await asyncio.to_thread(_grow, url)
    times = sorted(moment - began for moment in await answers)
    _close(clients)
    return Cost(count, grown / count, idle, statistics.median(times), times[-1])


async def _open(port: int, count: int, path: str, until: bytes | None) -> Clients:
    """Connections that have asked; with ``until``, that were told so much."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with room:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            if until is not None:
                await _until(reader, until)
            return reader, writer

    return await asyncio.gather(*(one() for _ in range(count)))


async def _until(reader: asyncio.StreamReader, said: bytes) -> float:
    """Read until this comes; returns when that was."""
    kept = b""
    while said not in kept:
        piece = await reader.read(4096)
        if not piece:
            raise ConnectionError(f"the server ended the connection after {kept[-300:]!r}")
        kept = kept[-len(said) :] + piece
    return time.monotonic()


def _close(clients: Clients) -> None:
    for _, writer in clients:
        writer.close()


def _grow(url: str) -> float:
    """One more block with one row; returns when it was committed."""
    with psycopg.connect(url) as connection:
        tip = connection.execute("SELECT tip_number FROM gapless.chains").fetchone()
        assert tip is not None
        number = int(tip[0]) + 1
        connection.execute(
            "INSERT INTO token.transfer SELECT chain_id, %(number)s, block_time, tx_hash, tx_index, log_index, "
            "contract_address, from_address, to_address, value FROM token.transfer LIMIT 1",
            {"number": number},
        )
        connection.execute(
            "INSERT INTO gapless.blocks (chain_id, number, hash, time) VALUES (1, %s, %s, now())",
            (number, number.to_bytes(32)),
        )
        connection.execute("UPDATE gapless.sources SET coverage = int8multirange(int8range(1, %s))", (number + 1,))
        connection.execute(
            "UPDATE gapless.chains SET tip_number = %(number)s, head_number = %(number)s, tip_hash = %(hash)s",
            {"number": number, "hash": number.to_bytes(32)},
        )
        connection.execute("UPDATE gapless.events SET version = version + 1")
    return time.monotonic()


def _tip(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT tip_number FROM gapless.chains").fetchone()
        assert found is not None
        return int(found[0])


def _waiting(admin: int) -> int:
    """How many requests wait, as the server counts them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10) as answer:
        found = re.search(r'^gapless_api_in_use\{what="waits"\} ([0-9.]+)$', answer.read().decode(), re.MULTILINE)
    return int(float(found[1])) if found else 0


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise SystemExit(f"so many clients need {count} open files, and this system allows {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


if __name__ == "__main__":
    main()
