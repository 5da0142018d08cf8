"""Statements on one connection: prepared at their second use, as many as have room in a bound of bytes.

psycopg keeps a number of statements whatever their size, and each is a plan in Postgres; one of a merged feed can be
larger than a hundred others. Beside that a statement that is known goes over libpq directly, which costs half.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias, cast

import psycopg
from psycopg import errors as pg_errors
from psycopg import pq

from api.bounded_cache import BoundedCache

Row: TypeAlias = tuple[bytes | None, ...]

#: Bytes of the texts of a connection's prepared statements: their plans in Postgres are some times larger.
PREPARED_BYTES: Final = 1 * 2**20
#: Bytes of what is remembered of statements that came once.
_SEEN_BYTES: Final = 128 * 2**10
_BYTEA: Final = 17
_UNKNOWN: Final = 0
_TEXT, _BINARY = 0, 1


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
        parameters = [_parameter(value) for value in values]
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
        case None | bytes():
            return value
        case str():
            if "\0" in value:  # libpq would end the text there
                raise psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
            return value.encode()
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
