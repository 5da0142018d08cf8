"""Balances of one chain: ledgers that lag behind are taken further through history.

Once a ledger has reached the tip, the follower takes it on in its own transactions, and there is nothing left to do
here until it lags again.
"""

import logging
import threading

from sqlalchemy.engine import Engine

from indexer.store.catalog import ledgers
from indexer.store.catalog.version import CatalogChangedError
from indexer.store.tokens import balances
from indexer.store.tokens.balances import STEP_ROWS

log = logging.getLogger(__name__)


def catch_up(engine: Engine, chain_id: int, *, stop: threading.Event | None = None, step_rows: int = STEP_ROWS) -> int:
    """Takes all ledgers of a chain as far as their transfers are covered, in short transactions.

    Any number of processes may do so at once: each ledger is worked on by one of them.

    Args:
        engine: the database.
        chain_id: the chain.
        stop: ends it after the step at hand when set.
        step_rows: about how many logs are counted in one transaction.

    Returns:
        How many steps were taken that led further.

    Raises:
        sqlalchemy.exc.DBAPIError: Postgres could not be used; what was done in earlier steps stays.
    """
    stop = stop or threading.Event()
    steps = 0
    with engine.connect() as connection:
        # Only those: the follower passes over a ledger that it finds locked.
        waiting = [ledger for ledger in ledgers.load(connection, chain_id) if balances.lags(connection, ledger)]
    while waiting and not stop.is_set():
        ledger = waiting.pop(0)
        try:
            with engine.begin() as connection:
                step = balances.advance(connection, chain_id, ledger.ledger_id, rows=step_rows)
        except CatalogChangedError:
            break  # the next beat looks at all ledgers anew
        if step is None:
            continue
        if step.restarted:
            log.warning(
                "balances of %s are built anew: blocks that were counted are not covered any more", step.contract
            )
            continue
        steps += step.counted
        # The others take their turns: a long history holds up no short one.
        if not step.is_last:
            waiting.append(ledger)
    while not stop.is_set():
        with engine.begin() as connection:
            if ledgers.sweep(connection) == 0:
                break
    return steps
