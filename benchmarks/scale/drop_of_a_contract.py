"""A contract with thousands of tables dropped, while others write: in bounded steps, none of which holds them up."""

import threading
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from benchmarks.scale import Row
from benchmarks.scale._setup import applied, declared
from indexer.store.apply import drop
from indexer.store.apply.apply import apply
from indexer.store.catalog.version import CatalogChangedError, load_version, writing_by

_CHAIN = '[chains.bench]\nid = 1\nrpc = ["${RPC_URL}"]\n'
_KEPT = f'[contracts.kept]\nabi = "kept.json"\naddress = "0x{1:040x}"\nstart_block = 1\n'
_DROPPED = f'[contracts.dropped]\nabi = "dropped.json"\naddress = "0x{2:040x}"\nstart_block = 1\n'
_TABLES, _FEW_TABLES = 3000, 120


def _event(number: int) -> dict[str, Any]:
    inputs = [{"name": "who", "type": "address", "indexed": True}, {"name": "amount", "type": "uint256"}]
    return {"type": "event", "name": f"Said{number}", "anonymous": False, "inputs": inputs}


def measure(server_url: str, *, small: bool) -> Row:
    """The longest time, in ms, that a transaction takes meanwhile that writes by the catalog as a new block does."""
    tables = _FEW_TABLES if small else _TABLES
    kept = {"kept.json": [_event(0)]}
    everything = {**kept, "dropped.json": [_event(number) for number in range(tables)]}
    with applied(server_url, _CHAIN + _KEPT + _DROPPED, everything) as engine:
        apply(engine, declared(_CHAIN + _KEPT, kept))
        with engine.connect() as connection:
            (given,) = drop.find(connection, "dropped")
        times, stop = [0.0], threading.Event()
        writer = threading.Thread(target=_write, args=(engine, stop, times))
        writer.start()
        try:
            drop.drop(engine, given)
        finally:
            stop.set()
            writer.join()
        with engine.connect() as connection:
            if drop.find(connection, "dropped"):
                raise AssertionError("it is still there")
    return Row(f"a write while a contract of {tables:,} tables is dropped", max(times) * 1000, 1000, "ms at most")


def _write(engine: Engine, stop: threading.Event, times: list[float]) -> None:
    while not stop.wait(0.01):
        started = time.perf_counter()
        try:
            with engine.begin() as connection, writing_by(connection, load_version(connection)):
                connection.execute(sa.text("UPDATE gapless.chains SET updated_at = now()"))
        except CatalogChangedError:
            pass  # as a follower, which plans again
        times.append(time.perf_counter() - started)
