"""Event tables and series tables as SQL, and range sets as Postgres writes them.

Every contract is a Postgres schema and every event a table in it. A table begins with
:data:`indexer.abi.columns.FIXED_COLUMNS`; the arguments follow. Nothing here decides names: they were chosen by
``abi.names`` and are kept in the catalog.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from indexer.abi.columns import FIXED_COLUMNS, SERIES_COLUMNS, SERIES_FAILURES, Column
from indexer.intervals import BlockRange, RangeSet, normalise

LAYOUT_VERSION = 2
"""Of event tables: 1 had ``tx_index`` and ``log_index`` as ``integer`` (:mod:`indexer.store.apply.migrate`)."""

SERIES_KEY = ("chain_id", "block_number", "contract_address", "item")
SERIES_REQUIRED = (*SERIES_KEY, "block_time")


@dataclass(frozen=True, slots=True)
class EventTable:
    """The table of one event, as the catalog knows it."""

    event_id: int
    schema_name: str
    table_name: str
    columns: tuple[Column, ...]

    @property
    def identifier(self) -> sql.Identifier:
        """The qualified name, quoted for SQL."""
        return sql.Identifier(self.schema_name, self.table_name)

    def address(self, argument: str) -> sql.Composable:
        """An address among the arguments as SQL yields it, 20 bytes.

        Args:
            argument: the ABI's name; ``key.currency0`` for a component of a tuple, which is kept as JSON.
        """
        name, *path = argument.split(".")
        column = sql.Identifier(next(column.name for column in self.columns if column.argument == name))
        if not path:
            return column
        keys = sql.SQL(", ").join(map(sql.Literal, path))
        return sql.SQL("decode(substr({} #>> ARRAY[{}], 3), 'hex')").format(column, keys)

    def kept_path(self, argument: str) -> str:
        """The column of an argument, with the path of a component behind it; the column's name never changes."""
        name, dot, path = argument.partition(".")
        return next(column.name for column in self.columns if column.argument == name) + dot + path

    @property
    def column_names(self) -> tuple[str, ...]:
        """All columns in their order, the fixed ones first."""
        return tuple(column.name for column in FIXED_COLUMNS) + tuple(column.name for column in self.columns)

    @property
    def column_types(self) -> tuple[str, ...]:
        """Their Postgres types without modifiers, as psycopg's ``Copy.set_types`` names them."""
        types = [column.pg_type for column in FIXED_COLUMNS] + [column.pg_type for column in self.columns]
        return tuple(re.sub(r"\(.*?\)", "", pg_type) for pg_type in types)


def create_schema(schema_name: str, comment: str) -> list[sql.Composed]:
    """Statements that make a contract's schema."""
    return [
        sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema_name)),
        sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(schema_name), sql.Literal(comment)),
    ]


def create_event_table(table: EventTable, signature: str) -> list[sql.Composed]:
    """Statements that make an event's table, its primary key and its comments."""
    columns = [(name, pg_type, comment, True) for name, pg_type, comment in FIXED_COLUMNS]
    columns += [(column.name, column.pg_type, _comment(column), False) for column in table.columns]
    return _create_table(table.identifier, columns, ("chain_id", "block_number", "log_index"), f"event {signature}")


def _comment(column: Column) -> str:
    """What an argument is, and how its values are written and read."""
    if column.abi_type == "address" and not column.hashed:
        return f"{column.comment}; 20 bytes: gapless.hex shows it, gapless.addr('0x…') writes it"
    match column.rendering:
        case "hex":
            return f"{column.comment}; bytes: gapless.hex shows them"
        case "hex[]":
            return f"{column.comment}; a list of bytes: gapless.hexes shows them"
        case "string_integer":
            return f"{column.comment}; exact. An amount is in the smallest unit: gapless.units divides it"
        case "integer" | "string_decimal" | "bool" | "text" | "json":
            return column.comment
        case "integer[]" | "string_integer[]" | "string_decimal[]" | "bool[]" | "text[]":
            return column.comment


def create_series_table(
    schema_name: str, table_name: str, columns: Sequence[Column], comment: str
) -> list[sql.Composed]:
    """Statements that make the table of a snapshot series: one row a block, contract and list of arguments.

    An output whose call failed is null, and ``failures`` says why, by the call's signature.
    """
    described = [(name, pg_type, text, name in SERIES_REQUIRED) for name, pg_type, text in SERIES_COLUMNS]
    described += [(column.name, column.pg_type, column.comment, False) for column in columns]
    described.append((*SERIES_FAILURES, False))
    return _create_table(sql.Identifier(schema_name, table_name), described, SERIES_KEY, comment)


def _create_table(
    identifier: sql.Identifier, columns: Iterable[tuple[str, str, str, bool]], key: Sequence[str], comment: str
) -> list[sql.Composed]:
    columns = list(columns)
    lines = [
        sql.SQL("{} {}{}").format(sql.Identifier(name), sql.SQL(pg_type), sql.SQL(" NOT NULL" if required else ""))
        for name, pg_type, _, required in columns
    ]
    lines.append(sql.SQL("PRIMARY KEY ({})").format(sql.SQL(", ").join(map(sql.Identifier, key))))
    statements: list[sql.Composed] = [
        sql.SQL("CREATE TABLE {} ({})").format(identifier, sql.SQL(", ").join(lines)),
        sql.SQL("COMMENT ON TABLE {} IS {}").format(identifier, sql.Literal(comment)),
    ]
    statements += [
        sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(identifier, sql.Identifier(name), sql.Literal(text))
        for name, _, text, _ in columns
    ]
    return statements


def ranges_to_sql(ranges: Sequence[BlockRange]) -> str:
    """The literal of a range set, to be cast with ``::int8multirange``: ``{[1,6),[9,10)}``."""
    return "{" + ",".join(f"[{first},{last + 1})" for first, last in ranges) + "}"


def ranges_from_sql(value: Any) -> RangeSet:
    """Reads what the driver made of an ``int8multirange``: a sequence of ranges with ``lower`` and ``upper``."""
    return normalise((part.lower, part.upper - 1) for part in value)
