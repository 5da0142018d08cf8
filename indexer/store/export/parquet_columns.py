"""The columns of an event's table in Parquet: types that DuckDB, polars and Spark all read alike.

| Postgres | Parquet |
| --- | --- |
| ``smallint``, ``integer``, ``bigint``, ``boolean``, ``text`` | INT16, INT32, INT64, BOOLEAN, STRING |
| ``timestamptz`` | TIMESTAMP in microseconds, in UTC |
| ``bytea`` | BYTE_ARRAY; not one of fixed length, which Spark refuses |
| ``numeric(78,0)`` | DECIMAL(38,0) where all values fit, the digits as STRING where not all do |
| other ``numeric`` | the digits as STRING |
| an array | LIST of these |
| ``jsonb`` | its text as STRING |

There is no column ``chain_id``: the folder's name says it (``chain_id=1``), and a column that the name of a folder
gives must not be in the files.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import orjson
import pyarrow as pa

from indexer.abi.columns import FIXED_COLUMNS, Column
from indexer.store.export.copy_numbers import DIGITS, decimal
from indexer.store.export.copy_reader import ROW, Field, Wire

DECIMAL: Final = pa.decimal128(DIGITS, 0)
TIMESTAMP: Final = pa.timestamp("us", "UTC")

_WHOLE: Final = "numeric(78,0)"
_FIXED_SIZES: Final = {"tx_hash": 32, "contract_address": 20}
_HASH_SIZE: Final = 32
_ADDRESS_SIZE: Final = 20

_PLAIN: Final[Mapping[str, tuple[Wire, pa.DataType]]] = {
    "smallint": ("smallint", pa.int16()),
    "integer": ("integer", pa.int32()),
    "bigint": ("bigint", pa.int64()),
    "boolean": ("boolean", pa.bool_()),
    "timestamptz": ("timestamptz", TIMESTAMP),
    "bytea": ("bytea", pa.binary()),
    "text": ("text", pa.string()),
}


def fixed_fields() -> list[Field]:
    """The columns with which every table begins, without ``chain_id``."""
    return [
        Field(name, f"{ROW}.{name}", *_PLAIN[pg_type], size=_FIXED_SIZES.get(name))
        for name, pg_type, _ in FIXED_COLUMNS
        if name != "chain_id"
    ]


def argument_fields(columns: Sequence[Column], wide: Collection[str]) -> list[Field]:
    """The columns of an event's arguments.

    Args:
        columns: as the catalog has them.
        wide: names of those whose numbers are written as text, since one of them does not fit.
    """
    return [_argument(column, column.name in wide) for column in columns]


def _argument(column: Column, is_wide: bool) -> Field:
    expression = f"{ROW}.{_quoted(column.name)}"
    if column.pg_type.endswith("[]"):
        return _array(column, expression, is_wide)
    if column.pg_type in _PLAIN:
        return Field(column.name, expression, *_PLAIN[column.pg_type], size=_size(column))
    if column.pg_type == _WHOLE and not is_wide:
        return Field(column.name, expression, "numeric", DECIMAL)
    return Field(column.name, f"{expression}::text", "text", pa.string())


def _array(column: Column, expression: str, is_wide: bool) -> Field:
    """Arrays come as JSON, each of them read by itself."""
    member = column.pg_type.removesuffix("[]")
    convert: Callable[[Any], Any] = _as_it_is
    if member == "bytea":
        kind, convert = pa.binary(), _hex_member
    elif member == _WHOLE and not is_wide:
        kind, convert = DECIMAL, decimal
    elif member in ("smallint", "integer", "bigint", "boolean"):
        kind = _PLAIN[member][1]
    else:
        kind = pa.string()
    if member.startswith("numeric"):
        expression += "::text[]"
    return Field(column.name, f"to_json({expression})::text", "text", pa.list_(kind), convert=_members(convert))


def _members(convert: Callable[[Any], Any]) -> Callable[[str], list[Any]]:
    return lambda text: [convert(member) for member in orjson.loads(text)]


def _hex_member(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _as_it_is(value: Any) -> Any:
    return value


def _size(column: Column) -> int | None:
    if column.pg_type != "bytea":
        return None
    if column.hashed:
        return _HASH_SIZE
    if column.abi_type == "address":
        return _ADDRESS_SIZE
    found = re.fullmatch(r"bytes(\d+)", column.abi_type)
    return int(found[1]) if found else None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def schema_of(fields: Sequence[Field], comments: Mapping[str, str], about: Mapping[str, str]) -> pa.Schema:
    """The Arrow schema of a file.

    Args:
        fields: its columns.
        comments: by column: what the table's column says.
        about: of the file itself, as key and value.
    """
    columns = [
        pa.field(field.name, field.kind, metadata={"comment": comments.get(field.name, ""), "stored_as": said(field)})
        for field in fields
    ]
    return pa.schema(columns, metadata=dict(about))


def said(field: Field) -> str:
    """How a column's values are written, for people."""
    if field.wire == "numeric" or field.kind == pa.list_(DECIMAL):
        return f"{field.kind}: every value has at most {DIGITS} digits"
    if field.wire == "text" and field.convert is None and field.expression.endswith("::text"):
        return "string: the value's digits, or its JSON"
    return str(field.kind)
