"""COPY in its binary form: into event tables, and from columns of numpy arrays, which makes no object for any row.

Columns are encoded that have one width in all rows of a batch, which makes a batch a matrix of bytes. The form is the
Postgres manual's ("COPY", Binary Format): for each row the number of fields (16 bits), for each field its length (32
bits) and its value as the type's ``recv`` function reads it.

A value that the decoder took and Postgres does not (an indexed text too long for a btree, say) fails the whole COPY,
and must not hold up the thousands of rows beside it: :func:`copy_accepted` halves the rows until those that break it
stand alone.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from indexer.store.schema.layout import EventTable

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)

_EPOCH = 946_684_800
"""Postgres counts time from 2000-01-01; this is that day in Unix seconds."""

_BASE = 10_000
_PAIR = 10**8
_NEGATIVE = 0x4000
_INTEGERS = {"smallint": ">i2", "integer": ">i4", "bigint": ">i8"}

Row: TypeAlias = tuple[Any, ...]


Copy: TypeAlias = Callable[[Sequence[Row]], None]


# What is the row's fault. Everything else (a full disk, a lost connection, a key that is there already) is not.
REFUSALS = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded)


_SAVEPOINT = sql.SQL("SAVEPOINT gapless_copy")


_BACK = sql.SQL("ROLLBACK TO SAVEPOINT gapless_copy")


_RELEASE = sql.SQL("RELEASE SAVEPOINT gapless_copy")


class WideNumbers(Protocol):
    """Integers of up to 256 bits: magnitudes in 32-bit limbs (rows, limbs), the most significant first, and signs."""

    @property
    def limbs(self) -> NDArray[np.uint32]:
        """Of shape (rows, limbs)."""

    @property
    def negative(self) -> NDArray[np.bool_] | None:
        """Of shape (rows,), or None where nothing is below zero."""


Column: TypeAlias = NDArray[Any] | WideNumbers


@dataclass(frozen=True, slots=True)
class BinaryRows:
    """Rows of one table, ready to be sent between :data:`SIGNATURE` and :data:`TRAILER`."""

    count: int
    data: memoryview


def timestamps(unix_seconds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Times as a ``timestamptz`` column: microseconds since Postgres' epoch."""
    return (unix_seconds - _EPOCH) * 1_000_000


def encode(columns: Sequence[tuple[str, Column]], count: int) -> BinaryRows:
    """Makes rows of columns.

    Args:
        columns: in the table's order, each with its Postgres type (without modifiers): ``bytea`` of shape (rows,
            bytes), ``boolean``, ``smallint``, ``integer``, ``bigint`` and ``timestamptz`` (see :func:`timestamps`) of
            shape (rows,), ``numeric`` as limbs.
        count: how many rows.

    Raises:
        ValueError: a type that is not made here.
    """
    fields = [_field(pg_type, column, count) for pg_type, column in columns]
    width = 2 + sum(4 + field.shape[1] for field in fields)
    rows = np.empty((count, width), dtype=np.uint8)
    rows[:, :2] = np.frombuffer(struct.pack(">h", len(fields)), np.uint8)
    at = 2
    for field in fields:
        size = field.shape[1]
        rows[:, at : at + 4] = np.frombuffer(struct.pack(">i", size), np.uint8)
        rows[:, at + 4 : at + 4 + size] = field
        at += 4 + size
    return BinaryRows(count, rows.reshape(-1).data)


def _field(pg_type: str, column: Column, count: int) -> NDArray[np.uint8]:
    if not isinstance(column, np.ndarray):
        if pg_type != "numeric":
            raise ValueError(f"wide numbers for a column of type {pg_type}")
        return _numeric(column.limbs, column.negative)
    match pg_type:
        case "bytea":
            return column
        case "boolean":
            return column.astype(np.uint8).reshape(count, 1)
        case "timestamptz":
            return _octets(column, ">i8")
        case "smallint" | "integer" | "bigint":
            return _octets(column, _INTEGERS[pg_type])
    raise ValueError(f"no binary form for {pg_type} is made here")


def _octets(column: NDArray[Any], form: str) -> NDArray[np.uint8]:
    values = np.ascontiguousarray(column.astype(form))
    return values.view(np.uint8).reshape(len(values), values.dtype.itemsize)


def _numeric(limbs: NDArray[np.uint32], negative: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Numerics with as many digits in each row as the largest needs: ``numeric_recv`` strips the zeros in front."""
    digits = _digits(limbs)
    count, width = digits.shape
    field = np.empty((count, 4 + width), dtype=">u2")
    field[:, 0] = width
    field[:, 1] = width - 1  # the weight of the first digit
    field[:, 2] = 0 if negative is None else np.where(negative, _NEGATIVE, 0)
    field[:, 3] = 0  # digits behind the point
    field[:, 4:] = digits
    return field.view(np.uint8).reshape(count, -1)


def _digits(limbs: NDArray[np.uint32]) -> NDArray[np.uint16]:
    """Digits to the base 10,000, the most significant first; at least one, no column of zeros in front."""
    # Long division by 10^8, which leaves two digits at a time: a remainder and a limb together fit into 64 bits.
    left = [np.ascontiguousarray(limbs[:, i]).astype(np.uint64) for i in range(limbs.shape[1])]
    digits: list[NDArray[np.uint64]] = []
    while left and not left[0].any():
        left.pop(0)
    while left:
        remainder = np.zeros(len(limbs), dtype=np.uint64)
        for position, limb in enumerate(left):
            dividend = (remainder << np.uint64(32)) | limb
            left[position] = dividend // np.uint64(_PAIR)
            remainder = dividend - left[position] * np.uint64(_PAIR)
        high = remainder // np.uint64(_BASE)
        digits += [remainder - high * np.uint64(_BASE), high]
        while left and not left[0].any():
            left.pop(0)
    while digits and not digits[-1].any():
        digits.pop()
    result = np.zeros((len(limbs), max(1, len(digits))), dtype=np.uint16)
    for position, digit in enumerate(reversed(digits)):
        result[:, position] = digit
    return result


def copy_batches(driver: psycopg.Connection[Any], table: EventTable, batches: Iterable[BinaryRows]) -> None:
    """Copies rows that are in COPY's binary form already into an event's table.

    Postgres refuses none of them: no type of one width has values that a table or an index cannot take.
    """
    with driver.cursor() as cursor, cursor.copy(_copy_statement(table)) as copy:
        copy.write(SIGNATURE)
        for batch in batches:
            copy.write(batch.data)
        copy.write(TRAILER)


def copy_rows(driver: psycopg.Connection[Any], table: EventTable, rows: Iterable[tuple[Any, ...]]) -> None:
    """Copies rows (in the order of ``table.column_names``) into an event's table, binary."""
    with driver.cursor() as cursor, cursor.copy(_copy_statement(table)) as copy:
        copy.set_types(table.column_types)
        for row in rows:
            copy.write_row(row)


def _copy_statement(table: EventTable) -> sql.Composed:
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        table.identifier, sql.SQL(", ").join(map(sql.Identifier, table.column_names))
    )


def copy_accepted(driver: psycopg.Connection[Any], rows: Sequence[Row], copy: Copy) -> list[tuple[Row, str]]:
    """Copies the rows that Postgres takes.

    Args:
        driver: in a transaction.
        rows: for one table.
        copy: copies some of them, on that connection.

    Returns:
        The rows that it refused, each with the reason. Every other row is in the table.
    """
    driver.execute(_SAVEPOINT)
    try:
        copy(rows)
    except REFUSALS as error:
        driver.execute(_BACK)
        driver.execute(_RELEASE)
        if len(rows) == 1:
            return [(rows[0], _reason(error))]
    else:
        driver.execute(_RELEASE)
        return []
    middle = len(rows) // 2
    return [*copy_accepted(driver, rows[:middle], copy), *copy_accepted(driver, rows[middle:], copy)]


def _reason(error: psycopg.Error) -> str:
    return f"Postgres refused the row: {error.diag.message_primary or error}"
