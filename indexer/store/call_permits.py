"""The ceiling of an endpoint's calls a second, kept by all processes of a deployment together.

A row for each endpoint says which calls may start when, as far as a second counts. A process that wants to ask
reserves the next free moment, by Postgres' clock, in one short statement outside of any other transaction, and waits
for it. A reservation that its process never uses is lost; no process waits for another.

Where Postgres cannot be reached, a process keeps a share of the ceiling by itself until it can.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from indexer.store.database import create_engine, process_name

log = logging.getLogger(__name__)

SECOND: Final = 1.05
"""The second in which the ceiling holds, with what the way to the node may stretch or squeeze."""

SHARE: Final = 8
"""A process that cannot ask Postgres keeps one part of so many: as many processes together keep the ceiling."""

ASK_AGAIN_AFTER: Final = 5.0
"""Seconds until Postgres is asked again after it could not be reached."""

# The next start: not before now, not before the calls of the last one are paid for, and not before the second is over
# in which there would be too many. What lies far in the future was written before the clock was put back.
_TAKE: Final = sa.text("""
INSERT INTO gapless.call_permits AS p (endpoint, starts_at, calls)
VALUES (:endpoint, ARRAY[clock_timestamp()], ARRAY[CAST(:calls AS integer)])
ON CONFLICT (endpoint) DO UPDATE SET (starts_at, calls) = (
    WITH kept AS (
        SELECT s, n, place, sum(n) OVER (ORDER BY place DESC) AS since
        FROM unnest(p.starts_at, p.calls) WITH ORDINALITY AS r (s, n, place)
        WHERE s < clock_timestamp() + interval '5 minutes'
    ), next AS (
        SELECT greatest(
            clock_timestamp(),
            max(s + make_interval(secs => n / CAST(:ceiling AS float8))),
            max(s + make_interval(secs => :second)) FILTER (WHERE since + :calls > :ceiling)
        ) AS start
        FROM kept
    )
    SELECT coalesce(array_agg(s ORDER BY place) FILTER (WHERE s > start - make_interval(secs => :second)), '{}')
               || max(start),
           coalesce(array_agg(n ORDER BY place) FILTER (WHERE s > start - make_interval(secs => :second)), '{}')
               || CAST(:calls AS integer)
    FROM next LEFT JOIN kept ON true
)
RETURNING extract(epoch FROM starts_at[cardinality(starts_at)] - clock_timestamp())::float8
""")


class PostgresPermits:
    """One endpoint's ceiling. Thread-safe.

    Args:
        engine: the database; asked by a connection of its own, since others may all wait for nodes.
        endpoint: a name that all processes give it, without secrets.
        ceiling: the most calls that all processes may make in a second.
        clock: seconds that only grow.
    """

    def __init__(
        self, engine: Engine, endpoint: str, ceiling: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = create_engine(
            engine.url.render_as_string(hide_password=False), application_name=process_name("gapless"), pool_size=1
        ).execution_options(isolation_level="AUTOCOMMIT")
        self._endpoint = endpoint
        self._ceiling = ceiling
        self._clock = clock
        self._guard = threading.Lock()
        self._ask_at = self._free_at = float("-inf")
        self._is_alone = False
        self._share = SHARE

    def take(self, calls: int) -> float:
        """Reserves the next moment at which so many calls may start.

        Returns:
            The seconds until then; 0 or less: now.
        """
        with self._guard:
            if self._clock() < self._ask_at:
                return self._alone(calls)
            try:
                with self._engine.connect() as connection:
                    wait: float = connection.execute(_TAKE, self._values(calls)).scalar_one()
            except sa.exc.DBAPIError as error:
                self._ask_at = self._clock() + ASK_AGAIN_AFTER
                self._told(error)
                return self._alone(calls)
            if self._is_alone:
                self._is_alone = False
                log.info("%s: its ceiling is shared by all processes again", self._endpoint)
            return wait

    def close(self) -> None:
        """Closes the connection; it is opened again where it is needed."""
        self._engine.dispose()

    def _values(self, calls: int) -> dict[str, object]:
        return {"endpoint": self._endpoint, "calls": calls, "ceiling": self._ceiling, "second": SECOND}

    def _told(self, error: sa.exc.DBAPIError) -> None:
        # A database that has not been migrated serves no other process.
        self._share = 1 if isinstance(error.orig, psycopg.errors.UndefinedTable) else SHARE
        if self._share > 1 and not self._is_alone:
            self._is_alone = True
            lines = str(error.orig).strip().splitlines()
            log.warning(
                "%s: Postgres does not tell what other processes ask of it (%s): this one makes at most %.2g calls a "
                "second, an eighth of requests_per_second, until it does",
                *(self._endpoint, lines[0] if lines else type(error.orig).__name__, self._ceiling / SHARE),
            )

    def _alone(self, calls: int) -> float:
        now = self._clock()
        start = max(now, self._free_at)
        self._free_at = start + calls * self._share / self._ceiling
        return start - now
