"""One workload, run and measured: first that every row is right, then how long it took and how long it must take."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
from psycopg import sql

from benchmarks.workloads import CHAIN_ID, Table, Workload

_PIECE = 1 << 20


@dataclass(frozen=True)
class Result:
    """What a run showed. Times in seconds, sizes in bytes, CPU times in seconds of one core.

    Attributes:
        workload: what was run.
        seconds: from the first look at the node until all is covered.
        indexing: of them, how long the secondary indexes took that were put off until the end.
        download: the time to download the same answers with curl, one after the other.
        copy: the time to COPY the same rows from a buffer into tables with their primary key.
        peak: the indexer's largest resident memory.
        cpu: the indexer's CPU time.
        node_cpu: the node's.
        postgres_cpu: Postgres'.
        requests: HTTP requests.
        bytes: of all answers.
    """

    workload: Workload
    seconds: float
    indexing: float
    download: float
    copy: float
    peak: int
    cpu: float
    node_cpu: float
    postgres_cpu: float
    requests: int
    bytes: int

    @property
    def of_the_limit(self) -> float:
        """How close to the possible: the slower of download and COPY, divided by the whole time."""
        return max(self.download, self.copy) / (self.seconds - self.indexing)


class WrongRowsError(Exception):
    """The tables do not hold what the chain said."""


def curl() -> str:
    """Where curl is: the one client here that is sure to be faster than what is measured.

    Raises:
        SystemExit: there is none.
    """
    found = shutil.which("curl")
    if found is None:
        raise SystemExit("the benchmarks need curl, and there is none on the PATH: install it (apt-get install curl)")
    return found


def run(folder: Path, server_url: str) -> Result:
    """Runs a workload against a database of its own.

    Args:
        folder: of the workload.
        server_url: a Postgres where databases may be made.

    Raises:
        WrongRowsError: a table is wrong; nothing was timed then.
    """
    workload = Workload.load(folder)
    manifest = write_manifest(folder, workload)
    with node(folder) as (node_url, serving), database(server_url) as url:
        postgres = PostgresCpu(url)
        node_before, postgres_before = cpu_of(serving), postgres.cpu()
        process = subprocess.run(
            [sys.executable, "-m", "benchmarks.indexing", url, manifest, node_url],
            check=True,
            stdout=subprocess.PIPE,
        )
        said = json.loads(process.stdout.splitlines()[-1])
        node_cpu, postgres_cpu = cpu_of(serving) - node_before, postgres.cpu() - postgres_before
        with psycopg.connect(url, autocommit=True) as connection:
            check(connection, workload)
            copy = copy_seconds(connection, folder, workload)
        return Result(
            workload=workload,
            seconds=said["seconds"],
            indexing=said.get("indexing", 0.0),
            download=_download_seconds(folder, node_url),
            copy=copy,
            peak=said["peak_bytes"],
            cpu=said["cpu"],
            node_cpu=node_cpu,
            postgres_cpu=postgres_cpu,
            requests=said["requests"],
            bytes=said["bytes"],
        )


def write_manifest(folder: Path, workload: Workload, *, verify: str | None = None) -> Path:
    """The workload's manifest as a file; the node's URL is ``RPC_URL``.

    Args:
        folder: where to.
        workload: what is indexed.
        verify: history comes from the portal at ``PORTAL_URL``, and is compared with the node so; None: it does not.
    """
    path = folder / "indexer.toml"
    contracts = workload.manifest.replace('"abis/', f'"{Path.cwd().as_posix()}/abis/')
    # The node's blocks are final at once; by default those just below the head would not be history yet.
    finality = '{ tag = "finalized", at_least = 0 }'
    history = "" if verify is None else f'history = [{{ url = "sqd:${{PORTAL_URL}}", verify = "{verify}" }}]\n'
    chain = f'[chains.bench]\nid = {CHAIN_ID}\nrpc = ["${{RPC_URL}}"]\nfinality = {finality}\n{history}'
    path.write_text(chain + contracts)
    return path


def check(connection: psycopg.Connection[Any], workload: Workload) -> None:
    """Compares count and checksum of every table, and that nothing was put aside.

    Raises:
        WrongRowsError: naming the table.
    """
    for name, expected in workload.tables.items():
        found = connection.execute(_checksum(name, expected)).fetchone()
        if found != (expected.rows, expected.checksum):
            raise WrongRowsError(f"{name}: (rows, checksum) {found}, not {(expected.rows, expected.checksum)}")
    undecoded = connection.execute("SELECT count(*) FROM gapless.undecoded_logs").fetchone()
    if undecoded != (0,):
        raise WrongRowsError(f"{undecoded} undecoded logs, not 0")
    covered = connection.execute(
        "SELECT DISTINCT coverage = int8multirange(int8range(start_block, %s)) FROM gapless.sources",
        (workload.last + 1,),
    ).fetchall()
    if covered != [(True,)]:
        raise WrongRowsError("a source is not covered from its start to the last block")


def _checksum(name: str, table: Table) -> sql.Composed:
    text = sql.SQL(", ").join(map(sql.SQL, table.columns))  # type: ignore[arg-type]
    return sql.SQL(
        "SELECT count(*), sum(('x' || substr(md5(concat_ws('|', {})), 1, 15))::bit(60)::bigint) FROM {}"
    ).format(text, _identifier(name))


def _identifier(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split("."))


def copy_seconds(connection: psycopg.Connection[Any], folder: Path, workload: Workload) -> float:
    """The rows as COPY's own binary form in a file, then copied into empty tables like theirs with the primary key."""
    total = 0.0
    for name in workload.tables:
        path = folder / f"{name}.copy"
        with path.open("wb") as file, connection.cursor() as cursor:
            source = sql.SQL(
                "COPY (SELECT * FROM {} ORDER BY chain_id, block_number, log_index) TO STDOUT (FORMAT BINARY)"
            )
            with cursor.copy(source.format(_identifier(name))) as copy:
                for piece in copy:
                    file.write(piece)
        connection.execute("DROP TABLE IF EXISTS public.again")
        connection.execute(
            sql.SQL("CREATE TABLE public.again (LIKE {}, PRIMARY KEY (chain_id, block_number, log_index))").format(
                _identifier(name)
            )
        )
        pieces = list(_pieces(path))
        connection.execute("CHECKPOINT")
        started = time.perf_counter()
        with connection.cursor() as cursor, cursor.copy("COPY public.again FROM STDIN (FORMAT BINARY)") as copy:
            for piece in pieces:
                copy.write(piece)
        total += time.perf_counter() - started
    return total


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _download_seconds(folder: Path, node_url: str) -> float:
    """All requests that the node was sent, again, by curl over one connection, the answers thrown away."""
    with urllib.request.urlopen(node_url + "/requests") as answer:
        bodies = answer.read().split(b"\n")
    config = []
    for position, body in enumerate(bodies):
        path = folder / f"request-{position}"
        path.write_bytes(body)
        config += ["next"] if position else []
        config += [f'url = "{node_url}"', f'data-binary = "@{path.as_posix()}"', 'output = "/dev/null"', "silent"]
    (folder / "curl.config").write_text("\n".join(config))
    started = time.perf_counter()
    subprocess.run([curl(), "--config", folder / "curl.config"], check=True)
    took = time.perf_counter() - started
    for position in range(len(bodies)):
        (folder / f"request-{position}").unlink()
    return took


@contextlib.contextmanager
def node(
    folder: Path, latency: float = 0.0, *, module: str = "benchmarks.node"
) -> Iterator[tuple[str, psutil.Process]]:
    """What serves a workload, a node by default, each answer ``latency`` seconds late: its URL and its process."""
    command = [sys.executable, "-m", module, folder, str(latency)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def database(server_url: str) -> Iterator[str]:
    """The URL of a database of this run's own."""
    name = f"bench_{uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield server_url.rpartition("/")[0] + "/" + name
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


class PostgresCpu:
    """The server's processes. A backend that ends takes its CPU time to the postmaster's children."""

    def __init__(self, url: str) -> None:
        with psycopg.connect(url) as connection:
            parent = psutil.Process(connection.info.backend_pid).parent()
        assert parent is not None
        self._postmaster = parent

    def cpu(self) -> float:
        """Seconds of one core that all of them have taken so far."""
        while True:
            before = self._postmaster.cpu_times()
            living = sum(cpu_of(child) for child in self._postmaster.children())
            after = self._postmaster.cpu_times()
            # A backend that ended meanwhile would be in neither sum.
            if before == after:
                return float(after.user + after.system + after.children_user + after.children_system) + living


def cpu_of(process: psutil.Process) -> float:
    """Seconds of one core that a process has taken so far; 0 where it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0
