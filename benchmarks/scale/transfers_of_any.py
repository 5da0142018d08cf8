"""``gapless.transfers`` over contracts of any address, all of whose logs may be in every one of their tables."""

import time

import sqlalchemy as sa

from benchmarks.scale import Row
from benchmarks.scale._setup import TOKEN, applied

_CONTRACT = """
[contracts.any_{number}]
abi = "token.json"
address = "any"
start_block = 1
events = ["Transfer"]
"""
_MANY, _FEW = 200, 5
_ASKED = "EXPLAIN SELECT * FROM gapless.transfers WHERE chain_id = 1 AND token = '\\x01'"


def measure(server_url: str, *, small: bool) -> Row:
    """The time that Postgres takes to plan a question about a token, in ms, the best of five."""
    contracts = _FEW if small else _MANY
    manifest = '[chains.bench]\nid = 1\nrpc = ["${RPC_URL}"]\n' + "".join(
        _CONTRACT.format(number=number) for number in range(contracts)
    )
    took = []
    with applied(server_url, manifest, {"token.json": TOKEN}) as engine, engine.connect() as connection:
        for _ in range(5):
            started = time.perf_counter()
            connection.execute(sa.text(_ASKED))
            took.append(time.perf_counter() - started)
    return Row(f"planning gapless.transfers of {contracts} contracts of any address", min(took) * 1000, 50, "ms")
