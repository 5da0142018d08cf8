"""Reading Postgres: pools of read-only connections, what is prepared on them, and what their failures mean to a client.

Answers are taken as Postgres sends them (text, undecoded): its JSON goes to the client as it is.

Statements are prepared at their second use, as many as have room in a bound of bytes: psycopg keeps a number of
statements whatever their size, and each is a plan in Postgres; one of a merged feed can be larger than a hundred
others. Beside that a statement that is known goes over libpq directly, which costs half.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias, TypeVar, cast

import psycopg
from psycopg import errors as pg_errors
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, TooManyRequests

from api.bounded_cache import BoundedCache
from api.errors import ApiError

Row: TypeAlias = tuple[bytes | None, ...]

#: Bytes of the texts of a connection's prepared statements: their plans in Postgres are some times larger.
PREPARED_BYTES: Final = 1 * 2**20
#: Bytes of what is remembered of statements that came once.
_SEEN_BYTES: Final = 128 * 2**10
_BYTEA: Final = 17
_UNKNOWN: Final = 0
_TEXT, _BINARY = 0, 1

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_TIMEOUT: Final = 5
#: How every session is set or, where a pooler stands in between, every transaction.
SESSION: Final[Mapping[str, str]] = {
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
    "datestyle": "ISO",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    # Compiling a query costs more than any query here takes.
    "jit": "off",
    # So does planning one: which index serves a request is decided before its statement is written.
    "plan_cache_mode": "force_generic_plan",
}

#: How every connection is made, where the URL does not say otherwise: one to a machine that is gone is given up soon.
_CONNECTING: Final[Mapping[str, Any]] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}


class Connection(psycopg.Connection[Any]):
    """A connection that has statements of its own.

    Attributes:
        prepares: whether statements may be prepared: not where a pooler gives every transaction another session.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.prepares = True
        self._to_deallocate: list[bytes] = []
        self._statement_names: BoundedCache[bytes, bytes] = BoundedCache(
            PREPARED_BYTES, lambda _, name: self._to_deallocate.append(name)
        )
        # By hash: two texts with one hash are prepared at the first use of one of them, and nothing else.
        self._seen_once: BoundedCache[int, bool] = BoundedCache(_SEEN_BYTES)
        self._statements_made = 0

    def fetch(self, text: bytes, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement with ``$1``-style parameters; its rows as Postgres writes them.

        Args:
            text: the statement.
            values: texts, bytes, numbers, null, or lists of those; what a text means the statement's cast says.

        Raises:
            psycopg.Error: what Postgres says; OperationalError where the connection is lost.
        """
        parameters = [value if value.__class__ is bytes else _parameter(value) for value in values]
        formats = [_BINARY if isinstance(value, bytes) else _TEXT for value in values]
        name = self._name_of(text) if self.prepares else None
        if name is None:
            types = [_BYTEA if isinstance(value, bytes) else _UNKNOWN for value in values]
            result = self.pgconn.exec_params(text, parameters, types, formats)
        else:
            # What psycopg declares leaves out null, which it takes.
            result = self.pgconn.exec_prepared(name, cast(list[bytes], parameters), formats)
        self._raise_for(result)
        columns = range(result.nfields)
        return [tuple([result.get_value(row, column) for column in columns]) for row in range(result.ntuples)]

    def _name_of(self, text: bytes) -> bytes | None:
        """The name of a statement; None while it was not used before, and where it would fill all the room."""
        name = self._statement_names.get(text)
        if name is not None:
            return name
        if self._seen_once.get(hash(text)) is None:
            self._seen_once.put(hash(text), True)
            return None
        self._statements_made += 1
        name = b"gapless_%d" % self._statements_made
        if not self._statement_names.put(text, name):
            return None
        try:
            while self._to_deallocate:
                self._raise_for(self.pgconn.exec_(b"DEALLOCATE " + self._to_deallocate.pop()))
            self._raise_for(self.pgconn.prepare(name, text))
        except BaseException:
            self._statement_names.drop(text)
            raise
        return name

    def _raise_for(self, result: pq.abc.PGresult) -> None:
        if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            return
        encoding = self.info.encoding
        if self.pgconn.status == pq.ConnStatus.BAD:
            raise psycopg.OperationalError(self.pgconn.get_error_message(encoding))
        raise pg_errors.error_from_result(result, encoding)


def _parameter(value: object) -> bytes | None:
    match value:
        case str():  # nearly all are
            if "\0" in value:  # libpq would end the text there
                raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
            return value.encode()
        case None | bytes():
            return value
        case bool():
            return b"t" if value else b"f"
        case int() | float():
            return str(value).encode()
        case datetime():
            return value.isoformat().encode()
        case list() | tuple():
            return b"{" + b",".join(map(_item, value)) + b"}"
    raise TypeError(f"no parameter can be made of {type(value).__name__}")


def _item(value: object) -> bytes:
    if value is None:
        return b"NULL"
    text = b"\\x" + value.hex().encode() if isinstance(value, bytes) else _parameter(value)
    assert text is not None
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


class Database:
    """A pool of connections, which only read unless told otherwise.

    Args:
        url: ``postgresql://...``
        size: most connections at once.
        statement_timeout: seconds after which Postgres gives a query up.
        wait: seconds to wait for a connection.
        name: how Postgres shows the connections.
        read_only: whether they only read. What writes is never tried twice: connections are looked at before instead.
    """

    def __init__(
        self,
        url: str,
        *,
        size: int,
        statement_timeout: float,
        wait: float = 1.5,
        name: str = "api",
        read_only: bool = True,
    ) -> None:
        settings = {**SESSION, "statement_timeout": f"{int(statement_timeout * 1000)}ms"}
        if read_only:
            # Where something is to be written, the database's own default counts: it says whether that is allowed.
            settings["default_transaction_read_only"] = "on"
        self._session = _set_all("SET", settings)
        self._local = _set_all("SET LOCAL", settings)
        self._wait = wait
        self._read_only = read_only
        given: dict[str, Any] = conninfo_to_dict(url)
        application_name = f"{given.pop('application_name', '')} gapless {name}".strip()
        self._pool = ConnectionPool(
            make_conninfo(**given),
            connection_class=Connection,
            min_size=0,
            max_size=size,
            max_waiting=size * 8,
            timeout=wait,
            max_idle=300,
            open=False,
            name=name,
            kwargs={
                "autocommit": True,
                "prepare_threshold": None,  # statements are prepared by the connection itself
                "cursor_factory": psycopg.RawCursor,
                **{key: value for key, value in _CONNECTING.items() if key not in given},
                "application_name": application_name,
            },
            configure=self._configure,
            check=None if read_only else ConnectionPool.check_connection,
        )

    def open(self) -> None:
        """Begin to connect; does not wait for Postgres."""
        self._pool.open(wait=False)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close(timeout=1)

    def query(self, text: str | bytes, values: Sequence[object] = ()) -> list[Row]:
        """Run one statement with ``$1``-style parameters: one snapshot of the database.

        Raises:
            ApiError: DATABASE_UNAVAILABLE, OVERLOADED or QUERY_TOO_EXPENSIVE.
            psycopg.Error: whatever else Postgres says, which is a defect.
        """
        encoded = text.encode() if isinstance(text, str) else text

        def run(connection: Connection) -> list[Row]:
            if connection.prepares:
                return connection.fetch(encoded, values)
            with connection.transaction():
                self._set_up_transaction(connection)
                return connection.fetch(encoded, values)

        return self._retried(run)

    def begin(self, text: bytes, values: Sequence[object]) -> tuple[Connection, list[Row]]:
        """Begin a transaction in which every statement sees the database as it is now, and run its first one.

        Returns:
            The connection, to be given back with :meth:`release`, and the rows.

        Raises:
            ApiError: as :meth:`query`.
        """

        def start(connection: Connection) -> tuple[Connection, list[Row]]:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if not connection.prepares:
                self._set_up_transaction(connection)
            return connection, connection.fetch(text, values)

        return self._retried(start, keep=True)

    def release(self, connection: Connection) -> None:
        """Give a connection back; one that is closed is replaced."""
        self._pool.putconn(connection)

    def _configure(self, connection: Connection) -> None:
        row = connection.execute(b"SELECT pg_backend_pid()").fetchone()
        if row is not None and int(row[0]) == connection.info.backend_pid:
            connection.execute(self._session)
            return
        # A pooler answers for another process: its sessions serve others as well, and keep nothing for us.
        connection.prepares = False

    def _set_up_transaction(self, connection: Connection) -> None:
        if self._read_only:
            connection.execute(b"SET TRANSACTION READ ONLY")
        connection.execute(self._local)

    def _retried(self, work: Callable[[Connection], T], *, keep: bool = False) -> T:
        """Run reading work, once more if the connection turns out to be dead (Postgres was restarted).

        Args:
            work: what to do.
            keep: leave the connection to the work's result, unless it fails.
        """
        try:
            try:
                return self._once(work, keep=keep)
            except _DeadConnectionError as error:
                if not self._read_only:
                    raise psycopg.OperationalError(str(error)) from error
                # The other idle connections are as old as that one.
                self._pool.check()
            try:
                return self._once(work, keep=keep)
            except _DeadConnectionError as error:
                raise psycopg.OperationalError(str(error)) from error
        except psycopg.Error as error:
            if (told := _for_clients(error)) is None:
                raise
            raise told from None

    def _once(self, work: Callable[[Connection], T], *, keep: bool) -> T:
        connection = self._pool.getconn()
        try:
            result = work(connection)
        except BaseException as error:
            dead = isinstance(error, psycopg.OperationalError) and connection.broken
            self._pool.putconn(connection)
            if dead:
                raise _DeadConnectionError(str(error)) from error
            raise
        if not keep:
            self._pool.putconn(connection)
        return result


class _DeadConnectionError(Exception):
    """A connection of the pool was cut since it was last used."""


def _set_all(how: str, settings: Mapping[str, str]) -> bytes:
    """Statements that set all of these, sent at once."""
    return "; ".join(f"{how} {key} = '{value}'" for key, value in settings.items()).encode()


def _for_clients(error: psycopg.Error) -> ApiError | None:  # noqa: PLR0911  # one return a case reads best
    """What a failure means to a client; None: it is a defect."""
    match error:
        case pg_errors.QueryCanceled():
            hint = "ask for fewer blocks (from_block, to_block), or filter on an indexed argument"
            return ApiError("QUERY_TOO_EXPENSIVE", f"the query took too long: {hint}")
        case pg_errors.UndefinedTable() | pg_errors.InvalidSchemaName():
            if "gapless." not in str(error):
                return None
            why = "the database has no Gapless tables yet: run `gapless migrate`"
            return ApiError("DATABASE_UNAVAILABLE", why, retry_after=5)
        case pg_errors.ReadOnlySqlTransaction() | pg_errors.DiskFull():
            log.warning("the database takes no changes: %s", str(error).strip())
            full = isinstance(error, pg_errors.DiskFull)
            why = "its disk is full" if full else "it is a standby, or was made read-only"
            why = f"the database takes no changes at the moment: {why}; reading works"
            return ApiError("DATABASE_READ_ONLY", why, retry_after=5)
        case TooManyRequests():
            return ApiError("OVERLOADED", "too many requests wait for the database", retry_after=1)
        case psycopg.OperationalError() | psycopg.InterfaceError():
            log.warning("the database does not answer: %s", str(error).strip() or type(error).__name__)
            return ApiError("DATABASE_UNAVAILABLE", "the database does not answer at the moment", retry_after=2)
    return None
