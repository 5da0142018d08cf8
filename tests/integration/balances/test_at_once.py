"""Balances while several change them at once."""

from __future__ import annotations

import threading

import pytest

from indexer.store.catalog import ledgers
from indexer.store.tokens.balances import advance, rewriting
from indexer.sync.tokens import balances
from tests.integration.balances import oracle

WAIT = 30.0


@pytest.mark.promise("B-03")
def test_a_ledger_that_is_begun_anew_while_rows_wait_for_the_old_one(indexed, history):
    chain_id = indexed.chain.chain_id
    ((event_id,),) = indexed.query("SELECT event_ids[1] FROM gapless.ledgers WHERE id = 1")
    waited, go_on = threading.Event(), threading.Event()

    def rewrite() -> None:
        with indexed.engine.begin() as connection, rewriting(connection, chain_id, [event_id], ((1, 5),)):
            waited.set()
            assert go_on.wait(WAIT)

    repair = threading.Thread(target=rewrite)
    with indexed.engine.begin() as connection:
        (old,) = [one for one in ledgers.lock(connection, chain_id) if one.ledger_id == 1]
        ledgers.restart(connection, old, "an audit found it wrong: it is built anew")
        repair.start()
        until_somebody_waits(indexed)
    assert waited.wait(WAIT)
    ((new,),) = indexed.query("SELECT id FROM gapless.ledgers WHERE NOT served")
    with indexed.engine.begin() as connection:
        advance(connection, chain_id, new, rows=7)
    go_on.set()
    repair.join(WAIT)
    balances.catch_up(indexed.engine, chain_id)
    assert oracle.kept(indexed) == oracle.on_chain(history.world)


def until_somebody_waits(one) -> None:
    for _ in range(10_000):
        if one.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            return
    raise AssertionError("nobody waits")
