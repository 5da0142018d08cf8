"""The days of endpoints in Postgres: what was counted is added, what may be spent is taken.

By short statements outside of any other transaction, none of which holds a lock while the process does something else:
a row is looked at, and changed if nobody has changed it meanwhile.
"""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final, Protocol

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from indexer.store.credits import budget as budgets
from indexer.store.credits.budget import CreditDay, Grant
from indexer.store.database import create_engine, process_name

log = logging.getLogger(__name__)

KEPT_DAYS: Final = 400
"""Days that are kept."""

SAVE_EVERY: Final = 5.0
"""Seconds for which what was sent is counted in memory alone: so much is lost with a process that is killed."""

# So often is a row looked at anew that others changed meanwhile.
_LOOKS = 20

_COUNT: Final = sa.text("""
INSERT INTO gapless.credit_days AS c
    (chain_id, endpoint, day, position, budget, head, history, price, currency, since, history_from)
SELECT chain_id, endpoint, day, position, budget, head, history, price, currency, to_timestamp(:now), to_timestamp(:now)
FROM unnest(CAST(:chain_id AS bigint[]), CAST(:endpoint AS text[]), CAST(:day AS date[]), CAST(:position AS integer[]),
            CAST(:budget AS bigint[]), CAST(:head AS bigint[]), CAST(:history AS bigint[]), CAST(:price AS numeric[]),
            CAST(:currency AS text[]))
     AS n (chain_id, endpoint, day, position, budget, head, history, price, currency)
ORDER BY chain_id, endpoint, day
ON CONFLICT (chain_id, endpoint, day) DO UPDATE
SET head = greatest(c.head + excluded.head, 0), history = greatest(c.history + excluded.history, 0),
    position = excluded.position, budget = excluded.budget, price = excluded.price, currency = excluded.currency
""")
_FORGET: Final = sa.text("DELETE FROM gapless.credit_days WHERE day < :oldest")
_LOOK: Final = sa.text("""
SELECT c.head, c.history, extract(epoch FROM c.since)::float8 AS since, c.pace,
       extract(epoch FROM c.history_from)::float8 AS history_from,
       (SELECT y.head / greatest(extract(epoch FROM CAST(:day AS date) - (y.since AT TIME ZONE 'UTC')), 3600)
        FROM gapless.credit_days y
        WHERE y.chain_id = c.chain_id AND y.endpoint = c.endpoint AND y.day = CAST(:day AS date) - 1)::float8 AS before
FROM gapless.credit_days c WHERE c.chain_id = :chain_id AND c.endpoint = :endpoint AND c.day = :day
""")
_TAKE: Final = sa.text("""
UPDATE gapless.credit_days
SET head = head + :more_head, history = history + :more_history, pace = :pace,
    history_from = to_timestamp(:history_from), budget = :budget
WHERE chain_id = :chain_id AND endpoint = :endpoint AND day = :day AND head = :head AND history = :history
""")


def day_of(now: float) -> date:
    """The day (UTC) of a time."""
    return datetime.fromtimestamp(now, UTC).date()


@dataclass(frozen=True, slots=True)
class AccountKey:
    """Which endpoint it is, and what is noted of it.

    Attributes:
        chain_id: its chain.
        endpoint: a name that all processes give it, without secrets.
        position: its place among the chain's endpoints that are asked.
        budget: the credits of a day, or None.
        price: what a million credits cost, or None; in ``currency``.
    """

    chain_id: int
    endpoint: str
    position: int
    budget: int | None = None
    price: Decimal | None = None
    currency: str | None = None


class CountedEndpoint(Protocol):
    """What counts what is sent to an endpoint."""

    key: AccountKey

    def count(self, day: date, head: int, history: int) -> None:
        """Counts what was sent, to be saved."""

    def uncounted(self) -> list[tuple[date, int, int]]:
        """What was counted since the last time, by day: for all but history, and for history."""

    def settle(self) -> None:
        """Counts what was taken and not spent as given back."""


def is_missing(error: Exception) -> bool:
    """Whether there is nothing to count in: a database that has not been migrated."""
    return isinstance(getattr(error, "orig", None), psycopg.errors.UndefinedTable)


class CreditDays:
    """What a process knows of the days in one database. Thread-safe; see :func:`days_of`.

    Args:
        engine: the database; asked by a connection of its own, since others may all wait for nodes.
        clock: seconds since 1970.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = create_engine(
            engine.url.render_as_string(hide_password=False), application_name=process_name("gapless"), pool_size=1
        ).execution_options(isolation_level="AUTOCOMMIT")
        self.clock = clock
        self._guard = threading.Lock()
        self._open: weakref.WeakSet[CountedEndpoint] = weakref.WeakSet()
        self._days: set[date] = set()
        self._saved_at = clock()
        self._fails_until = float("-inf")

    def add(self, account: CountedEndpoint) -> None:
        """Saves what this account counts from now on."""
        with self._guard:
            self._open.add(account)

    def save_due(self) -> None:
        """Saves what was counted, when it is time to."""
        if not self._saved_at <= self.clock() < self._saved_at + SAVE_EVERY:  # nor where the clock was put back
            self.save()

    def save(self) -> None:
        """Saves what was counted; where that fails, it is done later."""
        with self._guard:
            now = self.clock()
            if now < self._fails_until <= now + SAVE_EVERY:
                return
            accounts, self._saved_at = list(self._open), now
        counts = [(account, *count) for account in accounts for count in account.uncounted()]
        if not counts:
            return
        try:
            with self._engine.connect() as connection:
                self._count(connection, [(one.key, day, head, history) for one, day, head, history in counts])
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            if is_missing(error):
                return
            log.debug("credits are counted later: %s", type(error).__name__)
            self._fails_until = self.clock() + SAVE_EVERY
            for account, day, head, history in counts:
                account.count(day, head, history)

    def take(self, key: AccountKey, day: date, cost: int, wanted: int, owed: int, *, history: bool) -> Grant | None:
        """Takes credits of a day.

        Args:
            key: the account.
            day: today.
            cost: what the next request costs.
            wanted: what would do for a while.
            owed: what was spent before it could be counted.
            history: it is for history.

        Returns:
            What is given; None: others took at the same time, again and again.

        Raises:
            sqlalchemy.exc.DBAPIError: Postgres could not be asked.
        """
        budget = key.budget or 0
        values = {"chain_id": key.chain_id, "endpoint": key.endpoint, "day": day, "budget": budget}
        with self._engine.connect() as connection:
            for _ in range(_LOOKS):
                row = connection.execute(_LOOK, values).one_or_none()
                if row is None:
                    self._count(connection, [(key, day, 0, 0)])
                    continue
                now, start = self.clock(), datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
                known = CreditDay(start, row.since, row.head + owed, row.history, row.history_from, row.before)
                if history:
                    grant = budgets.for_history(known, budget, cost, wanted, now)
                else:
                    grant = budgets.for_head(known, budget, cost, wanted, now, row.pace)
                if not grant.credits and not owed and grant.pace == row.pace:
                    return grant
                changed = {
                    "head": row.head,
                    "history": row.history,
                    "more_head": owed + (0 if history else grant.credits),
                    "more_history": grant.credits if history else 0,
                    "pace": grant.pace,
                    "history_from": grant.history_from,
                }
                if connection.execute(_TAKE, values | changed).rowcount:
                    return grant
        return None

    def close(self) -> None:
        """Gives back what was not spent, saves, and closes the connection; it is opened again where it is needed."""
        with self._guard:
            accounts = list(self._open)
        for account in accounts:
            account.settle()
        self.save()
        self._engine.dispose()

    def _count(self, connection: Connection, counts: Iterable[tuple[AccountKey, date, int, int]]) -> None:
        rows = list(counts)
        columns: dict[str, Sequence[object]] = {
            name: [getattr(key, name) for key, *_ in rows]
            for name in ("chain_id", "endpoint", "position", "budget", "price", "currency")
        }
        for place, name in enumerate(("day", "head", "history"), start=1):
            columns[name] = [row[place] for row in rows]
        connection.execute(_COUNT, {**columns, "now": self.clock()})
        today = max(day for _, day, *_ in rows)
        if today not in self._days:
            self._days = {today}
            connection.execute(_FORGET, {"oldest": today - timedelta(days=KEPT_DAYS)})


_of: "weakref.WeakKeyDictionary[Engine, CreditDays]" = weakref.WeakKeyDictionary()
_opening = threading.Lock()


def days_of(engine: Engine) -> CreditDays:
    """What this process knows of the days in a database."""
    with _opening:
        if engine not in _of:
            _of[engine] = CreditDays(engine)
        return _of[engine]
