"""``gapless export`` of one table to Parquet: rows a second of CPU, and the largest resident memory.

Run: ``python -m benchmarks.export --rows 10000000``. The rows are ERC-20 transfers with addresses of 10,000 holders, 50
a block. Each line is one export of a part of them to an empty folder, in a process of its own, after DuckDB has found
in it what the table holds. ``of COPY`` is the CPU time of a process that reads the same rows by psycopg's COPY in its
binary form and throws them away, divided by that of the export.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg

from benchmarks.measure import database
from benchmarks.memory import peak
from indexer.manifest.load import load_manifest
from indexer.store import embedded
from indexer.store.apply import migrate
from indexer.store.apply.apply import apply
from indexer.store.catalog.catalog import load_events
from indexer.store.database import create_engine
from indexer.sync.setup.declaration import declaration

PER_BLOCK = 50
_MANIFEST = """
[chains.bench]
id = 1
rpc = ["http://127.0.0.1:1"]

[contracts.token]
chain = "bench"
abi = "{abi}"
address = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
start_block = 0
events = ["Transfer"]
"""
_ROWS = """
INSERT INTO token.transfer
SELECT 1, i / {per}, '2024-01-01'::timestamptz + (i / {per}) * interval '12 s', sha256(int8send(i / 2)),
       (i % {per}) / 2, i % {per}, decode('a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48', 'hex'),
       substr(sha256(int8send(i * 7 % 10007)), 1, 20), substr(sha256(int8send(i * 11 % 10009)), 1, 20),
       i * 7919::numeric * (i % 1000003) * 1000000
FROM generate_series(0, {rows} - 1) i
"""


def main() -> None:
    """Make the table, export a tenth and all of it, print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one[0], arguments.one[1], int(arguments.one[2]))))
        return
    with (
        tempfile.TemporaryDirectory(prefix="gapless-export-") as home,
        embedded.postgres(Path(home) / "servers") as server,
        database(server) as url,
    ):
        fill(url, Path(home), arguments.rows)
        print("      rows  rows/s of CPU  seconds  CPU s  of COPY  peak MB  files  bytes/row", flush=True)
        for rows in (arguments.rows // 10, arguments.rows):
            out = str(Path(home) / f"out-{rows}")
            said = run(url, out, rows)
            check(url, out, rows)
            print(
                f"{rows:>10,}  {rows / said['cpu']:>13,.0f}  {said['seconds']:>7.1f}  {said['cpu']:>5.1f}  "
                f"{said['copy'] / said['cpu']:>7.2f}  {said['peak'] / 1e6:>7,.0f}  {said['files']:>5,.0f}  "
                f"{said['bytes'] / rows:>9.1f}",
                flush=True,
            )


def fill(url: str, home: Path, rows: int) -> None:
    """A migrated database with one table of so many rows, all covered and final."""
    path = home / "indexer.toml"
    path.write_text(_MANIFEST.format(abi=(Path.cwd() / "abis/erc20.json").as_posix()))
    engine = create_engine(url)
    migrate.upgrade(engine)
    apply(engine, declaration(load_manifest(path, {})))
    engine.dispose()
    last = (rows - 1) // PER_BLOCK
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_ROWS.format(per=PER_BLOCK, rows=rows))
        connection.execute("UPDATE gapless.sources SET coverage = int8multirange(int8range(0, %s))", (last + 1,))
        connection.execute("UPDATE gapless.chains SET tip_number = %s, finalized_number = %s", (last, last))
        connection.execute("VACUUM ANALYZE token.transfer")


def run(url: str, out: str, rows: int) -> dict[str, float]:
    """One export in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.export", "--one", url, out, str(rows)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def one(url: str, out: str, rows: int) -> dict[str, float]:
    """Exports the first rows, then reads them by COPY alone; what both took."""
    from indexer.store.export.folder import Folder
    from indexer.store.export.run import ExportRequest, export

    engine = create_engine(url)
    with engine.connect() as connection:
        (event,) = load_events(connection).values()
    last = (rows - 1) // PER_BLOCK
    started, before = time.perf_counter(), time.process_time()
    report = export(engine, event, Folder.at(out), ExportRequest(blocks=(0, last)), threading.Event())
    seconds, cpu = time.perf_counter() - started, time.process_time() - before
    used = peak()
    engine.dispose()
    if report.rows != rows:
        raise SystemExit(f"{report.rows} rows were exported, not {rows}")
    before = time.process_time()
    query = f"COPY (SELECT * FROM token.transfer WHERE block_number <= {last}) TO STDOUT (FORMAT BINARY)"
    with psycopg.connect(url) as driver, driver.cursor() as cursor, cursor.copy(query) as copy:
        for _ in copy:
            pass
    size = sum(path.stat().st_size for path in Path(out).rglob("*.parquet"))
    copied = time.process_time() - before
    return {"seconds": seconds, "cpu": cpu, "peak": used, "copy": copied, "files": report.written, "bytes": size}


def check(url: str, out: str, rows: int) -> None:
    """Compares count and sums with the table's, as DuckDB reads the files.

    Raises:
        SystemExit: they differ.
    """
    import duckdb

    sums = "count(*), sum(value), sum(log_index), sum(block_number), count(DISTINCT from_address)"
    with duckdb.connect() as reader:
        found = reader.execute(f"SELECT {sums} FROM read_parquet('{out}/**/*.parquet')").fetchone()
    with psycopg.connect(url) as connection:
        held = connection.execute(
            f"SELECT {sums} FROM token.transfer WHERE block_number <= {(rows - 1) // PER_BLOCK}"
        ).fetchone()
    assert found is not None
    assert held is not None
    if [int(value) for value in found] != [int(value) for value in held]:
        raise SystemExit(f"the files hold {found}, the table {held}")


if __name__ == "__main__":
    main()
