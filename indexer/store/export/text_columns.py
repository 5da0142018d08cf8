"""The columns of an event's table in CSV and NDJSON: bytes as ``0x...``, times in UTC, wide numbers as digits."""

from collections.abc import Sequence
from typing import Final, assert_never

from psycopg import sql

from indexer.abi.columns import FIXED_COLUMNS, Column
from indexer.store.export.copy_reader import ROW

#: COPY's CSV with delimiters that JSON cannot hold: lines of JSON go through it unchanged.
NDJSON_OPTIONS: Final = "(FORMAT csv, DELIMITER E'\\x02', QUOTE E'\\x01')"
CSV_OPTIONS: Final = "(FORMAT csv, HEADER)"

_HEX: Final = sql.SQL("'0x' || encode({}, 'hex')")
_TIME: Final = sql.SQL("""to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')""")
_TEXTS: Final = sql.SQL("{}::text[]")
_HEX_ARRAY: Final = sql.SQL(
    "ARRAY(SELECT '0x' || encode(b, 'hex') FROM unnest({}) WITH ORDINALITY u (b, n) ORDER BY n)"
)


def csv_query(columns: Sequence[Column], rows: sql.Composable) -> sql.Composed:
    """The rows of a table for ``COPY (...) TO STDOUT`` with :data:`CSV_OPTIONS`; arrays are JSON.

    Args:
        columns: the arguments' columns.
        rows: ``FROM``, ``WHERE`` and ``ORDER BY`` of the rows, named :data:`ROW`.
    """
    parts = [
        sql.SQL("{} AS {}").format(sql.SQL("to_json({})::text").format(value) if is_array else value, sql.Identifier(n))
        for n, value, is_array in _values(columns)
    ]
    return sql.SQL("SELECT {} {}").format(sql.SQL(", ").join(parts), rows)


def ndjson_query(columns: Sequence[Column], rows: sql.Composable) -> sql.Composed:
    """As :func:`csv_query`, a JSON object a row, with :data:`NDJSON_OPTIONS`."""
    parts = [sql.SQL("{} AS {}").format(value, sql.Identifier(name)) for name, value, _ in _values(columns)]
    return sql.SQL("SELECT row_to_json(r)::text FROM (SELECT {} {}) r").format(sql.SQL(", ").join(parts), rows)


def _values(columns: Sequence[Column]) -> list[tuple[str, sql.Composable, bool]]:
    """Each column: its name, its value, and whether that is an array."""
    found: list[tuple[str, sql.Composable, bool]] = []
    for name, pg_type, _ in FIXED_COLUMNS:
        value: sql.Composable = _column(name)
        if pg_type == "bytea":
            value = _HEX.format(value)
        elif pg_type == "timestamptz":
            value = _TIME.format(value)
        found.append((name, value, False))
    return found + [(column.name, _value(column), column.rendering.endswith("[]")) for column in columns]


def _column(name: str) -> sql.Composed:
    return sql.SQL("{}.{}").format(sql.SQL(ROW), sql.Identifier(name))


def _value(column: Column) -> sql.Composable:
    name = _column(column.name)
    match column.rendering:
        case "hex":
            return _HEX.format(name)
        case "string_integer" | "string_decimal":
            return sql.SQL("{}::text").format(name)
        case "hex[]":
            return _HEX_ARRAY.format(name)
        case "string_integer[]" | "string_decimal[]":
            return _TEXTS.format(name)
        case "integer" | "bool" | "text" | "json" | "integer[]" | "bool[]" | "text[]":
            return name
        case never:
            assert_never(never)
