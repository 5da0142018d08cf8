"""The tables of a program's generation: made, read by key, written by batches, and undone by block.

Each has a second table beside it, with the rows as they were before each block that can be reorganised: for every block
and key that it changed, the row before it, or that there was none (``existed``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.store.database import psycopg_connection

SCHEMA: Final = "derived"
_TIME: Final = "timestamptz"
_EPOCH: Final = 946_684_800
"""Postgres counts time from the year 2000, in microseconds."""

Row = tuple[Any, ...]
"""The values of a row, in the order of its table's columns without the chain."""


@dataclass(frozen=True, slots=True)
class ProgramColumn:
    """A column.

    Attributes:
        name: in Postgres.
        pg_type: its type there.
        key: whether it is a part of the key.
        nullable: whether it may be null.
        comment: for a person in psql.
    """

    name: str
    pg_type: str
    key: bool = False
    nullable: bool = False
    comment: str = ""


CHAIN_COLUMN: Final = ProgramColumn("chain_id", "bigint", key=True, comment="EIP-155 chain id")
"""Stands before the columns of every table."""


@dataclass(frozen=True, slots=True)
class ProgramTable:
    """A table of a program.

    Attributes:
        name: as it is read, in the schema ``derived``.
        columns: those of the program, in order; ``chain_id`` stands before them.
        stored_as: the table of one generation; empty: of none yet.
        comment: for a person in psql.
    """

    name: str
    columns: tuple[ProgramColumn, ...]
    stored_as: str = ""
    comment: str = ""

    @property
    def shape(self) -> tuple[object, ...]:
        """What makes it another table: its name, and the names, types and key of its columns."""
        return (self.name, *((c.name, c.pg_type, c.key, c.nullable) for c in self.columns))

    @property
    def identifier(self) -> sql.Identifier:
        """The table of its generation, quoted for SQL."""
        return sql.Identifier(SCHEMA, self.stored_as)

    @property
    def before(self) -> sql.Identifier:
        """The table with the rows before each block that can be reorganised."""
        return sql.Identifier(SCHEMA, f"{self.stored_as}_before")

    @property
    def key(self) -> tuple[ProgramColumn, ...]:
        """The columns of its key, without the chain."""
        return tuple(column for column in self.columns if column.key)

    def of_generation(self, program_id: int) -> "ProgramTable":
        """The same for a generation."""
        return replace(self, stored_as=f"{self.name[:40]}_p{program_id}")

    def to_json(self) -> dict[str, Any]:
        """A JSON object, for the catalog."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "ProgramTable":
        """The table that :meth:`to_json` wrote."""
        columns = tuple(ProgramColumn(**column) for column in document["columns"])
        return cls(**{**document, "columns": columns})


@dataclass(slots=True)
class TableChanges:
    """What one transaction changes in a table.

    Attributes:
        added: new rows.
        changed: other values of rows that are there.
        removed: keys of rows that go.
        before: (block number, whether the row existed, its values before that block).
    """

    added: list[Row] = field(default_factory=list)
    changed: list[Row] = field(default_factory=list)
    removed: list[Row] = field(default_factory=list)
    before: list[tuple[int, bool, Row]] = field(default_factory=list)


def create(connection: Connection, table: ProgramTable, comment: str) -> None:
    """Makes the table of a generation, and the one with the rows before each block."""
    driver = psycopg_connection(connection)
    key = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.key)
    columns = [
        sql.SQL("{} {}{}").format(
            sql.Identifier(c.name), sql.SQL(c.pg_type), sql.SQL("" if c.nullable else " NOT NULL")
        )
        for c in table.columns
    ]
    loose = [
        sql.SQL("{} {}{}").format(sql.Identifier(c.name), sql.SQL(c.pg_type), sql.SQL(" NOT NULL" if c.key else ""))
        for c in table.columns
    ]
    driver.execute(
        sql.SQL("CREATE TABLE {} (chain_id bigint NOT NULL, {}, PRIMARY KEY (chain_id, {}))").format(
            table.identifier, sql.SQL(", ").join(columns), key
        )
    )
    driver.execute(
        sql.SQL(
            "CREATE TABLE {} (block_number bigint NOT NULL, existed boolean NOT NULL, {}, "
            "PRIMARY KEY (block_number, {}))"
        ).format(table.before, sql.SQL(", ").join(loose), key)
    )
    for identifier, text in ((table.identifier, comment), (table.before, f"rows before each block: {comment}")):
        driver.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(identifier, sql.Literal(text)))


def drop(connection: Connection, table: ProgramTable) -> None:
    """Drops the tables of a generation."""
    driver = psycopg_connection(connection)
    driver.execute(sql.SQL("DROP TABLE IF EXISTS {}, {}").format(table.identifier, table.before))


def load_rows(connection: Connection, chain_id: int, table: ProgramTable, keys: Sequence[Row]) -> list[Row]:
    """The rows with some keys, as far as there are any."""
    given = sql.SQL(", ").join(sql.SQL("{}::{}[]").format(sql.Placeholder(), _array_type(c)) for c in table.key)
    statement = sql.SQL("SELECT {} FROM unnest({}) AS given ({}) JOIN {} t USING ({}) WHERE t.chain_id = {}").format(
        _values(table, "t"), given, _key_names(table), table.identifier, _key_names(table), sql.Placeholder()
    )
    return reading(psycopg_connection(connection)).execute(statement, [*_arrays(table, keys), chain_id]).fetchall()


def write(connection: Connection, chain_id: int, table: ProgramTable, changes: TableChanges) -> None:
    """Writes changes; every row that is changed or removed is there, none that is added is."""
    driver = psycopg_connection(connection)
    if changes.removed:
        given = sql.SQL(", ").join(sql.SQL("{}::{}[]").format(sql.Placeholder(), _array_type(c)) for c in table.key)
        same = sql.SQL(" AND ").join(
            sql.SQL("t.{0} = given.{0}").format(sql.Identifier(column.name)) for column in table.key
        )
        driver.execute(
            sql.SQL("DELETE FROM {} t USING unnest({}) AS given ({}) WHERE t.chain_id = {} AND {}").format(
                table.identifier, given, _key_names(table), sql.Placeholder(), same
            ),
            [*_arrays(table, changes.removed), chain_id],
        )
    if changes.changed:
        _update(driver, chain_id, table, changes.changed)
    if changes.added:
        types = ["int8", *(_plain_type(c) for c in table.columns)]
        target = sql.SQL("{} (chain_id, {})").format(table.identifier, _names(table))
        _copy(driver, target, types, ((chain_id, *row) for row in changes.added))
    if changes.before:
        types = ["int8", "bool", *(_plain_type(c) for c in table.columns)]
        target = sql.SQL("{} (block_number, existed, {})").format(table.before, _names(table))
        _copy(driver, target, types, ((block, existed, *row) for block, existed, row in changes.before))


def staged_as(table: ProgramTable) -> str:
    """The temporary table that changes of a table go through, until the end of the transaction."""
    return f"staged_{table.stored_as}"


def _update(driver: psycopg.Connection[Any], chain_id: int, table: ProgramTable, rows: Sequence[Row]) -> None:
    staged = sql.Identifier(staged_as(table))
    driver.execute(
        sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} LIMIT 0").format(
            staged, _names(table), table.identifier
        )
    )
    types = [_plain_type(c) for c in table.columns]
    _copy(driver, sql.SQL("{} ({})").format(staged, _names(table)), types, rows)
    values = [column for column in table.columns if not column.key]
    if values:
        assigned = sql.SQL(", ").join(sql.SQL("{0} = s.{0}").format(sql.Identifier(c.name)) for c in values)
        same = sql.SQL(" AND ").join(sql.SQL("t.{0} = s.{0}").format(sql.Identifier(c.name)) for c in table.key)
        driver.execute(
            sql.SQL("UPDATE {} t SET {} FROM {} s WHERE t.chain_id = {} AND {}").format(
                table.identifier, assigned, staged, sql.Literal(chain_id), same
            )
        )


def _copy(driver: psycopg.Connection[Any], target: sql.Composed, types: Sequence[str], rows: Iterable[Row]) -> None:
    with (
        driver.cursor() as cursor,
        cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(target)) as copy,
    ):
        cursor.adapters.register_dumper(_Time, _Time)
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


def take_back(connection: Connection, chain_id: int, table: ProgramTable, common: int) -> None:
    """Makes a table as it was at the end of a block, by the rows before each block above it."""
    driver = psycopg_connection(connection)
    key = _key_names(table)
    driver.execute(
        sql.SQL("""
            WITH first AS (
                SELECT DISTINCT ON ({key}) * FROM {before} WHERE block_number > {common} ORDER BY {key}, block_number
            ), gone AS (
                DELETE FROM {table} t USING first f WHERE t.chain_id = {chain} AND NOT f.existed AND {same}
            ), kept AS (
                INSERT INTO {table} (chain_id, {names}) SELECT {chain}, {names} FROM first WHERE existed
                ON CONFLICT (chain_id, {key}) DO UPDATE SET ({names}) = ROW({excluded})
            )
            DELETE FROM {before} WHERE block_number > {common}
        """).format(
            key=key,
            before=table.before,
            table=table.identifier,
            common=sql.Literal(common),
            chain=sql.Literal(chain_id),
            names=_names(table),
            excluded=_names(table, "excluded"),
            same=sql.SQL(" AND ").join(
                sql.SQL("t.{0} = f.{0}").format(sql.Identifier(column.name)) for column in table.key
            ),
        )
    )


def forget_before(connection: Connection, table: ProgramTable, finalized: int) -> None:
    """Forgets how rows were before blocks that can be reorganised no longer."""
    psycopg_connection(connection).execute(
        sql.SQL("DELETE FROM {} WHERE block_number <= %s").format(table.before), (finalized,)
    )


class _Time(psycopg.adapt.Dumper):
    """Writes seconds since 1970 as ``timestamptz``: microseconds since 2000."""

    format = psycopg.pq.Format.BINARY
    oid = psycopg.adapters.types[_TIME].oid

    def dump(self, obj: int) -> bytes:
        return ((obj - _EPOCH) * 1_000_000).to_bytes(8, "big", signed=True)


class _WholeNumber(psycopg.adapt.Loader):
    """Reads ``numeric`` as a Python integer; one with decimals stays a text."""

    def load(self, data: psycopg.abc.Buffer) -> Any:
        try:
            return int(bytes(data))
        except ValueError:
            return bytes(data).decode()


def reading(driver: psycopg.Connection[Any]) -> psycopg.Cursor[Row]:
    """A cursor whose ``numeric`` values are Python integers."""
    cursor = driver.cursor()
    cursor.adapters.register_loader("numeric", _WholeNumber)
    return cursor


def _names(table: ProgramTable, of: str = "") -> sql.Composed:
    return sql.SQL(", ").join(
        sql.Identifier(of, column.name) if of else sql.Identifier(column.name) for column in table.columns
    )


def _values(table: ProgramTable, of: str) -> sql.Composed:
    """The columns of a row as the program knows them: points in time in seconds."""
    return sql.SQL(", ").join(
        sql.SQL("extract(epoch FROM {})::bigint" if column.pg_type == _TIME else "{}").format(
            sql.Identifier(of, column.name)
        )
        for column in table.columns
    )


def _arrays(table: ProgramTable, keys: Iterable[Row]) -> list[list[Any]]:
    """Keys as one array for each column."""
    columns = [list(column) for column in zip(*keys, strict=True)]
    return [
        [datetime.fromtimestamp(seconds, UTC) for seconds in values] if column.pg_type == _TIME else values
        for column, values in zip(table.key, columns, strict=True)
    ]


def _key_names(table: ProgramTable) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in table.key)


def _plain_type(column: ProgramColumn) -> str:
    """The type without its modifiers, as ``COPY`` is told it."""
    return column.pg_type.partition("(")[0]


def _array_type(column: ProgramColumn) -> sql.SQL:
    return sql.SQL(_plain_type(column))
