"""Exports as Parquet: the columns of a CSV, with types where no value can be lost by them. Needs pyarrow.

Imported with the first such export: pyarrow takes as long to import as the whole API.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from api.schemas import TIME, Schema
from indexer.store.export.copy_reader import ROW, CopyReader, Field, Wire, messages

#: Rows of a row group: an export holds so many in memory.
GROUP: Final = 32_768

_TIMESTAMP: Final = pa.timestamp("us", "UTC")
_TYPES: Final[Mapping[str, tuple[Wire, pa.DataType]]] = {
    "int2": ("smallint", pa.int16()),
    "int4": ("integer", pa.int32()),
    "int8": ("bigint", pa.int64()),
    "bool": ("boolean", pa.bool_()),
}


class WrittenBytes:
    """A file that keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._size = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        """Keep it."""
        self._waiting.append(bytes(data))
        self._size += len(data)
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._waiting)
        self._waiting.clear()
        return taken

    def tell(self) -> int:
        """Bytes so far."""
        return self._size

    def writable(self) -> bool:
        """Python's files tell this."""
        return True

    def flush(self) -> None:
        """Nothing waits for it."""

    def close(self) -> None:
        """There is nothing to close."""
        self.closed = True


def read(connection: psycopg.Connection[Any], query: str, columns: Mapping[str, Schema]) -> Iterator[bytes]:
    """The bytes of a Parquet file with the rows of a query.

    Args:
        connection: in a transaction.
        query: a SELECT without parameters.
        columns: what its columns are called, in order, each with the schema of its value.
    """
    aliases = ", ".join(f"c{position}" for position in range(len(columns)))
    rows = f"FROM ({query}) AS {ROW} ({aliases})"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * {rows} LIMIT 0".encode())
        oids = [column.type_code for column in cursor.description or ()]
        reader = CopyReader(_fields(connection, oids, columns))
        pieces = WrittenBytes()
        with (
            pq.ParquetWriter(pieces, reader.schema, compression="zstd", use_dictionary=True) as writer,
            cursor.copy(f"COPY (SELECT {reader.columns} {rows}) TO STDOUT (FORMAT BINARY)".encode()) as copy,
        ):
            waiting: list[pa.RecordBatch] = []
            for batch in reader.batches(messages(copy)):
                waiting.append(batch)
                if sum(one.num_rows for one in waiting) >= GROUP:
                    writer.write_table(pa.Table.from_batches(waiting))
                    waiting.clear()
                    yield pieces.take()
            if waiting:
                writer.write_table(pa.Table.from_batches(waiting))
        yield pieces.take()


def _fields(connection: psycopg.Connection[Any], oids: Sequence[int], columns: Mapping[str, Schema]) -> list[Field]:
    """What each column is read as: all but small integers, truth values and times is text."""
    found = []
    for position, (oid, (name, schema)) in enumerate(zip(oids, columns.items(), strict=True)):
        info = connection.adapters.types.get(oid)
        expression = f"{ROW}.c{position}"
        if schema == TIME:
            found.append(Field(name, f"{expression}::timestamptz", "timestamptz", _TIMESTAMP))
        elif info is not None and info.name in _TYPES:
            found.append(Field(name, expression, *_TYPES[info.name]))
        else:
            found.append(Field(name, f"{expression}::text", "text", pa.string()))
    return found
