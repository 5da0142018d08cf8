"""Ending the sessions of processes of ours that are frozen, or whose machine is gone, while they copy rows.

A session that waits for its client between two statements of a transaction is ended by Postgres itself
(``idle_in_transaction_session_timeout``, :mod:`indexer.store.database`). Within a COPY no time-out of Postgres counts,
and the locks of the transaction would hold up others for as long as its client sends nothing.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Engine

log = logging.getLogger(__name__)

ENDED_AFTER: Final = 6.0
"""Seconds in which a session that copies rows has not got a byte."""

_COPYING: Final = sa.text("""
    SELECT s.pid, s.application_name, s.query_start, coalesce(c.bytes_processed, 0) AS bytes
    FROM pg_stat_activity s LEFT JOIN pg_stat_progress_copy c USING (pid)
    WHERE s.datname = current_database() AND s.usename = current_user AND s.application_name LIKE '%gapless %'
      AND s.xact_start IS NOT NULL AND s.state = 'active' AND s.wait_event = 'ClientRead'
""")


class FrozenSessions:
    """Finds, look by look, the sessions whose client has stopped sending in the middle of a statement.

    Args:
        engine: the database; its user may end sessions of its own.
        clock: seconds that only grow.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._since: dict[tuple[object, ...], float] = {}

    def look(self) -> int:
        """Ends the sessions that have stood still since :data:`ENDED_AFTER` seconds ago; returns how many."""
        now = self._clock()
        with self._engine.connect() as connection:
            waiting = {tuple(row): row for row in connection.execute(_COPYING)}
            self._since = {key: self._since.get(key, now) for key in waiting}
            frozen = [row for key, row in waiting.items() if now - self._since[key] >= ENDED_AFTER]
            for row in frozen:
                connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 1000)"), {"pid": row.pid})
                log.warning(
                    "the session %d of %s has sent nothing for %.0f s within a statement, and was ended, since its "
                    "locks may hold up others: its process is frozen, or its machine is gone",
                    *(row.pid, row.application_name, now - self._since[tuple(row)]),
                )
        return len(frozen)
