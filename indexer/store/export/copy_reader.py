"""COPY's binary form into Arrow columns, without an object for any value.

Postgres sends a message a row. Some thousands of rows are read as one matrix of bytes: fields of one width stand in
front of those of many widths, so that their places are the same in all rows. A batch of rows in which a field is null,
or has another width than its type says, is read row by row.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

import numpy as np
import psycopg
import pyarrow as pa
from numpy.typing import NDArray

from indexer.store.export import copy_numbers
from indexer.store.export.copy_numbers import MARGIN, TooWideError, integers, windows

#: The row in expressions. No column has a space in its name: an alias that a column shares would mean the column.
ROW: Final = '"a row"'
#: Rows that are read as one.
BATCH: Final = 8192

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_HEADER: Final = len(_SIGNATURE) + 8
_TRAILER: Final = b"\xff\xff"
#: Postgres counts microseconds from 2000-01-01; this is that day in Unix time.
_EPOCH: Final = 946_684_800_000_000

Wire = Literal["smallint", "integer", "bigint", "boolean", "timestamptz", "bytea", "text", "numeric"]

_INTEGERS: Final = {"smallint": ">i2", "integer": ">i4", "bigint": ">i8", "timestamptz": ">i8"}
_WIDTHS: Final = {"smallint": 2, "integer": 4, "bigint": 8, "timestamptz": 8, "boolean": 1}


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a query, and what it becomes.

    Attributes:
        name: of the column in Arrow.
        expression: SQL over the row :data:`ROW`.
        wire: the expression's type in Postgres.
        kind: its type in Arrow.
        size: of a ``bytea``: how many bytes each value has, where all have as many.
        convert: of a ``text``: makes the value of it.
    """

    name: str
    expression: str
    wire: Wire
    kind: pa.DataType
    size: int | None = None
    convert: Callable[[str], Any] | None = None

    @property
    def width(self) -> int | None:
        """Bytes that each value has in COPY's form; None: they differ."""
        return _WIDTHS.get(self.wire, self.size)


def messages(copy: psycopg.Copy) -> Iterator[Any]:
    """What a COPY sends, a row each; psycopg's own iteration takes as long as all else that is done with a row.

    Args:
        copy: of ``COPY ... TO STDOUT``; all of it is read.

    Raises:
        psycopg.Error: the server broke it off.
    """
    connection = copy.connection.pgconn
    read = connection.get_copy_data
    while True:
        size, data = read(1)
        if size > 0:
            yield data
        elif size == 0:  # nothing has come yet: psycopg knows how to wait
            if not (waited := copy.read()):
                return
            yield waited
        else:
            break
    while (result := connection.get_result()) is not None:
        if result.status != psycopg.pq.ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result)


class CopyReader:
    """Reads the rows of one query.

    Args:
        fields: the columns, in the order of the Arrow batches.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        self.schema = pa.schema([pa.field(field.name, field.kind) for field in self.fields])
        self._sent = sorted(self.fields, key=lambda field: field.width is None)
        self._fixed = [field for field in self._sent if field.width is not None]
        lengths = [field.width or 0 for field in self._fixed]
        #: Where the value of each field of one width begins in its row.
        self._at = [2 + 4 * (i + 1) + sum(lengths[:i]) for i in range(len(lengths))]
        self._prefix = 2 + 4 * len(lengths) + sum(lengths)
        marks = [(0, struct.pack(">h", len(self._sent)))]
        marks += [(at - 4, struct.pack(">i", length)) for at, length in zip(self._at, lengths, strict=True)]
        self._mark_columns = np.concatenate([np.arange(at, at + len(mark)) for at, mark in marks])
        self._mark_values = np.frombuffer(b"".join(mark for _, mark in marks), np.uint8)

    @property
    def columns(self) -> str:
        """The select list of the query, over the row :data:`ROW`."""
        return ", ".join(field.expression for field in self._sent)

    def batches(self, pieces: Iterable[Any]) -> Iterator[pa.RecordBatch]:
        """Reads what COPY sends.

        Args:
            pieces: the messages of ``COPY (SELECT columns ...) TO STDOUT (FORMAT BINARY)``, a row each.

        Raises:
            TooWideError: a number has more digits than its Arrow type; its text is the field's name.
            ValueError: it is not that form.
        """
        data, starts = bytearray(MARGIN), []
        is_first = True
        for message in pieces:
            piece = message
            if is_first:
                if bytes(piece[: len(_SIGNATURE)]) != _SIGNATURE:
                    raise ValueError("Postgres did not send COPY's binary form")
                piece, is_first = piece[_HEADER:], False
            if len(piece) <= len(_TRAILER):
                continue
            starts.append(len(data))
            data += piece
            if len(starts) == BATCH:
                yield self._batch(data, starts)
                data, starts = bytearray(MARGIN), []
        if starts:
            yield self._batch(data, starts)

    def _batch(self, data: bytearray, starts: list[int]) -> pa.RecordBatch:
        arrays = self._by_column(data + bytes(self._prefix + MARGIN), np.array(starts, np.int64))
        if arrays is None:
            arrays = self._by_row(data, starts)
        return pa.RecordBatch.from_arrays([arrays[field.name] for field in self.fields], schema=self.schema)

    def _by_column(self, padded: bytearray, starts: NDArray[np.int64]) -> dict[str, pa.Array] | None:
        """All columns; None where a field is null or has another width."""
        data = np.frombuffer(padded, np.uint8)
        rows = windows(data, self._prefix)[starts]
        if not (rows[:, self._mark_columns] == self._mark_values).all():
            return None
        arrays = {
            field.name: _fixed(field, np.ascontiguousarray(rows[:, at : at + (field.width or 0)]))
            for field, at in zip(self._fixed, self._at, strict=True)
        }
        at = starts + self._prefix
        for field in self._sent[len(self._fixed) :]:
            lengths = integers(data, at, ">i4")
            if (lengths < 0).any():
                return None
            arrays[field.name] = _variable(field, data, at + 4, lengths)
            at = at + 4 + lengths
        return arrays

    def _by_row(self, data: bytearray, starts: list[int]) -> dict[str, pa.Array]:
        values: dict[str, list[Any]] = {field.name: [] for field in self._sent}
        for start in starts:
            at = start + 2
            for field in self._sent:
                (length,) = struct.unpack_from(">i", data, at)
                at += 4
                values[field.name].append(None if length < 0 else _value(field, bytes(data[at : at + length])))
                at += max(length, 0)
        return {field.name: pa.array(values[field.name], field.kind) for field in self._sent}


def _fixed(field: Field, octets: NDArray[np.uint8]) -> pa.Array:
    """A column of one width, of shape (rows, bytes)."""
    count = len(octets)
    match field.wire:
        case "boolean":
            return pa.array(octets.reshape(-1).astype(np.bool_))
        case "timestamptz":
            return pa.array(_unix(octets.view(">i8").reshape(-1).astype(np.int64)), pa.int64()).cast(field.kind)
        case "bytea":
            offsets = np.arange(count + 1, dtype=np.int32) * np.int32(octets.shape[1])
            return pa.Array.from_buffers(field.kind, count, [None, pa.py_buffer(offsets), pa.py_buffer(octets)])
        case _:
            return pa.array(octets.view(_INTEGERS[field.wire]).reshape(-1).astype(np.int64)).cast(field.kind)


def _unix(times: NDArray[np.int64]) -> NDArray[np.int64]:
    # What Postgres has as infinity is the last moment that there is.
    return np.minimum(times, np.iinfo(np.int64).max - _EPOCH) + _EPOCH


def _variable(field: Field, data: NDArray[np.uint8], at: NDArray[np.int64], lengths: NDArray[np.int64]) -> pa.Array:
    if field.wire == "numeric":
        try:
            octets = copy_numbers.decimals(data, at)
        except TooWideError:
            raise TooWideError(field.name) from None
        return pa.Array.from_buffers(field.kind, len(at), [None, pa.py_buffer(octets)])
    ends = np.cumsum(lengths)
    if len(ends) and ends[-1] > np.iinfo(np.int32).max:
        raise ValueError(f"{BATCH} values of {field.name} have more than 2 GB")
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    places = np.repeat(at - offsets[:-1], lengths) + np.arange(int(offsets[-1]))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data[places])]
    if field.convert is None:
        return pa.Array.from_buffers(field.kind, len(at), buffers)
    texts = pa.Array.from_buffers(pa.string(), len(at), buffers).to_pylist()
    return pa.array([_converted(field, text) for text in texts], field.kind)


def _converted(field: Field, text: str) -> Any:
    if field.convert is None:
        return text
    try:
        return field.convert(text)
    except TooWideError:
        raise TooWideError(field.name) from None


def _value(field: Field, octets: bytes) -> Any:
    """One value as pyarrow takes it for the field's type."""
    match field.wire:
        case "boolean":
            return octets != b"\0"
        case "bytea":
            return octets
        case "text":
            return _converted(field, octets.decode())
        case "numeric":
            padded = np.frombuffer(bytes(MARGIN) + octets + bytes(MARGIN), np.uint8)
            try:
                low, high = (int(half) for half in copy_numbers.decimals(padded, np.array([MARGIN]))[0])
            except TooWideError:
                raise TooWideError(field.name) from None
            return Decimal(int.from_bytes((high << 64 | low).to_bytes(16), signed=True))
        case "timestamptz":
            return int(_unix(np.frombuffer(octets, ">i8").astype(np.int64))[0])
        case _:
            return int.from_bytes(octets, signed=True)
