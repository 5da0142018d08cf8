"""Exports: all rows of a request as a stream, through ``COPY``, in flat memory.

The state of the request and its rows are read in one transaction, so they are one snapshot of the database. Everything
that an export holds (a slot, a connection, a transaction) it gives back in :meth:`Export.close`, which the WSGI server
calls when the answer is sent and also when the client has left.
"""

import csv
import importlib.util
import io
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

import psycopg

from api.caching import LEVEL
from api.context import Slots
from api.database import Database, Row
from api.errors import ApiError
from api.schemas import Schema

log = logging.getLogger(__name__)

#: Bytes of a piece: row by row, a server spends five times as long.
PIECE: Final = 64 * 1024

#: COPY's CSV with delimiters that JSON cannot hold: lines of JSON go through it unchanged.
NDJSON_OPTIONS: Final = "(FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01')"
CSV_OPTIONS: Final = "(FORMAT csv)"


class Export:
    """One export: first the state, then the rows.

    Args:
        database: a pool for exports alone.
        slots: how many there may be at once.
        text: the statement of the state.
        values: its values.
        client: which key or address asks; its share of the slots is bounded.

    Attributes:
        state: the one row that the statement gave.

    Raises:
        ApiError: OVERLOADED or DATABASE_UNAVAILABLE.
    """

    def __init__(
        self, database: Database, slots: Slots, text: bytes, values: Sequence[object], client: str | None = None
    ) -> None:
        self._database = database
        self._slots = slots
        self._client = client
        self._pieces: Iterator[bytes] = iter(())
        slots.take(client)
        try:
            self._connection, rows = database.begin(text, values)
        except BaseException:
            slots.give_back(client)
            raise
        self._open = True
        self._on_close: Callable[[], None] = lambda: None
        self.state: Row = rows[0]

    def literal(self, value: object) -> str:
        """A value as a literal: COPY takes no parameters."""
        return psycopg.sql.Literal(value).as_string(self._connection)

    def start(self, query: str, *, options: str, head: bytes = b"", gzip: bool = False) -> None:
        """Say what is to be sent.

        Args:
            query: the rows, a SELECT.
            options: of COPY.
            head: sent before the rows.
            gzip: compress.
        """
        pieces = self._telling(self._read(f"COPY ({query}) TO STDOUT WITH {options}", head))
        self._pieces = _compressed(pieces) if gzip else pieces

    def start_parquet(self, query: str, columns: Mapping[str, Schema]) -> None:
        """Say that rows are to be sent as Parquet.

        Args:
            query: the rows, a SELECT of the columns of a CSV.
            columns: their names, and the schemas of their values.
        """
        from api import parquet

        self._pieces = self._telling(parquet.read(self._connection, query, columns))

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def when_closed(self, act: Callable[[], None]) -> None:
        """Call something when everything has been given back."""
        self._on_close = act

    def close(self) -> None:
        """Give everything back; an export that is not at its end is cancelled in the database too."""
        if not self._open:
            return
        self._open = False
        try:
            with suppress(psycopg.Error):
                if self._connection.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                    self._connection.cancel_safe(timeout=2)
                    self._connection.close()
                else:
                    self._connection.rollback()
            self._database.release(self._connection)
        finally:
            self._slots.give_back(self._client)
            self._on_close()

    def _read(self, statement: str, head: bytes) -> Iterator[bytes]:
        waiting: list[bytes] = [head]
        size = len(head)
        with self._connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            for row in copy:
                waiting.append(bytes(row))
                size += len(row)
                if size >= PIECE:
                    yield b"".join(waiting)
                    waiting.clear()
                    size = 0
        if waiting:
            yield b"".join(waiting)

    def _telling(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from pieces
        except psycopg.Error as error:
            # The status is sent already: the connection is cut without the end mark, which clients notice.
            log.error("an export broke off: %s", str(error).strip())
            raise


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
    for piece in pieces:
        if packed := compressor.compress(piece):
            yield packed
    yield compressor.flush()


def require_parquet() -> None:
    """Refuses where there is nothing to make Parquet with.

    Raises:
        ApiError: NOT_ACCEPTABLE.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise ApiError("NOT_ACCEPTABLE", "this server makes no Parquet: pip install 'gapless[files]'")


def csv_head(names: Iterable[str]) -> bytes:
    """The first line of a CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(names)
    return line.getvalue().encode()
