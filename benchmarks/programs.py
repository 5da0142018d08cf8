"""Programs over the events of an ERC-20 token: events a second of CPU, and the largest resident memory.

Run: ``python -m benchmarks.programs --events 400000``. Each line is one program from an empty generation to the last
block, in a process of its own. *holdings*: two upserts a transfer, between so many holders: 1,747 and 1,000,000.
*allowances*: what indexers are often compared by, with the events of rETH: balances from Transfer and allowances from
Approval, here every fifth event, of made-up events between as many holders. ``of handlers`` is the CPU time of the
same handlers over the same events in memory alone, divided by that of the whole: reading, handling, writing.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from benchmarks.measure import database
from benchmarks.memory import peak
from indexer.manifest.load import load_manifest
from indexer.programs import module
from indexer.programs.events import EventArguments
from indexer.programs.handling import Handling
from indexer.programs.memory import Memory
from indexer.programs.runner import ProgramRunner
from indexer.store import embedded
from indexer.store.apply import migrate
from indexer.store.apply.apply import apply
from indexer.store.database import create_engine
from indexer.sync.setup.declaration import declaration

PER_BLOCK = 20
_MANIFEST = """
[chains.bench]
id = 1
rpc = ["http://127.0.0.1:1"]

[contracts.token]
chain = "bench"
abi = "{abi}"
address = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
start_block = 0
events = ["Transfer", "Approval"]
"""
_ROWS = """
CREATE TEMPORARY TABLE made AS
SELECT i, i / {per} AS block, '2024-01-01'::timestamptz + (i / {per}) * interval '12 s' AS time,
       sha256(int8send(i / 2)) AS tx, (i % {per}) / 2 AS tx_index, i % {per} AS log_index,
       decode('a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48', 'hex') AS token,
       substr(sha256(int8send((random() * {holders})::bigint)), 1, 20) AS one,
       substr(sha256(int8send((random() * {holders})::bigint)), 1, 20) AS other, i * 7919::numeric * 1000000 AS value,
       {approvals} AND i % 5 = 4 AS approves
FROM generate_series(0, {events} - 1) i;
INSERT INTO token.transfer
SELECT 1, block, time, tx, tx_index, log_index, token, one, other, value FROM made WHERE NOT approves ORDER BY i;
INSERT INTO token.approval
SELECT 1, block, time, tx, tx_index, log_index, token, one, other, value FROM made WHERE approves ORDER BY i;
UPDATE gapless.sources SET coverage = int8multirange(int8range(0, {last} + 1));
UPDATE gapless.chains SET tip_number = {last}, finalized_number = {last};
ANALYZE token.transfer, token.approval;
"""
_PROGRAM = """
from indexer.programs import Program, Table, address, int256, key

class Holding(Table):
    holder: address = key()
    token: address = key()
    amount: int256 = 0

program = Program(tables=[Holding])

@program.on("token.Transfer")
def moved(event, db):
    value = event.args.value
    db.get_or_new(Holding, holder=event.args.to, token=event.address).amount += value
    db.get_or_new(Holding, holder=event.args.from_, token=event.address).amount -= value
"""
_ALLOWANCES = """
from indexer.programs import Program, Table, address, key, int256, uint256

class Account(Table):
    holder: address = key()
    amount: int256 = 0

class Allowance(Table):
    owner: address = key()
    spender: address = key()
    amount: uint256 = 0

program = Program(tables=[Account, Allowance])

@program.on("token.Transfer")
def moved(event, db):
    db.get_or_new(Account, holder=event.args.to).amount += event.args.value
    db.get_or_new(Account, holder=event.args.from_).amount -= event.args.value

@program.on("token.Approval")
def approved(event, db):
    db.get_or_new(Allowance, owner=event.args.owner, spender=event.args.spender).amount = event.args.value
"""
#: What must hold of the tables, so that no wrong rows are timed: 0.
_WRONG = {
    "holdings": "SELECT sum(amount)::float FROM derived.holding",
    "allowances": """
        SELECT (SELECT sum(amount)::float FROM derived.account) + (
            SELECT count(*) FROM derived.allowance a FULL JOIN (
                SELECT DISTINCT ON (owner, spender) owner, spender, value FROM token.approval
                ORDER BY owner, spender, block_number DESC, log_index DESC
            ) t USING (owner, spender) WHERE a.amount IS DISTINCT FROM t.value)
    """,
}
_CODE = {"holdings": _PROGRAM, "allowances": _ALLOWANCES}


def main() -> None:
    """Make the rows, run the program, print a line for each number of holders."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs", description=__doc__)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--working-set", type=int, default=500_000)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, url, code = given.one
        print(json.dumps(one(name, url, Path(code), given.working_set)))
        return
    with (
        tempfile.TemporaryDirectory(prefix="gapless-programs-") as home,
        embedded.postgres(Path(home) / "servers") as server,
    ):
        print("program       holders   events/s of CPU  seconds  of handlers  peak MB", flush=True)
        for name, holders in (("holdings", 1_747), ("holdings", 1_000_000), ("allowances", 1_747)):
            code = Path(home) / f"{name}.py"
            code.write_text(_CODE[name])
            with database(server) as url:
                fill(url, Path(home), given.events, holders, approvals=name == "allowances")
                command = [sys.executable, "-m", "benchmarks.programs", "--one", name, url, str(code)]
                command += ["--working-set", str(given.working_set)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found = json.loads(done.stdout)
            if found["wrong"] != 0 or found["events"] != given.events:
                raise SystemExit(f"the program is wrong: {found}")
            handlers = f"{found['handlers'] / found['cpu']:12.2f}" if found["handlers"] else f"{'-':>12}"
            print(
                f"{name:10} {holders:10,} {given.events / found['cpu']:17,.0f} {found['seconds']:8.1f} {handlers} "
                f"{found['peak']:8,.0f}",
                flush=True,
            )


def fill(url: str, home: Path, events: int, holders: int, *, approvals: bool = False) -> None:
    """A finalized, covered history of transfers, or of transfers and approvals."""
    path = home / "indexer.toml"
    path.write_text(_MANIFEST.format(abi=Path(__file__).parents[1] / "abis/erc20.json"))
    engine = create_engine(url)
    migrate.upgrade(engine)
    apply(engine, declaration(load_manifest(path, {})))
    engine.dispose()
    last = (events - 1) // PER_BLOCK
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            _ROWS.format(per=PER_BLOCK, events=events, holders=holders, last=last, approvals=str(approvals).lower())
        )


def one(name: str, url: str, code: Path, working_set: int) -> dict[str, float]:
    """Run the program to the end; then, where it has one handler, that alone over the same rows in memory."""
    gc.disable()  # as in the process of a program
    loaded = module.load(code)
    engine = create_engine(url, pool_size=3)
    runner = ProgramRunner(engine, name, loaded, 1, working_set=working_set)
    began, cpu = time.perf_counter(), time.process_time()
    while runner.step() != "idle":
        pass
    spent, seconds, memory = time.process_time() - cpu, time.perf_counter() - began, peak() / 1e6
    engine.dispose()
    with psycopg.connect(url) as connection:
        (wrong,) = connection.execute(_WRONG[name].encode()).fetchone() or (None,)
        (count,) = connection.execute(
            "SELECT (SELECT count(*) FROM token.transfer) + (SELECT count(*) FROM token.approval)"
        ).fetchone() or (0,)
        found = {"cpu": spent, "seconds": seconds, "handlers": 0.0, "peak": memory, "wrong": wrong, "events": count}
        if name != "holdings":
            return found
        rows = connection.execute(
            "SELECT block_number, log_index, 0, 0, tx_hash, tx_index, contract_address, from_address, to_address, "
            "value::text FROM token.transfer ORDER BY 1, 2"
        ).fetchall()
    events = [(*row[:-1], int(row[-1])) for row in rows]
    handling = Handling(
        loaded.program,
        [EventArguments("token.Transfer", [("from", "from_address"), ("to",), ("value",)])],
        1,
        Memory(loaded.program.tables),
    )
    cpu = time.process_time()
    handling.handle(events, finalized=10**9)
    return {**found, "handlers": time.process_time() - cpu}


if __name__ == "__main__":
    main()
