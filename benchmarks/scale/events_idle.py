"""Thousands of events whose history is whole: what the jobs cost that look, again and again, and find nothing to do."""

import threading
from typing import cast

from benchmarks.scale import Row
from benchmarks.scale._head import CHAIN_ID, followed
from benchmarks.scale._setup import cpu_ms
from indexer.chain.client import ChainClient
from indexer.store import status
from indexer.store.rows import indexes
from indexer.sync.history.backfill import Backfill
from indexer.sync.history.transactions import Includer
from indexer.sync.tokens import balances

_EVENTS, _FEW_EVENTS = 4000, 200
_LOOKS = 10


def measure(server_url: str, *, small: bool) -> Row:
    """The CPU time of one beat of each job, and of one scrape of the figures, in ms.

    Most come every three seconds: at 100 they are 0.03 of a core. The index builder's is one while no index changes;
    it compares all of them with the catalog after a change, and every few minutes.
    """
    events = _FEW_EVENTS if small else _EVENTS
    with followed(server_url, events) as chain:
        chain.extend()
        engine, stop, none = chain.engine, threading.Event(), cast(ChainClient, None)
        builder = indexes.Builder(engine)

        def beat() -> None:
            done = Backfill(engine, none, CHAIN_ID).run().blocks
            done += (
                Includer(engine, none, CHAIN_ID, stop).run() + balances.catch_up(engine, CHAIN_ID) + builder.run(stop)
            )
            with engine.begin() as connection:
                done += sum(status.load_gauges(connection).missing.values())
            if done:
                raise AssertionError("there is nothing to do")

        took = cpu_ms(engine, beat, _LOOKS)
    return Row(f"{events:,} events: one beat of the jobs that find nothing to do", took, 100, "ms CPU")
