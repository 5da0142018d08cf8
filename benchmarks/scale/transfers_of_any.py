"""``gapless.transfers`` over contracts of any address, all of whose logs may be in every one of their tables."""

import time

import sqlalchemy as sa
from psycopg import sql

from benchmarks.scale import Row
from benchmarks.scale._setup import TOKEN, applied
from indexer.store.database import psycopg_connection
from indexer.store.tokens import transfers

_CONTRACT = """
[contracts.any_{number}]
abi = "token.json"
address = "any"
start_block = 1
events = ["Transfer"]
"""
_MANY, _FEW = 200, 5
_ROUNDS = 9
_ASKED = "EXPLAIN SELECT * FROM {} WHERE chain_id = 1 AND token = '\\x01'"


def measure(server_url: str, *, small: bool) -> Row:
    """The time that planning a question about a token takes, as a multiple of a plain union of the same tables."""
    contracts = _FEW if small else _MANY
    manifest = '[chains.bench]\nid = 1\nrpc = ["${RPC_URL}"]\n' + "".join(
        _CONTRACT.format(number=number) for number in range(contracts)
    )
    took: dict[str, list[float]] = {"gapless.transfers": [], "plain": []}
    with applied(server_url, manifest, {"token.json": TOKEN}) as engine, engine.connect() as connection:
        plain = sql.SQL(" UNION ALL ").join(transfers.select(one) for one in transfers.load(connection))
        psycopg_connection(connection).execute(sql.SQL("CREATE VIEW plain AS {}").format(plain))
        for _ in range(_ROUNDS):
            for view, times in took.items():
                started = time.perf_counter()
                connection.execute(sa.text(_ASKED.format(view)))
                times.append(time.perf_counter() - started)
    best, least = (min(times) for times in took.values())
    name = f"planning gapless.transfers of {contracts} contracts of any address ({best * 1000:.0f} ms)"
    return Row(name, best / least, 1.3, "of a union")
