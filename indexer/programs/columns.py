"""The types of a program's columns: annotations that say what Python value is kept as what in Postgres.

Beside those named here, ``int`` (of any size), ``bool``, ``str`` and ``bytes`` may be written, and each of them
``| None``. There are no floating-point numbers: an amount is exact.
"""

from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Final, TypeAlias, Union, get_args, get_origin


class ColumnError(TypeError):
    """A value that a column does not take, or an annotation that is no column."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What a column keeps.

    Attributes:
        name: as in an annotation.
        python: the type of its values.
        pg_type: the type in Postgres.
        low: the least number, or the least length of bytes.
        high: the greatest.
    """

    name: str
    python: type
    pg_type: str
    low: int | None = None
    high: int | None = None

    def check(self, value: object) -> None:
        """See that it takes a value.

        Raises:
            ColumnError: it does not.
        """
        if type(value) is not self.python:
            shown = f"{value!r} ({type(value).__name__})"
            raise ColumnError(f"takes {self.name}, that is {self.python.__name__}, and not {shown[:120]}")
        if self.low is not None:
            number = value if self.python is int else len(value)  # type: ignore[arg-type]
            if not self.low <= number <= self.high:  # type: ignore[operator]
                what = "is out of its range" if self.python is int else f"has {number} bytes"
                raise ColumnError(f"takes {self.name}: {value!r:.120} {what}")
        elif self.python is str and "\0" in value:  # type: ignore[operator]
            raise ColumnError("takes str: a text with a NUL byte cannot be stored")


def _number(bits: int, *, signed: bool) -> ColumnType:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    wide = bits + (not signed)
    pg_type = "smallint" if wide <= 16 else "integer" if wide <= 32 else "bigint" if wide <= 64 else "numeric(78,0)"
    return ColumnType(f"{'int' if signed else 'uint'}{bits}", int, pg_type, low, high)


address: TypeAlias = Annotated[bytes, ColumnType("address", bytes, "bytea", 20, 20)]
"""20 bytes."""
bytes32: TypeAlias = Annotated[bytes, ColumnType("bytes32", bytes, "bytea", 32, 32)]
"""32 bytes."""
timestamp: TypeAlias = Annotated[int, ColumnType("timestamp", int, "timestamptz", 0, 253_402_300_799)]
"""Seconds since 1970, as ``event.block_time``; a point in time in Postgres."""
uint8: TypeAlias = Annotated[int, _number(8, signed=False)]
uint16: TypeAlias = Annotated[int, _number(16, signed=False)]
uint32: TypeAlias = Annotated[int, _number(32, signed=False)]
uint64: TypeAlias = Annotated[int, _number(64, signed=False)]
uint128: TypeAlias = Annotated[int, _number(128, signed=False)]
uint256: TypeAlias = Annotated[int, _number(256, signed=False)]
int8: TypeAlias = Annotated[int, _number(8, signed=True)]
int16: TypeAlias = Annotated[int, _number(16, signed=True)]
int32: TypeAlias = Annotated[int, _number(32, signed=True)]
int64: TypeAlias = Annotated[int, _number(64, signed=True)]
int128: TypeAlias = Annotated[int, _number(128, signed=True)]
int256: TypeAlias = Annotated[int, _number(256, signed=True)]

_PLAIN: Final = {
    int: ColumnType("int", int, "numeric"),
    bool: ColumnType("bool", bool, "boolean"),
    str: ColumnType("str", str, "text"),
    bytes: ColumnType("bytes", bytes, "bytea"),
}


def column_type(annotation: Any) -> tuple[ColumnType, bool]:
    """What an annotation means, and whether ``None`` may stand there.

    Raises:
        ColumnError: it is no column.
    """
    if get_origin(annotation) in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not NoneType]
        if len(parts) == 1:
            return column_type(parts[0])[0], True
    if get_origin(annotation) is Annotated:
        for meta in get_args(annotation):
            if isinstance(meta, ColumnType):
                return meta, False
    if isinstance(annotation, type) and annotation in _PLAIN:
        return _PLAIN[annotation], False
    shown = getattr(annotation, "__name__", str(annotation))
    hint = ": amounts are whole numbers in the token's smallest unit" if annotation is float else ""
    raise ColumnError(f"{shown} is no type of a column{hint} (address, uint256, int, bool, str, bytes, timestamp, …)")
