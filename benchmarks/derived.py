"""Derived tables on rows of transfers: ``python -m benchmarks.derived [--rows 1000000]``.

Makes the demo's tables without its chain and fills ``coins.transfer``. History: an aggregate with the folds of a candle
is counted in steps, beside the same rows by one hand-written INSERT ... SELECT; the least of several rounds. The
head: what ten derived tables add to the transaction of a block.
"""

import argparse
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import psutil
import psycopg
from psycopg import sql
from sqlalchemy.engine import Engine

from benchmarks.analysts import CHAIN_ID, demo_tables, fill
from indexer.store import embedded
from indexer.store.catalog.catalog import load_sources
from indexer.store.database import create_engine, psycopg_connection
from indexer.store.derived import counting, generations, recount, steps, views
from indexer.sync.history import derived_history

ROUNDS: Final = 3
#: Blocks whose counting is timed at the head, and rows of each.
HEAD_BLOCKS: Final = 50
HEAD_ROWS: Final = 100

RULE: Final = """
[derived.{name}]
from = "coins.Transfer"
key = {{ coin = "contract_address", {by} }}
count = "transfers"
sum = {{ volume = "value" }}
min = {{ low = "value" }}
max = {{ high = "value" }}
first = {{ open = "value" }}
last = {{ close = "value" }}
"""
BY_HAND: Final = """
INSERT INTO by_hand SELECT chain_id, contract_address, gapless.hour(block_time), count(*), sum(value), min(value),
       max(value), (array_agg(value ORDER BY block_number, log_index))[1],
       (array_agg(value ORDER BY block_number DESC, log_index DESC))[1]
FROM coins.transfer GROUP BY 1, 2, 3
"""


USERS: Final = """
[derived.coin_user]
from = "coins.Transfer"
key = { coin = "contract_address", holder = "to_address", hour = "gapless.hour(block_time)" }
count = "transfers"
stored = false

[derived.users]
from = "coin_user"
key = ["coin", "hour"]
count = "users"
"""
USERS_BY_HAND: Final = """
WITH one AS (
    INSERT INTO user_by_hand SELECT chain_id, contract_address, to_address, gapless.hour(block_time), count(*)
    FROM coins.transfer GROUP BY 1, 2, 3, 4 RETURNING chain_id, coin, hour
)
INSERT INTO users_by_hand SELECT chain_id, coin, hour, count(*) FROM one GROUP BY 1, 2, 3
"""


def rules(count: int) -> str:
    """The rule of hourly candles, as many more as are wanted, and users by the hour: an aggregate over an aggregate."""
    texts = [USERS, RULE.format(name="candle", by='hour = "gapless.hour(block_time)"')]
    texts += [RULE.format(name=f"other{at}", by=f'part = "block_number / {1000 + at}"') for at in range(1, count)]
    return "".join(texts)


def count(engine: Engine, derived_id: int) -> None:
    """Counts one derived table as far as there are rows."""
    done = None
    while done is None or not done.is_last:
        with engine.begin() as connection:
            done = steps.advance(connection, CHAIN_ID, derived_id)


def history(engine: Engine, connection: psycopg.Connection[Any], rows: int) -> tuple[float, float]:
    """Seconds of the steps of one derived table, and of the statement by hand."""
    connection.execute(
        "CREATE TABLE by_hand (chain_id bigint, coin bytea, hour timestamptz, n bigint, volume numeric, low numeric, "
        "high numeric, open numeric, close numeric, PRIMARY KEY (chain_id, coin, hour))"
    )
    taken, by_hand = _both(engine, connection, "candle", "by_hand", BY_HAND)
    row = connection.execute(
        "SELECT (SELECT sum(transfers) FROM derived.candle), (SELECT count(*) FROM (SELECT coin, hour, transfers, "
        "volume, low, high, open, close FROM derived.candle EXCEPT SELECT coin, hour, n, volume, low, high, open, "
        "close FROM by_hand) other)"
    ).fetchone()
    assert row == (rows, 0), row  # wrong rows are not timed
    return taken, by_hand


def users(engine: Engine, connection: psycopg.Connection[Any]) -> tuple[float, float]:
    """The same of the users by the hour, both with a row for each user, which must be kept to count new ones."""
    connection.execute(
        "CREATE TABLE user_by_hand (chain_id bigint, coin bytea, holder bytea, hour timestamptz, n bigint, "
        "PRIMARY KEY (chain_id, coin, holder, hour))"
    )
    connection.execute(
        "CREATE TABLE users_by_hand (chain_id bigint, coin bytea, hour timestamptz, users bigint, "
        "PRIMARY KEY (chain_id, coin, hour))"
    )
    taken, by_hand = _both(engine, connection, "users", "user_by_hand, users_by_hand", USERS_BY_HAND)
    row = connection.execute(
        "SELECT (SELECT count(*) FROM derived.users) = (SELECT count(*) FROM users_by_hand), "
        "(SELECT count(*) FROM (SELECT * FROM derived.users EXCEPT SELECT * FROM users_by_hand) other)"
    ).fetchone()
    assert row == (True, 0), row
    return taken, by_hand


def _both(
    engine: Engine, connection: psycopg.Connection[Any], name: str, tables: str, statement: str
) -> tuple[float, float]:
    taken, by_hand = [], []
    for _ in range(ROUNDS):
        with engine.begin() as writing:
            (one,) = generations.progress(writing, CHAIN_ID, f"d.name = '{name}'")
            recount.rebuild(writing, CHAIN_ID, one.generation.derived_id)
        for part in one.generation.identifiers:
            connection.execute(sql.SQL("VACUUM {}").format(part))
        began = perf_counter()
        count(engine, one.generation.derived_id)
        taken.append(perf_counter() - began)
        connection.execute(f"TRUNCATE {tables}")
        began = perf_counter()
        connection.execute(statement)
        by_hand.append(perf_counter() - began)
    return min(taken), min(by_hand)


_NEW_ROWS: Final = """
INSERT INTO coins.transfer (chain_id, block_number, block_time, tx_hash, tx_index, log_index, contract_address,
                            from_address, to_address, value)
SELECT chain_id, %(block)s, now(), tx_hash, n, n, contract_address, from_address, to_address, value
FROM (SELECT t.*, row_number() OVER () AS n FROM coins.transfer t WHERE chain_id = %(chain)s AND block_number <= 100
      LIMIT %(rows)s) t
"""


def head(engine: Engine, tip: int) -> tuple[float, float, float]:
    """What counting adds to the transaction of a block, in ms: the least and the middle, and CPU time of both sides."""
    took, used = [], 0.0
    with engine.connect() as connection:
        (event,) = connection.exec_driver_sql(
            "SELECT e.id FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id "
            "WHERE c.name = 'coins' AND e.name = 'Transfer'"
        ).scalars()
        sources = load_sources(connection, CHAIN_ID)
    for block in range(tip + 1, tip + 1 + HEAD_BLOCKS):
        with engine.begin() as connection:
            values = {"block": block, "chain": CHAIN_ID, "rows": HEAD_ROWS}
            connection.exec_driver_sql(_NEW_ROWS, values)
            both = [psutil.Process(), psutil.Process(psycopg_connection(connection).info.backend_pid)]
            began, before = perf_counter(), _cpu(both)
            counting.extend(connection, CHAIN_ID, (block, block), sources, [event])
            took.append(perf_counter() - began)
            used += _cpu(both) - before
    return 1000 * min(took), 1000 * sorted(took)[len(took) // 2], 1000 * used / HEAD_BLOCKS


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.derived", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of coins.transfer (default 1,000,000)")
    rows = parser.parse_args().rows
    with (
        tempfile.TemporaryDirectory(prefix="gapless-bench-") as folder,
        embedded.postgres(Path(folder)) as server,
        demo_tables(server, rules(10)) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        fill(connection, rows)
        engine = create_engine(url)
        taken, by_hand = history(engine, connection, rows)
        print(f"history: {rows:,} rows, {rows / taken:,.0f} rows/s; by hand {rows / by_hand:,.0f} rows/s; ", end="")
        print(f"{by_hand / taken:.2f} of it")
        taken, by_hand = users(engine, connection)
        print(f"users by the hour, from a row for each: {rows / taken:,.0f} rows/s; ", end="")
        print(f"counted by hand {rows / by_hand:,.0f} rows/s; {by_hand / taken:.2f} of it")
        derived_history.catch_up(engine, CHAIN_ID)
        with engine.begin() as writing:
            views.drop(writing, "users")
        least, middle, used = head(engine, rows // 4)
        print(f"head: {least:.1f} ms a block of {HEAD_ROWS} rows, ten derived tables; ", end="")
        print(f"in the middle {middle:.1f} ms, {used:.1f} ms of CPU time")
        engine.dispose()


if __name__ == "__main__":
    main()
