"""Rows as ``COPY ... (FORMAT BINARY)`` wants them, made from columns of numpy arrays: many rows, no object for any.

Only what has one width in all rows of a batch, which makes a batch a matrix of bytes. The form is the Postgres
manual's ("COPY", Binary Format): for each row the number of fields (16 bits), for each field its length (32 bits) and
its value as the type's ``recv`` function reads it.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)

_EPOCH = 946_684_800
"""Postgres counts time from 2000-01-01; this is that day in Unix seconds."""

_BASE = 10_000
_PAIR = 10**8
_NEGATIVE = 0x4000
_INTEGERS = {"smallint": ">i2", "integer": ">i4", "bigint": ">i8"}


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
