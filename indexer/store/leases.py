"""Leases, rights of one process at a time that end by themselves, and the sessions of processes that are frozen.

A lease is a row with a time at which it expires, judged by Postgres' clock alone. Nothing of it belongs to a session:
no connection is kept for it, a pooler between us and Postgres does no harm, and a holder that was killed, frozen or cut
off from the network loses it as surely as one that stopped.

States: *free* (no row, or one that has expired) -> *held* (renewed every :data:`RENEW_EVERY` seconds) -> *free*. A
holder trusts its lease for :data:`LASTS` seconds by its own clock after it *began* the last renewal, so that its trust
ends before the row expires. Between the two clocks nothing is safe by the lease alone: what writes must present
something that the next holder changes (:func:`indexer.store.head.state.fenced`).

The locks of a frozen process end by themselves too. A session that waits for its client between two statements of a
transaction is ended by Postgres (``idle_in_transaction_session_timeout``, :mod:`indexer.store.database`). Within a COPY
no time-out of Postgres counts, so :class:`FrozenSessions` ends those.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Final, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

log = logging.getLogger(__name__)

LASTS = 8.0
"""Seconds from a renewal until another process may take the lease."""

RENEW_EVERY = 2.0
"""Seconds between two renewals: three may fail before the lease is lost."""


# A statement about a lease waits for no lock longer than this: a renewal that hangs is one that failed.
_WAITS = sa.text("SET LOCAL lock_timeout = '1s'")


class Lease:
    """One process's claim to a lease. Thread-safe: it is taken and released by one thread, renewed and asked by others.

    Args:
        engine: the database. Its application name is what tells processes apart.
        name: of the lease.
        clock: seconds that only grow.
    """

    def __init__(self, engine: Engine, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._guard = threading.Lock()
        self._token: uuid.UUID | None = None
        self._trusted_until = 0.0
        self.name = name

    @property
    def token(self) -> uuid.UUID | None:
        """What proves a renewal to be ours; None while the lease is not held."""
        with self._guard:
            return self._token

    def is_trusted(self) -> bool:
        """Whether the lease is held as far as this process knows; no query."""
        with self._guard:
            return self._token is not None and self._clock() < self._trusted_until

    def is_held(self) -> bool:
        """Whether the lease is ours; renews it where that was not done lately.

        Raises:
            sqlalchemy.exc.DBAPIError: Postgres could not be asked.
        """
        with self._guard:
            token, until = self._token, self._trusted_until
        if token is None:
            return False
        if self._clock() > until - LASTS + 2 * RENEW_EVERY:
            renew(self._engine, [self])
        return self.is_trusted()

    def take(self, also: Callable[[Connection], None] | None = None) -> bool:
        """Tries to get the lease.

        The sessions of a holder whose lease has expired are ended first, where they wait for it within a transaction:
        its locks would keep all others waiting.

        Args:
            also: what belongs to it, in the same transaction.

        Returns:
            False if another process has it.

        Raises:
            sqlalchemy.exc.DBAPIError: Postgres could not be asked, or ``also`` waited for a lock for too long.
        """
        token, began = uuid.uuid4(), self._clock()
        with self._engine.connect() as connection:
            if _is_taken(connection, self.name):
                return False
            _end_sessions_of_expired(connection, self.name)
            connection.rollback()
            connection.execute(_WAITS)
            if not acquire(connection, self.name, token):
                return False
            if also is not None:
                also(connection)
            connection.commit()
        with self._guard:
            self._token, self._trusted_until = token, began + LASTS
        return True

    def release(self) -> None:
        """Lets another process have the lease at once; it expires by itself where Postgres cannot be told."""
        with self._guard:
            token, self._token = self._token, None
        if token is None:
            return
        try:
            with self._engine.begin() as connection:
                connection.execute(_WAITS)
                give_back(connection, self.name, token)
        except sa.exc.SQLAlchemyError as error:
            log.debug("lease %s could not be given back: %s", self.name, error)

    def now(self) -> float:
        """The time by the lease's clock."""
        return self._clock()

    def answered(self, token: uuid.UUID, until: float | None) -> None:
        """Notes what became of a renewal.

        Args:
            token: with which it was asked for.
            until: by our clock, when the lease may be lost if nothing is heard; None: another process has it.
        """
        with self._guard:
            if self._token != token:
                return  # released meanwhile
            if until is None:
                self._token = None
            else:
                self._trusted_until = max(self._trusted_until, until)


def acquire(connection: Connection, name: str, token: uuid.UUID) -> bool:
    """Takes a lease if it is free, in a transaction of the caller; until that ends no other process can take it.

    Returns:
        False if another process has it.
    """
    taken = connection.execute(
        sa.text("""
            INSERT INTO gapless.leases AS lease (name, holder, token, expires_at)
            VALUES (:name, current_setting('application_name'), :token,
                    clock_timestamp() + make_interval(secs => :lasts))
            ON CONFLICT (name) DO UPDATE
            SET holder = excluded.holder, token = excluded.token,
                expires_at = clock_timestamp() + make_interval(secs => :lasts)
            WHERE lease.expires_at <= clock_timestamp()
            RETURNING 1
        """),
        {"name": name, "token": token, "lasts": LASTS},
    ).all()
    return bool(taken)


def is_valid(connection: Connection, name: str, token: uuid.UUID) -> bool:
    """Whether a lease is that of a token's holder; its renewal does not wait for the transaction that asks."""
    return bool(
        connection.execute(
            sa.text("SELECT FROM gapless.leases WHERE name = :name AND token = :token FOR KEY SHARE"),
            {"name": name, "token": token},
        ).all()
    )


def give_back(connection: Connection, name: str, token: uuid.UUID) -> None:
    """Makes a lease free, in a transaction of the caller, unless another process has taken it meanwhile."""
    connection.execute(
        sa.text("DELETE FROM gapless.leases WHERE name = :name AND token = :token"), {"name": name, "token": token}
    )


def renew(engine: Engine, leases: Iterable[Lease]) -> None:
    """Renews leases that are held, in one statement; one that another process has taken is lost from here on.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: Postgres could not be asked; nothing is known anew.
    """
    held = [(lease, token, lease.now()) for lease in leases if (token := lease.token) is not None]
    if not held:
        return
    with engine.begin() as connection:
        connection.execute(_WAITS)
        # An expired one that no other process took is still ours. Locked in one order, so that two renewals never lock
        # each other out.
        renewed = set(
            connection.execute(
                sa.text("""
                    UPDATE gapless.leases SET expires_at = clock_timestamp() + make_interval(secs => :lasts)
                    WHERE token IN (SELECT token FROM gapless.leases WHERE token = ANY(:tokens)
                                    ORDER BY name FOR UPDATE)
                    RETURNING token
                """),
                {"tokens": [token for _, token, _ in held], "lasts": LASTS},
            ).scalars()
        )
    for lease, token, began in held:
        lease.answered(token, began + LASTS if token in renewed else None)


def _is_taken(connection: Connection, name: str) -> bool:
    return bool(
        connection.execute(
            sa.text("SELECT 1 FROM gapless.leases WHERE name = :name AND expires_at > clock_timestamp()"),
            {"name": name},
        ).all()
    )


def _end_sessions_of_expired(connection: Connection, name: str) -> None:
    """Ends what is left of a holder that no longer renews its lease: it may be frozen, or its machine may be gone.

    Only sessions that wait for their client in a transaction: they hold locks, for an unknown time. Those
    that work on a statement come to an end, and then wait or are gone.
    """
    ended = connection.execute(
        sa.text("""
            SELECT lease.holder, count(pg_terminate_backend(session.pid, 1000))
            FROM gapless.leases lease JOIN pg_stat_activity session ON session.application_name = lease.holder
            WHERE lease.name = :name AND lease.expires_at <= clock_timestamp()
              AND lease.holder <> current_setting('application_name')
              AND session.datname = current_database() AND session.usename = current_user
              AND session.xact_start IS NOT NULL AND session.wait_event_type = 'Client'
            GROUP BY lease.holder
        """),
        {"name": name},
    ).all()
    for holder, count in ended:
        log.warning(
            "lease %s: its holder %s does not renew it any more; %d of its sessions, which waited for it in a "
            "transaction, were ended",
            *(name, holder, count),
        )


class Renewer:
    """Renews leases on a thread of its own, whatever the rest of the process waits for.

    Args:
        engine: the database; best one whose connections no other user can use up.
        leases: those to renew, as they are at the moment.
    """

    def __init__(self, engine: Engine, leases: Callable[[], Iterable[Lease]]) -> None:
        self._engine = engine
        self._leases = leases
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
        self._trouble = ""

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the renewal at hand."""
        self._stop.set()

    def __enter__(self) -> Self:
        """As :meth:`start`."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """As :meth:`stop`."""
        self.stop()

    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.wait(RENEW_EVERY):
            try:
                renew(self._engine, self._leases())
                self._trouble = ""
            except Exception as error:  # noqa: BLE001 - the next renewal is due whatever this one met
                trouble = str(getattr(error, "orig", error)).strip().partition("\n")[0] or repr(error)
                if trouble != self._trouble:
                    log.warning("leases cannot be renewed: %s; trying again", trouble)
                self._trouble = trouble


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
