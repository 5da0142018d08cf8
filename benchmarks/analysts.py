"""Queries of an analyst on millions of rows: ``python -m benchmarks.analysts``.

Makes the demo's tables without its chain, fills ``coins.transfer`` with rows of a year, runs every query of
``docs/analysts.md`` there, and prints how long each took to plan and to run, and the nodes of its plan that read whole
tables. At the end, questions about time are asked by time and by blocks. ``--time-indexes`` measures instead what an
index on ``block_time`` costs a writer and gives a reader.
"""

import argparse
import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import psycopg
from eth_typing import ChecksumAddress
from eth_utils.address import to_checksum_address
from web3.types import Nonce
from web3.utils import get_create_address

from benchmarks.measure import database
from indexer.demo.world import World, manifest_text
from indexer.manifest import load_manifest
from indexer.store import embedded
from indexer.store.apply import migrate
from indexer.store.apply.apply import apply
from indexer.store.database import create_engine
from indexer.sync.history import derived_history
from indexer.sync.setup.declaration import declaration

CHAIN_ID = 31337
ROWS = 10_000_000
_ROWS_A_BLOCK = 4
_YEAR = 365 * 24 * 3600
HOLDERS = 200_000
_ROUNDS = 3

#: What docs/analysts.md asks for: an account of the demo, of which the rows have some.
ACCOUNT = "f39fd6e51aad88f6f4ce6ab8827279cfffb92266"
COINS = ("gold", "silver", "copper", "odd")
# The last of the accounts that every anvil has.
_DEPLOYER = to_checksum_address("0xa0ee7a142d267c1f36714e4a8f75612f20a79720")
_NAMES = (*COINS, "maker", "silent", "nft", "items", "factory", "trader", "zoo")


def addresses() -> dict[str, ChecksumAddress]:
    """The world's contracts by name, where the demo deploys them: docs/analysts.md names some."""
    return {name: get_create_address(_DEPLOYER, Nonce(number)) for number, name in enumerate(_NAMES)}


@contextlib.contextmanager
def demo_tables(server_url: str, more: str = "") -> Iterator[str]:
    """A database of its own with the demo's manifest applied, and what else it is to say; its URL."""
    world: Any = World(
        w3=None,  # type: ignore[arg-type]
        chain_id=CHAIN_ID,
        deployer=_DEPLOYER,
        accounts=(),
        addresses=MappingProxyType(addresses()),
        artifacts=MappingProxyType({}),
        start_block=1,
    )
    with database(server_url) as url, tempfile.TemporaryDirectory(prefix="gapless-analysts-") as folder:
        manifest = Path(folder) / "indexer.toml"
        manifest.write_text(manifest_text(world) + more)
        engine = create_engine(url)
        try:
            migrate.upgrade(engine)
            apply(engine, declaration(load_manifest(manifest, {"RPC_URL": "http://127.0.0.1:9"})))
        finally:
            engine.dispose()
        yield url


_BLOCKS = """
INSERT INTO gapless.blocks (chain_id, number, hash, time)
SELECT {chain}, n, decode(lpad(to_hex(n), 64, '0'), 'hex'), now() - make_interval(secs => ({blocks} - n) * {seconds})
FROM generate_series(1, {blocks}) n
"""
# Accounts that move much and many that move little, as on a chain: the square of a number between 0 and 1.
_TRANSFERS = """
INSERT INTO coins.transfer (chain_id, block_number, block_time, tx_hash, tx_index, log_index, contract_address,
                            from_address, to_address, value)
SELECT {chain}, 1 + n / {a_block}, now() - make_interval(secs => ({blocks} - 1 - n / {a_block}) * {seconds}),
       decode(md5(n::text) || md5((-n)::text), 'hex'), n % {a_block}, n % {a_block},
       (ARRAY[{coins}])[1 + (power(random(), 2) * 3.999)::int % 4],
       CASE WHEN n % 1000 = 0 THEN '\\x{account}'::bytea
            ELSE decode(lpad(to_hex((power(random(), 4) * {holders})::bigint), 40, '0'), 'hex') END,
       CASE WHEN n % 1000 = 1 THEN '\\x{account}'::bytea
            ELSE decode(lpad(to_hex((power(random(), 4) * {holders})::bigint), 40, '0'), 'hex') END,
       (random() * 1e20)::numeric(78,0)
FROM generate_series({first}, {last}) n
"""
_PIECE = 500_000
# Built at the end, as after a first backfill.
_SECONDARY = """
SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
WHERE i.indrelid = 'coins.transfer'::regclass AND NOT i.indisprimary
"""


def fill(connection: psycopg.Connection[Any], rows: int, holders: int = HOLDERS) -> None:
    """Write the rows of a year, as history does, and what belongs to them: blocks, coverage, tokens, balances.

    Args:
        connection: with autocommit.
        rows: of ``coins.transfer``.
        holders: accounts that move something.
    """
    blocks = rows // _ROWS_A_BLOCK
    coins = ", ".join(f"'\\x{address[2:]}'::bytea" for name, address in addresses().items() if name in COINS)
    values = {
        "chain": CHAIN_ID, "blocks": blocks, "seconds": round(_YEAR / blocks, 6), "a_block": _ROWS_A_BLOCK,
        "coins": coins, "account": ACCOUNT, "holders": holders,
    }  # fmt: skip
    connection.execute("SET synchronous_commit = off")
    there = connection.execute(_SECONDARY).fetchall()
    for name, _ in there:
        connection.execute(f"DROP INDEX {name}".encode())
    connection.execute(_BLOCKS.format(**values).encode())
    for first in range(0, rows, _PIECE):
        last = min(first + _PIECE, rows) - 1
        connection.execute(_TRANSFERS.format(**values, first=first, last=last).encode())
    for _, definition in there:
        connection.execute(definition.encode())
    connection.execute(
        "UPDATE gapless.chains SET tip_number = %(last)s, tip_time = now(), head_number = %(last)s, head_time = now(), "
        "finalized_number = %(last)s - 64",
        {"last": blocks},
    )
    connection.execute("UPDATE gapless.sources SET coverage = int8multirange(int8range(start_block, NULL))")
    for number, (name, address) in enumerate(addresses().items()):
        if name in COINS:
            connection.execute(
                "INSERT INTO gapless.tokens (chain_id, address, kind, name, symbol, decimals, block_number) "
                "VALUES (%s, %s, 'erc20', %s, %s, %s, 1)",
                (CHAIN_ID, bytes.fromhex(address[2:]), f"Demo {name}", name.upper(), 18 - 6 * number),
            )
    connection.execute(
        "UPDATE gapless.ledgers SET through_block = %s, served = true WHERE chain_id = %s", (blocks, CHAIN_ID)
    )
    connection.execute("""
        INSERT INTO gapless.holdings (ledger_id, token, token_id, holder, amount)
        SELECT l.id, m.token, 0, m.holder, sum(m.amount)
        FROM gapless.ledgers l JOIN gapless.contracts c ON c.id = l.contract_id AND c.name = 'coins',
             (SELECT contract_address AS token, to_address AS holder, value AS amount FROM coins.transfer
              UNION ALL SELECT contract_address, from_address, -value FROM coins.transfer) m
        GROUP BY 1, 2, 3, 4 HAVING sum(m.amount) <> 0
    """)
    connection.execute("VACUUM ANALYZE")


def fill_days(connection: psycopg.Connection[Any]) -> None:
    """Write what all holders had at the ends of days, in their order, as a ledger that counts the rows does.

    Args:
        connection: with autocommit; :func:`fill` was called.
    """
    connection.execute("ALTER TABLE gapless.holdings_daily DROP CONSTRAINT holdings_daily_pkey")
    connection.execute("DROP INDEX gapless.holdings_daily_top")
    connection.execute("""
        INSERT INTO gapless.holdings_daily (ledger_id, token, token_id, holder, day, change, amount)
        SELECT l.id, d.token, 0, d.holder, d.day, d.change,
               sum(d.change) OVER (PARTITION BY d.token, d.holder ORDER BY d.day)
        FROM gapless.ledgers l, (
            SELECT m.token, m.holder, m.day, sum(m.amount) AS change FROM (
                SELECT contract_address AS token, to_address AS holder, gapless.day(block_time) AS day, value AS amount
                FROM coins.transfer
                UNION ALL SELECT contract_address, from_address, gapless.day(block_time), -value FROM coins.transfer
            ) m GROUP BY 1, 2, 3 HAVING sum(m.amount) <> 0) d
        WHERE l.daily ORDER BY d.day
    """)
    connection.execute("ALTER TABLE gapless.holdings_daily ADD PRIMARY KEY (ledger_id, token, token_id, holder, day)")
    connection.execute(
        "CREATE INDEX holdings_daily_top ON gapless.holdings_daily (ledger_id, token, token_id, amount, holder, day)"
    )
    connection.execute("VACUUM ANALYZE gapless.holdings_daily")


_SUMS = """
[derived.volume_day]
from = "coins.Transfer"
key = { token = "contract_address", day = "gapless.day(block_time)" }
count = "transfers"
sum = { volume = "value" }
"""
# Both over the same seven whole days; of the derived table, a row for each day and token is read.
_WEEK = "BETWEEN gapless.day(now()) - 7 AND gapless.day(now()) - 1"
_FROM_ROWS = f"""
SELECT gapless.day(block_time), contract_address, count(*), sum(value) FROM coins.transfer
WHERE chain_id = {CHAIN_ID} AND gapless.day(block_time) {_WEEK}
  AND block_number > gapless.block_at({CHAIN_ID}, now() - interval '9 days')
GROUP BY 1, 2 ORDER BY 1, 2
"""
_FROM_SUMS = f"""
SELECT day, token, transfers, volume FROM derived.volume_day WHERE chain_id = {CHAIN_ID} AND day {_WEEK} ORDER BY 1, 2
"""


def sums_by_day(url: str, connection: psycopg.Connection[Any]) -> tuple[float, float]:
    """The least milliseconds of the last week's sums by day and token: from the rows, and from a derived table.

    Args:
        url: the database.
        connection: to it; :func:`fill` was called.
    """
    engine = create_engine(url)
    try:
        derived_history.catch_up(engine, CHAIN_ID)
    finally:
        engine.dispose()
    connection.execute("VACUUM ANALYZE")
    rows, sums = (connection.execute(query.encode()).fetchall() for query in (_FROM_ROWS, _FROM_SUMS))
    if not rows or rows != sums:
        raise SystemExit(f"the derived table has {sums}, and the rows make {rows}")
    return explain(connection, _FROM_ROWS)[1], explain(connection, _FROM_SUMS)[1]


_QUERY = re.compile(r"(?:\*\*([^*]+)\*\*(?:(?!\*\*|```).)*)?```sql[^\n]*\n(.*?)```", re.DOTALL)


def queries() -> list[tuple[str, str]]:
    """The queries of docs/analysts.md, each with what it asks."""
    text = (Path(__file__).parents[1] / "docs" / "analysts.md").read_text("utf-8")
    return [(name or "and", query) for name, query in _QUERY.findall(text)]


def explain(connection: psycopg.Connection[Any], query: str) -> tuple[float, float, list[str]]:
    """The least milliseconds that a query took to plan and to run, and the large tables that it read whole."""
    plans = [
        connection.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {query}".encode()).fetchone()
        for _ in range(_ROUNDS)
    ]
    found = [plan[0][0] for plan in plans if plan is not None]
    whole = [node["Relation Name"] for node in _nodes(found[0]["Plan"]) if _is_whole(node)]
    return min(one["Planning Time"] for one in found), min(one["Execution Time"] for one in found), whole


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _is_whole(node: dict[str, Any]) -> bool:
    read = node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)
    return bool(node["Node Type"] == "Seq Scan" and read > _LARGE)


def _by_blocks(query: str) -> str:
    """A question about ``block_time`` as one about ``block_number``, which every index of a table goes on with."""
    since = re.sub(
        r"block_time > (now\(\) - interval '[^']+')", rf"block_number > gapless.block_at({CHAIN_ID}, \1)", query
    ).replace("WHERE", f"WHERE chain_id = {CHAIN_ID} AND")
    return since.replace("ORDER BY block_time DESC", "ORDER BY block_number DESC, log_index DESC")


def time_questions() -> Iterator[tuple[str, str, str]]:
    """Questions about time: what is asked, by time, and by blocks."""
    contract = f"contract_address = '\\x{addresses()['gold'][2:]}'"
    day, week = ("block_time > now() - interval '1 day'", "block_time > now() - interval '7 days'")
    newest = "ORDER BY block_time DESC LIMIT 10"
    for name, query in (
        ("newest ten", f"SELECT * FROM coins.transfer WHERE true {newest}"),
        ("last day: newest ten", f"SELECT * FROM coins.transfer WHERE {day} {newest}"),
        ("last day: sums", f"SELECT count(*), sum(value) FROM coins.transfer WHERE {day}"),
        ("contract, last week: newest ten", f"SELECT * FROM coins.transfer WHERE {contract} AND {week} {newest}"),
        ("contract, last week: sums", f"SELECT count(*), sum(value) FROM coins.transfer WHERE {contract} AND {week}"),
    ):
        yield name, query, _by_blocks(query)


def time_indexes(connection: psycopg.Connection[Any]) -> Iterator[tuple[str, float, str, float]]:
    """What an index on time costs and gives: name, CPU of writing as a multiple, size, CPU ms of "the last day".

    CPU times of the server's process: other work on the machine makes them little longer.
    """
    process = psutil.Process(connection.info.backend_pid)

    def cpu(statement: str) -> float:
        before = process.cpu_times()
        connection.execute(statement.encode())
        after = process.cpu_times()
        return float(after.user + after.system - before.user - before.system)

    connection.execute("SET max_parallel_workers_per_gather = 0")
    connection.execute("CREATE TEMP TABLE some AS SELECT * FROM coins.transfer ORDER BY block_number DESC LIMIT 200000")
    written: dict[str, list[float]] = {name: [] for name in _TIME_INDEXES}
    for _ in range(_ROUNDS):
        for name, shape in _TIME_INDEXES.items():
            connection.execute("DROP TABLE IF EXISTS public.again")
            connection.execute("CREATE TABLE public.again (LIKE coins.transfer INCLUDING INDEXES EXCLUDING STATISTICS)")
            for (there,) in connection.execute(_BRIN_OF_AGAIN).fetchall():
                connection.execute(f"DROP INDEX public.{there}".encode())
            if shape:
                connection.execute(f"CREATE INDEX again_time ON public.again {shape}".encode())
            written[name].append(cpu("INSERT INTO public.again SELECT * FROM some ORDER BY block_number, log_index"))
    connection.execute("DROP TABLE public.again")
    for (there,) in connection.execute(_BRIN_OF_AGAIN.replace("public.again", "coins.transfer").encode()).fetchall():
        connection.execute(f"DROP INDEX coins.{there}".encode())
    for name, shape in _TIME_INDEXES.items():
        if shape:
            connection.execute(f"CREATE INDEX tried_time ON coins.transfer {shape}".encode())
        row = connection.execute("SELECT pg_size_pretty(pg_relation_size(to_regclass('coins.tried_time')))").fetchone()
        day = min(cpu(_LAST_DAY) for _ in range(_ROUNDS)) * 1000
        connection.execute("DROP INDEX IF EXISTS coins.tried_time")
        least = min(written[name]) / min(written["none"])
        yield name, least, str(row[0] or "") if row else "", day


_LARGE = 100_000
_LAST_DAY = "SELECT count(*), sum(value) FROM coins.transfer WHERE block_time > now() - interval '1 day'"
_TIME_INDEXES = {
    "none": "",
    "BRIN": "USING brin (block_time, contract_address) WITH (pages_per_range = 32, autosummarize = on)",
    "B-tree": "(block_time)",
}
_BRIN_OF_AGAIN = """
SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
WHERE i.indrelid = 'public.again'::regclass AND m.amname = 'brin'
"""


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.analysts", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help=f"of coins.transfer (default {ROWS:,})")
    parser.add_argument("--holders", type=int, default=HOLDERS, help=f"accounts (default {HOLDERS:,})")
    parser.add_argument("--time-indexes", action="store_true", help="measure indexes on block_time instead")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="gapless-bench-") as folder,
        embedded.postgres(Path(folder)) as server,
        demo_tables(server, _SUMS) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        fill(connection, arguments.rows, arguments.holders)
        if arguments.time_indexes:
            print(f"{'index':8} {'writing':>8} {'size':>10} {'last day, CPU ms':>17}")
            for name, writing, size, day in time_indexes(connection):
                print(f"{name:8} {writing:7.2f}x {size:>10} {day:17.0f}", flush=True)
            return 0
        fill_days(connection)
        print(f"{'query':60} {'plan ms':>8} {'run ms':>9}  reads whole")
        for name, query in queries():
            planned, ran, whole = explain(connection, query)
            print(f"{name[:60]:60} {planned:8.1f} {ran:9.1f}  {', '.join(whole)}", flush=True)
        print(f"{'question about time':60} {'by time':>8} {'by blocks':>9}")
        for name, by_time, by_blocks in time_questions():
            slow, fast = explain(connection, by_time)[1], explain(connection, by_blocks)[1]
            print(f"{name:60} {slow:8.1f} {fast:9.2f}", flush=True)
        slow, fast = sums_by_day(url, connection)
        print(f"{'sums by day and token, last week':60} {slow:8.1f} {fast:9.2f}  of a derived table")
    return 0


if __name__ == "__main__":
    sys.exit(main())
