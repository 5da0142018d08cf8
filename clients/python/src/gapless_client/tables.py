"""Rows as an Arrow table or a pandas data frame. No value is rounded: what is no float in the database is none here.

| ABI type | Arrow | pandas |
| --- | --- | --- |
| integers of 48 bits or less | int64 | Int64 |
| uint56, uint64; int56, int64 | uint64; int64 | object of int |
| wider integers, and sums | decimal256 of as many digits; text of digits where one has more than 76 | object of int |
| fixed point, ``numeric`` of derived tables | decimal256, or text | object of Decimal |
| ``double precision`` of derived tables | double | Float64 |
| address, bytes, bytesN, hashes | string ``0x...``; with ``binary=True`` binary | object of str |
| bool, string | bool, string | boolean, object of str |
| arrays and tuples | list and struct of these | object of list and dict |
| times, days | timestamp(s, UTC), date32 | datetime64(s, UTC), object of date |

A column has one name: ``args.value`` for the argument ``value``, as in a CSV.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from gapless_client.document import DIGITS, FIXED, RowSchema, Schema, bits

Row = Mapping[str, Any]
Place = tuple[str, ...]

#: Digits that a decimal256 can hold; 2**256 - 1 has 78.
MOST_DIGITS: Final = 76


def arrow_table(pages: Iterable[Sequence[Row]], schema: RowSchema, *, binary: bool = False) -> pa.Table:
    """Rows as an Arrow table.

    A column's type follows from the ABI's, but where an integer of 256 bits has more than 76 digits (2**256 - 1, as in
    unlimited approvals): the column is text then, in the whole table.

    Args:
        pages: the rows.
        schema: of a row.
        binary: whether addresses, hashes and bytes are bytes, and not text ``0x...``.
    """
    rows = [row for page in pages for row in page]
    arrays, names = [], []
    for place, kind in _columns(rows, schema).items():
        values = [_at(row, place) for row in rows]
        arrow = arrow_type(kind, values, binary=binary)
        arrays.append(pa.array([_value(value, kind, arrow) for value in values], type=arrow))
        names.append(".".join(place))
    return pa.Table.from_arrays(arrays, names=names)


def data_frame(pages: Iterable[Sequence[Row]], schema: RowSchema) -> Any:
    """Rows as a pandas data frame, whose integers of more than 48 bits are Python's."""
    import pandas as pd

    rows = [row for page in pages for row in page]
    columns = {}
    for place, kind in _columns(rows, schema).items():
        values = [_at(row, place) for row in rows]
        columns[".".join(place)] = _series(values, kind)
    return pd.DataFrame(columns)


def _series(values: list[Any], kind: Schema) -> Any:
    import pandas as pd

    match kind.get("type"), kind.get("format"):
        case "integer", _:
            return pd.Series(values, dtype="Int64")
        case "number", _:
            return pd.Series(values, dtype="Float64")
        case "boolean", _:
            return pd.Series(values, dtype="boolean")
        case "string", "date-time":
            return pd.Series([None if v is None else _time(v) for v in values], dtype="datetime64[s, UTC]")
        case "string", "date":
            return pd.Series([None if v is None else date.fromisoformat(v) for v in values], dtype="object")
    return pd.Series(values, dtype="object")


def _columns(rows: Sequence[Row], schema: RowSchema) -> dict[Place, Schema]:
    """The columns: those of the schema, and of an object with any members (sums) those that the rows have."""
    found: dict[Place, Schema] = {}
    for place, kind in schema.columns().items():
        others = kind.get("additionalProperties")
        if not isinstance(others, dict) or "type" not in others:
            found[place] = kind
            continue
        for row in rows:
            found |= {(*place, name): others for name in _at(row, place) or {}}
    return found


def _at(row: Row, place: Place) -> Any:
    value: Any = row
    for name in place:
        if value is None:
            return None
        value = value.get(name)
    return value


def arrow_type(kind: Schema, values: Iterable[Any], *, binary: bool) -> Any:  # noqa: PLR0911  # one line a case
    """The type of a column.

    Args:
        kind: the schema of its values.
        values: all of them: a wide integer may have too many digits.
        binary: whether hex is bytes.
    """
    pattern = kind.get("pattern", "")
    match kind.get("type"):
        case "integer":
            return pa.int64()
        case "number":
            return pa.float64()
        case "boolean":
            return pa.bool_()
        case "string" if kind.get("format") == "date-time":
            return pa.timestamp("s", tz="UTC")
        case "string" if kind.get("format") == "date":
            return pa.date32()
        case "string" if pattern == DIGITS:
            return _integer_type(kind, values)
        case "string" if pattern == FIXED:
            return _fixed_type(kind, values)
        case "string" if pattern.startswith("^0x") and binary:
            return pa.binary()
        case "array":
            items = [item for value in values if value is not None for item in value]
            return pa.list_(arrow_type(kind.get("items", {}), items, binary=binary))
        case "object" if kind.get("properties"):
            there = [value for value in values if value is not None]
            members = kind["properties"].items()
            return pa.struct([(n, arrow_type(each, [v.get(n) for v in there], binary=binary)) for n, each in members])
    return pa.string()  # texts; objects of no known members are JSON


def _integer_type(kind: Schema, values: Iterable[Any]) -> Any:
    size = bits(kind)
    if 0 < size <= 64:
        return pa.uint64() if kind["x-name"].startswith("u") else pa.int64()
    if any(value is not None and abs(value) >= 10**MOST_DIGITS for value in values):
        return pa.string()
    return pa.decimal256(min(MOST_DIGITS, len(str(2**size)) if size else MOST_DIGITS), 0)


def _fixed_type(kind: Schema, values: Iterable[Any]) -> Any:
    if "x-name" not in kind:
        return _numeric_type([value for value in values if value is not None])
    scale = int(kind["x-name"].rpartition("x")[2])
    if scale > MOST_DIGITS or any(v is not None and abs(v) >= 10 ** (MOST_DIGITS - scale) for v in values):
        return pa.string()
    return pa.decimal256(MOST_DIGITS, scale)


def _numeric_type(values: Sequence[Decimal]) -> Any:
    """The type of a ``numeric`` of Postgres, whose decimals its values tell: text where a decimal256 is too small."""
    if not all(value.is_finite() for value in values):
        return pa.string()
    scale = max((-int(value.as_tuple().exponent) for value in values), default=0)
    whole = max((value.adjusted() + 1 for value in values if value), default=0)
    if scale < 0 or max(whole, 0) + scale > MOST_DIGITS:
        return pa.string()
    return pa.decimal256(MOST_DIGITS, scale)


def _value(value: Any, kind: Schema, arrow: Any) -> Any:  # noqa: PLR0911  # one line a case reads best
    """A value as pyarrow takes it for a type."""
    if value is None:
        return None
    if pa.types.is_list(arrow):
        return [_value(item, kind["items"], arrow.value_type) for item in value]
    if pa.types.is_struct(arrow):
        return {f.name: _value(value.get(f.name), kind["properties"][f.name], f.type) for f in arrow}
    if pa.types.is_decimal(arrow):
        return Decimal(value)
    if pa.types.is_timestamp(arrow):
        return _time(value)
    if pa.types.is_date(arrow):
        return date.fromisoformat(value)
    if pa.types.is_binary(arrow):
        return bytes.fromhex(value[2:])
    if pa.types.is_string(arrow) and not isinstance(value, str):
        return (
            json.dumps(value)
            if isinstance(value, dict | list)
            else f"{value:f}"
            if isinstance(value, Decimal)
            else str(value)
        )
    return value


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
