"""The API's read path: pages of 100 events out of ten million, beside the same SQL run by pgbench; and exports.

``gapless serve`` as it always runs, asked over a few connections by one thread (:mod:`benchmarks.http_client`), as
pgbench asks Postgres over as many. Pages are chosen at random by block range, by address and by an indexed argument.
Beside the rates stands what a page takes of a core: on a machine that does other work the rates are shares of what is
left, and ``by CPU`` is what they would be to one another without it. The p99 of both is of sixteen pages at once that
share the cores with who asks for them. Exports are one stream each, read by curl.
"""

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import md5
from pathlib import Path
from typing import Any

import falcon.testing
import psutil
import psycopg
from psycopg import sql

from api.app import create_app
from api.context import create_context
from api.database import SESSION, Database
from api.settings import ApiSettings
from benchmarks.head import command, free_port, until_served
from benchmarks.measure import PostgresCpu, cpu_of, curl, database
from indexer.manifest import load_manifest
from indexer.store import embedded
from indexer.store.apply import migrate
from indexer.store.apply.apply import apply
from indexer.store.database import create_engine
from indexer.store.embedded.programs import binaries
from indexer.store.rows import indexes
from indexer.sync.setup.declaration import declaration

_PER_BLOCK = 10
_TOKENS = 5
_HOLDERS = 10_000
# So that every holder fills a page.
_ROWS_EACH = 200
_BLOCK_SECONDS = 12
_GENESIS = 1_600_000_000
_PAGES = 100
# So many that neither the API nor pgbench ever waits for somebody who asks.
_CONNECTIONS = 16
_PAGE = 100
# How the files begin to which pgbench writes how long each page took.
_LOG = "pgbench-log"
# Rows of an export.
_EXPORTED = 1_000_000


@dataclass(frozen=True)
class Load:
    """How pages are answered, by the API or by Postgres alone.

    Attributes:
        rate: pages a second.
        server, postgres, client: milliseconds of a core for a page, of the API, of Postgres and of who asks.
        p99: seconds until a page is there.
    """

    rate: float
    server: float
    postgres: float
    client: float
    p99: float = 0.0

    @property
    def cpu(self) -> float:
        """Milliseconds of a core for a page, all together."""
        return self.server + self.postgres + self.client


@dataclass(frozen=True)
class Speed:
    """How one kind of page is answered.

    Attributes:
        name: the kind.
        api: by the API.
        sql: the same statements, by pgbench.
    """

    name: str
    api: Load
    sql: Load

    @property
    def ratio(self) -> float:
        """The API's rate to that of pgbench."""
        return self.api.rate / self.sql.rate

    @property
    def cpu_ratio(self) -> float:
        """What it would be on cores that do nothing else and never rest."""
        return self.sql.cpu / self.api.cpu

    def __str__(self) -> str:
        api, sql = self.api, self.sql
        return (
            f"{self.name:<16} {api.rate:>12,.0f} {1000 * api.p99:>7.1f} {api.server:>8.2f} {api.postgres:>8.2f} "
            f"{api.client:>8.2f} {sql.rate:>10,.0f} {1000 * sql.p99:>7.1f} {sql.cpu:>8.2f} {self.ratio:>6.2f} "
            f"{self.cpu_ratio:>6.2f}"
        )


_TITLE = (
    f"{'pages of 100':<16} {'API a second':>12} {'p99 ms':>7} {'API CPU':>8} {'Postgres':>8} {'client':>8} "
    f"{'pgbench':>10} {'p99 ms':>7} {'CPU':>8} {'of it':>6} {'by CPU':>6}"
)


def main() -> None:
    """Print a line for each kind of page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="in the table (default 10 million)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each measurement (default 10)")
    parser.add_argument("--processes", type=int, default=1, help="of the API (default 1)")
    arguments = parser.parse_args()
    run(arguments.rows, arguments.seconds, arguments.processes)


def run(rows: int, seconds: float, processes: int = 1) -> list[Speed]:
    """Makes the table, measures and prints."""
    found = []
    with (
        tempfile.TemporaryDirectory(prefix="gapless-bench-") as folder,
        embedded.postgres(Path(folder)) as server,
        database(server) as url,
    ):
        began = time.perf_counter()
        fill(url, Path(folder), rows)
        print(f"a table of {rows:,} rows with its indexes, made in {time.perf_counter() - began:.0f} s")
        print(_TITLE)
        port = free_port()
        environment = {
            "DATABASE_URL": url, "API_PORT": str(port),
            "API_PROCESSES": str(processes),
            "GAPLESS_MANIFEST": str(Path(folder) / "indexer.toml"), "GAPLESS_DATA_DIR": str(Path(folder) / "data"),
        }  # fmt: skip
        with command("serve", environment) as serving:
            until_served(port)
            meter = _Meter(serving, PostgresCpu(url))
            for name, paths in _pages(rows).items():
                _ask(port, paths, min(seconds, 1.0), meter)  # each connection to Postgres has prepared the statement
                asked = _ask(port, paths, seconds, meter)
                speed = Speed(name, asked, _pgbench(url, _statements(url, paths), Path(folder), seconds, meter))
                print(speed, flush=True)
                found.append(speed)
            exported = min(rows, _EXPORTED)
            print(f"an export of {exported:,} rows: rows a second, MB a second")
            for name, rate, size in _exports(f"http://127.0.0.1:{port}", exported):
                print(f"{name:<16} {rate:>13,.0f} {size:>8.1f}")
    return found


def fill(url: str, folder: Path, rows: int) -> None:
    """Makes a followed chain whose one table holds so many Transfers, ten a block, of five tokens."""
    last = rows // _PER_BLOCK
    abi = Path(__file__).resolve().parent.parent / "abis" / "erc20.json"
    listed = ", ".join(f'"0x{_token(number).hex()}"' for number in range(_TOKENS))
    path = folder / "indexer.toml"
    path.write_text(
        f'[chains.bench]\nid = 1\nrpc = ["http://127.0.0.1:1"]\n[contracts.token]\nchain = "bench"\n'
        f'abi = "{abi.as_posix()}"\naddress = [{listed}]\nstart_block = 1\nevents = ["Transfer"]\n'
    )
    engine = create_engine(url)
    migrate.upgrade(engine)
    apply(engine, declaration(load_manifest(path, {})))
    with engine.begin() as connection:
        indexes.put_off(connection, [1])
    with psycopg.connect(url, autocommit=True) as driver:
        driver.execute(
            """
            INSERT INTO token.transfer
            SELECT 1, 1 + n / %(per)s, to_timestamp(%(genesis)s + (1 + n / %(per)s) * %(seconds)s),
                   decode(md5(n::text) || md5((-n)::text), 'hex'), n %% %(per)s, n %% %(per)s,
                   decode(substr(md5('token' || abs(hashint8(n) %% %(tokens)s)) || md5(''), 1, 40), 'hex'),
                   decode(substr(md5('holder' || abs(hashint8(n + 1) %% %(holders)s)) || md5(''), 1, 40), 'hex'),
                   decode(substr(md5('holder' || abs(hashint8(n + 2) %% %(holders)s)) || md5(''), 1, 40), 'hex'), n
            FROM generate_series(0, %(rows)s - 1) AS n
            """,
            {
                "per": _PER_BLOCK, "genesis": _GENESIS, "seconds": _BLOCK_SECONDS, "tokens": _TOKENS,
                "holders": _holders(rows), "rows": rows,
            },
        )  # fmt: skip
        driver.execute("UPDATE gapless.sources SET coverage = int8multirange(int8range(1, %s))", (last + 1,))
        driver.execute("INSERT INTO gapless.blocks (chain_id, number, hash, time) VALUES (1, %s, %s, %s)", _tip(last))
        driver.execute(
            "UPDATE gapless.chains SET tip_number = b.number, tip_hash = b.hash, tip_time = b.time, "
            "head_number = b.number, head_time = b.time, head_seen_at = now(), finalized_number = b.number - 64, "
            "safe_number = b.number - 32, state = 'following' FROM gapless.blocks b"
        )
    with engine.begin() as connection:
        indexes.call_for(connection, [1])
    indexes.build(engine, threading.Event())
    engine.dispose()
    with psycopg.connect(url, autocommit=True) as driver:
        driver.execute("VACUUM ANALYZE token.transfer")
        driver.execute("CHECKPOINT")


def _holders(rows: int) -> int:
    return max(1, min(_HOLDERS, rows // _ROWS_EACH))


def _tip(last: int) -> tuple[Any, ...]:
    moment = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(_GENESIS + last * _BLOCK_SECONDS))
    return last, md5(b"tip", usedforsecurity=False).digest() * 2, moment


def _token(number: int) -> bytes:
    return _name(f"token{number}")


def _name(text: str) -> bytes:
    digest = md5(text.encode(), usedforsecurity=False).hexdigest() + md5(b"", usedforsecurity=False).hexdigest()
    return bytes.fromhex(digest[:40])


def _pages(rows: int) -> dict[str, list[str]]:
    """For each kind of page some paths."""
    choose = random.Random(7)
    last = rows // _PER_BLOCK
    base = f"/v1/contracts/token/events/Transfer?limit={_PAGE}"
    starts = [choose.randrange(1, max(2, last - 1000)) for _ in range(_PAGES)]
    return {
        "by block range": [f"{base}&from_block={start}&to_block={start + 999}" for start in starts],
        "by address": [f"{base}&to_block={start + 999}&address=0x{_token(start % _TOKENS).hex()}" for start in starts],
        "by argument": [
            f"{base}&arg.from=0x{_name(f'holder{choose.randrange(_holders(rows))}').hex()}" for _ in range(_PAGES)
        ],
    }


class _Meter:
    """What pages take of a core.

    Args:
        serving: the API's process, whose children serve too.
        postgres: the server.
    """

    def __init__(self, serving: psutil.Process, postgres: PostgresCpu) -> None:
        self._serving = serving
        self._postgres = postgres

    def now(self) -> tuple[float, float, float]:
        """Seconds of a core so far: the API's, Postgres', and those of the clients that have ended."""
        api = sum(cpu_of(one) for one in (self._serving, *self._serving.children(recursive=True)))
        clients = resource.getrusage(resource.RUSAGE_CHILDREN)
        return api, self._postgres.cpu(), clients.ru_utime + clients.ru_stime

    def load(self, before: tuple[float, float, float], pages: float, rate: float, p99: float = 0.0) -> Load:
        """What came of some pages.

        Args:
            before: what :meth:`now` said before them.
            pages: how many.
            rate: of them a second.
            p99: seconds.
        """
        api, postgres, client = ((now - then) * 1000 / pages for now, then in zip(self.now(), before, strict=True))
        return Load(rate, api, postgres, client, p99)


def _ask(port: int, paths: Sequence[str], seconds: float, meter: _Meter) -> Load:
    """Asks the API over a few connections at once."""
    orders = [random.Random(number).sample(list(paths), len(paths)) for number in range(_CONNECTIONS)]
    before = meter.now()
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.http_client"],
        input=json.dumps({"host": "127.0.0.1", "port": port, "paths": orders, "seconds": seconds}),
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    found = json.loads(told)
    times = found["times"]
    return meter.load(before, len(times), len(times) / found["seconds"], _p99(times))


def _exports(origin: str, rows: int) -> Iterator[tuple[str, float, float]]:
    """One curl after the other: the kind, rows a second, and megabytes a second as they came over the wire."""
    path = f"{origin}/v1/contracts/token/events/Transfer?order=asc&to_block={rows // _PER_BLOCK}"
    for name, form, encoding in (
        ("CSV", "csv", "identity"),
        ("NDJSON", "ndjson", "identity"),
        ("CSV, gzip", "csv", "gzip"),
    ):
        said = subprocess.run(
            [
                curl(), "--silent", "--output", "/dev/null", "--header", f"Accept-Encoding: {encoding}",
                "--write-out", "%{http_code} %{exitcode} %{time_total} %{size_download}", f"{path}&format={form}",
            ],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        status, ended, took, size = said.split()
        if (status, ended) != ("200", "0"):
            raise RuntimeError(f"an export was answered with HTTP {status}, curl ended with {ended}")
        yield name, rows / float(took), int(size) / 1e6 / float(took)


def _statements(url: str, paths: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The statement that the API runs for each path, and its values as SQL."""
    asked: list[tuple[str | bytes, Sequence[object]]] = []
    plain = Database.query

    def noted(self: Database, text: str | bytes, values: Sequence[object] = ()) -> Any:
        asked.append((text, values))
        return plain(self, text, values)

    found = []
    context = create_context(ApiSettings(), url, None)
    try:
        client = falcon.testing.TestClient(create_app(context))
        Database.query = noted  # type: ignore[method-assign]
        with psycopg.connect(url) as connection:
            for path in paths:
                asked.clear()
                result = client.simulate_get(path)
                if result.status_code != 200 or not result.json["data"]:
                    raise RuntimeError(f"{path}: HTTP {result.status_code}, {result.text[:200]}")
                text, values = max(asked, key=lambda one: len(one[0]))
                literals = [sql.Literal(value).as_string(connection) for value in values]
                found.append((text.decode() if isinstance(text, bytes) else text, literals))
    finally:
        Database.query = plain  # type: ignore[method-assign]
        context.close()
    return found


def _pgbench(
    url: str, statements: Sequence[tuple[str, list[str]]], folder: Path, seconds: float, meter: _Meter
) -> Load:
    """Runs statements at random, in sessions set like the API's, each prepared once in each."""
    texts = sorted({text for text, _ in statements})
    prepared = "".join(f"PREPARE page{texts.index(text)} AS {' '.join(text.split())};\n" for text in texts)
    files = []
    for number, (text, values) in enumerate(statements):
        file = folder / f"page-{number}.sql"
        call = f"EXECUTE page{texts.index(text)}" + (f"({', '.join(values)})" if values else "")
        file.write_text(f"\\if :first\n{prepared}\\set first 0\n\\endif\n{call};\n")
        files += ["--file", str(file)]
    before = meter.now()
    said = subprocess.run(
        [
            str(binaries() / "pgbench"), "--no-vacuum", "--define", "first=1", "--client", str(_CONNECTIONS),
            "--jobs", "1", "--time", str(max(1, round(seconds))), "--log", "--log-prefix", str(folder / _LOG),
            *files, url,
        ],
        check=True, capture_output=True, text=True,
        env={**os.environ, "PGOPTIONS": " ".join(f"-c {name}={value}" for name, value in SESSION.items())},
    ).stdout  # fmt: skip
    match = re.search(r"tps = ([0-9.]+)", said)
    if match is None or re.search(r"number of failed transactions: [1-9]", said):
        raise RuntimeError(f"pgbench: {said}")
    done = re.search(r"number of transactions actually processed: ([0-9]+)", said)
    load = meter.load(before, float(done[1]) if done else 1.0, float(match[1]), _slowest(folder))
    return replace(load, server=0.0)  # it was at rest


def _slowest(folder: Path) -> float:
    """The p99 of the transactions that pgbench logged, in seconds; the log is removed."""
    times = []
    for path in folder.glob(f"{_LOG}.*"):
        times += [int(line.split()[2]) for line in path.read_text().splitlines()]
        path.unlink()
    return _p99(times) / 1_000_000


def _p99(times: Sequence[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


if __name__ == "__main__":
    main()
