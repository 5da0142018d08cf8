"""What the index on ``tx_hash``, which every event table has by default, costs a writer of rows."""

import sqlalchemy as sa

from benchmarks.measure import PostgresCpu
from benchmarks.scale import Row
from benchmarks.scale._setup import applied, psycopg_url
from benchmarks.scale.token_discovery import ABIS

MANIFEST = """
[chains.bench]
id = 1
rpc = ["${RPC_URL}"]

[contracts.found]
abi = "erc20.json"
address = "0x00000000000000000000000000000000000000f1"
start_block = 1

[contracts.bare]
abi = "erc20.json"
address = "0x00000000000000000000000000000000000000f2"
start_block = 1
tx_hash_index = false
"""
_PARTS, _FEW_PARTS = 10, 1
#: Rows of one transaction of the writer.
_ROWS = 10_000
#: Rows of one transaction of the chain.
_OF_ONE = 3


def measure(server_url: str, *, small: bool) -> Row:
    """Postgres' CPU for rows with the index, to that for the same rows without it; the arguments' indexes are there."""
    parts = _FEW_PARTS if small else _PARTS
    taken = {"found": 0.0, "bare": 0.0}
    with applied(server_url, MANIFEST, ABIS) as engine:
        with engine.begin() as connection:
            connection.execute(sa.text(_MADE), {"last": parts * _ROWS - 1, "of_one": _OF_ONE})
        postgres = PostgresCpu(psycopg_url(engine))
        for part in range(parts):
            for contract in taken:  # in turns: what else the machine does meets both
                before = postgres.cpu()
                with engine.begin() as connection:
                    connection.execute(
                        sa.text(_WRITTEN.format(contract)), {"begin": part * _ROWS, "end": (part + 1) * _ROWS}
                    )
                taken[contract] += postgres.cpu() - before
    ratio = taken["found"] / max(taken["bare"], 0.01)
    return Row(f"writing {parts * _ROWS:,} rows that are found by tx_hash", ratio, 1.6, "of without")


#: Beforehand, so that making the values up is no part of what is measured.
_MADE = """
CREATE UNLOGGED TABLE made AS
SELECT 1::bigint AS chain_id, n / 100 AS block_number, to_timestamp(n) AS block_time,
       decode(md5((n / :of_one)::text) || md5((-n / :of_one)::text), 'hex') AS tx_hash,
       0 AS tx_index, n % 100 AS log_index,
       decode(lpad('f1', 40, '0'), 'hex') AS address, decode(substr(md5(n::text) || md5(''), 1, 40), 'hex') AS sender,
       decode(substr(md5((n * 7)::text) || md5(''), 1, 40), 'hex') AS recipient, n
FROM generate_series(0, :last) n ORDER BY n
"""
_WRITTEN = "INSERT INTO {}.transfer SELECT * FROM made WHERE n >= :begin AND n < :end ORDER BY n"
