"""History of derived tables: those that lag behind the rows of events are counted further, in short transactions.

Once a derived table has come to the tip, the follower counts new blocks in its own transactions, and there is nothing
left to do here until it lags again.
"""

import logging
import threading

from sqlalchemy.engine import Engine

from indexer.store.catalog.version import CatalogChangedError
from indexer.store.derived import generations, steps
from indexer.store.derived.steps import STEP_ROWS

log = logging.getLogger(__name__)


def catch_up(engine: Engine, chain_id: int, *, stop: threading.Event | None = None, step_rows: int = STEP_ROWS) -> int:
    """Counts all derived tables of a chain as far as what they read is covered, and serves builds that are complete.

    Any number of processes may do so at once: each build is worked on by one of them.

    Args:
        engine: the database.
        chain_id: the chain.
        stop: ends it after the step at hand when set.
        step_rows: about how many rows are counted in one transaction.

    Returns:
        How many blocks were counted, of all derived tables together.

    Raises:
        sqlalchemy.exc.DBAPIError: Postgres could not be used; what was done in earlier steps stays.
        BusyError: a build cannot be served: what it replaces is read all the time.
    """
    stop = stop or threading.Event()
    with engine.connect() as connection:
        if not generations.is_any(connection, chain_id):
            return 0
        waiting = [one.generation.derived_id for one in steps.waiting(connection, chain_id)]
    blocks = 0
    while waiting and not stop.is_set():
        derived_id = waiting.pop(0)
        try:
            with engine.begin() as connection:
                step = steps.advance(connection, chain_id, derived_id, rows=step_rows)
        except CatalogChangedError:
            break  # the next beat looks at all of them anew
        if step is None:
            continue
        blocks += step.blocks
        if step.problem is not None:
            log.error("derived table %s is counted no further on chain %d: %s", step.name, chain_id, step.problem)
        # The others take their turns: a long history holds up no short one.
        if not step.is_last:
            waiting.append(derived_id)
    for name in steps.serve_caught_up(engine):
        log.info("derived table %s: its new build is served", name)
    return blocks
