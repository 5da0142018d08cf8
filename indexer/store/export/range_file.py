"""One file: the rows of an event's table in a range of blocks, and what they sum up to."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.abi.columns import FIXED_COLUMNS
from indexer.intervals import BlockRange
from indexer.store.catalog.catalog import CatalogEvent
from indexer.store.database import psycopg_connection
from indexer.store.export import text_columns
from indexer.store.export.copy_reader import ROW, CopyReader, Field, messages
from indexer.store.export.folder import Folder, Sink
from indexer.store.export.parquet_columns import argument_fields, fixed_fields, schema_of

#: Rows of a row group.
GROUP: Final = 131_072

# The name has a space: no column of a table has it.
_HASH: Final = Field("row hash", f"hash_record_extended({ROW}, 0)", "bigint", pa.int64())
_ADDRESS_SIZE: Final = 20


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: see :class:`~indexer.store.export.folder_manifest.RangeFile`."""

    rows: int
    checksum: int
    bytes: int = 0
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class RangeRows:
    """Rows of one table.

    Attributes:
        event: of which.
        chain_id, blocks: which of them.
    """

    event: CatalogEvent
    chain_id: int
    blocks: BlockRange

    def selected(self) -> sql.Composed:
        """``FROM`` and ``WHERE`` of the rows, named :data:`ROW`."""
        first, last = map(sql.Literal, self.blocks)
        return sql.SQL("FROM {} AS {} WHERE chain_id = {} AND block_number BETWEEN {} AND {}").format(
            self.event.table.identifier, sql.SQL(ROW), sql.Literal(self.chain_id), first, last
        )

    def in_order(self) -> sql.Composed:
        """The same in the order of blocks and logs."""
        return sql.SQL("{} ORDER BY block_number, log_index").format(self.selected())


def measure(connection: Connection, rows: RangeRows) -> tuple[int, int]:
    """How many rows the table has, and what their hashes sum up to."""
    row = (
        psycopg_connection(connection)
        .execute(sql.SQL("SELECT count(*), coalesce(sum({}), 0) {}").format(sql.SQL(_HASH.expression), rows.selected()))
        .fetchone()
    )
    assert row is not None
    return row[0], int(row[1])


def fields_of(event: CatalogEvent, wide: Sequence[str]) -> list[Field]:
    """The columns of an event's files in Parquet."""
    return [*fixed_fields(), *argument_fields(event.table.columns, wide)]


def write_parquet(
    connection: Connection, rows: RangeRows, folder: Folder, name: str, wide: Sequence[str], check: Callable[[], None]
) -> Written:
    """Writes rows as Parquet; no file where there are none.

    Args:
        connection: in a transaction.
        rows: what to write.
        folder: where.
        name: of the file.
        wide: columns whose numbers are text.
        check: called now and then; what it raises ends the writing, and there is no file.

    Raises:
        TooWideError: a number of another column has too many digits; its text is the column's name.
        FolderError: the file cannot be written.
    """
    fields = fields_of(rows.event, wide)
    reader = CopyReader([*fields, _HASH])
    query = sql.SQL("COPY (SELECT {} {}) TO STDOUT (FORMAT BINARY)").format(sql.SQL(reader.columns), rows.in_order())
    driver = psycopg_connection(connection)
    with driver.cursor() as cursor, cursor.copy(query) as copy:
        groups = _grouped(reader.batches(messages(copy)))
        first = next(groups, None)
        if first is None:
            return Written(0, 0)
        with folder.new_file(name) as sink:
            count, checksum = _write_groups(sink, chain([first], groups), fields, rows, check)
        return Written(count, checksum, sink.size, sink.digest)


def _grouped(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        waiting.append(batch)
        size += batch.num_rows
        if size >= GROUP:
            yield pa.Table.from_batches(waiting)
            waiting, size = [], 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _write_groups(
    sink: Sink, groups: Iterator[pa.Table], fields: Sequence[Field], rows: RangeRows, check: Callable[[], None]
) -> tuple[int, int]:
    schema = schema_of(fields, _comments(rows.event), _about(rows))
    names = [field.name for field in fields]
    repeated = [field.name for field in fields if field.size == _ADDRESS_SIZE]
    count = checksum = 0
    with pq.ParquetWriter(sink, schema, compression="zstd", use_dictionary=repeated) as writer:
        for group in groups:
            check()
            count += group.num_rows
            checksum += _sum(group.column(_HASH.name))
            writer.write_table(group.select(names).cast(schema), row_group_size=GROUP)
    return count, checksum


def _sum(hashes: pa.ChunkedArray) -> int:
    """The exact sum: that of 64 bits would overflow."""
    values = hashes.to_numpy()
    return (int(np.sum(values >> 32)) << 32) + int(np.sum(values & 0xFFFFFFFF))


def _comments(event: CatalogEvent) -> dict[str, str]:
    return {name: comment for name, _, comment in FIXED_COLUMNS} | {c.name: c.comment for c in event.table.columns}


def _about(rows: RangeRows) -> dict[str, str]:
    return {
        "gapless.contract": rows.event.contract,
        "gapless.event": rows.event.api_name,
        "gapless.signature": rows.event.signature,
        "gapless.chain_id": str(rows.chain_id),
        "gapless.first_block": str(rows.blocks[0]),
        "gapless.last_block": str(rows.blocks[1]),
    }


def write_text(
    connection: Connection, rows: RangeRows, folder: Folder, name: str, *, as_csv: bool, check: Callable[[], None]
) -> Written:
    """Writes rows as CSV or NDJSON, compressed by zstd; else as :func:`write_parquet`.

    Args:
        connection: in a transaction with one snapshot.
        rows: what to write.
        folder: where.
        name: of the file.
        as_csv: CSV with a line of names, or NDJSON.
        check: as of :func:`write_parquet`.
    """
    count, checksum = measure(connection, rows)
    if not count:
        return Written(0, 0)
    columns = rows.event.table.columns
    made, options = text_columns.ndjson_query(columns, rows.in_order()), text_columns.NDJSON_OPTIONS
    if as_csv:
        made, options = text_columns.csv_query(columns, rows.in_order()), text_columns.CSV_OPTIONS
    query = sql.SQL("COPY ({}) TO STDOUT WITH {}").format(made, sql.SQL(options))
    driver = psycopg_connection(connection)
    with (
        folder.new_file(name) as sink,
        pa.CompressedOutputStream(pa.PythonFile(sink, mode="w"), "zstd") as stream,
        driver.cursor() as cursor,
        cursor.copy(query) as copy,
    ):
        for piece in _pieces(copy):
            check()
            stream.write(piece)
    return Written(count, checksum, sink.size, sink.digest)


def _pieces(copy: psycopg.Copy, size: int = 1 << 20) -> Iterator[bytes]:
    waiting = bytearray()
    for message in messages(copy):
        waiting += message
        if len(waiting) >= size:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


def described_columns(event: CatalogEvent, fields: Sequence[Field]) -> list[dict[str, Any]]:
    """The columns for the folder's manifest: name, type of the ABI, and type in Parquet."""
    types = {column.name: column.abi_type for column in event.table.columns}
    return [{"name": f.name, "abi_type": types.get(f.name, ""), "type": str(f.kind)} for f in fields]
