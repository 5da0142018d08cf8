"""Files are read back equal by the engines that people have: DuckDB, polars, pyarrow; and Spark could read them."""

from __future__ import annotations

import duckdb
import polars
import pyarrow.parquet as pq
import pytest

from tests.integration.export.test_export_files import expected, exported

#: What Spark's ParquetToSparkSchemaConverter takes, by physical type: logical types, "NONE" for none.
SPARK = {
    "BOOLEAN": {"NONE"},
    "INT32": {"NONE", "INT", "DATE", "DECIMAL"},
    "INT64": {"NONE", "INT", "TIMESTAMP", "DECIMAL"},
    "DOUBLE": {"NONE"},
    "BYTE_ARRAY": {"NONE", "STRING", "JSON", "DECIMAL"},
    "FIXED_LEN_BYTE_ARRAY": {"DECIMAL"},
}


@pytest.fixture(params=["usdc.Transfer", "zoo.Everything"])
def written(exporter, request):
    exporter.label = request.param
    exporter.run()
    return exporter


def test_duckdb_reads_the_same(written):
    names = ", ".join(f'"{name}"' for name in ["chain_id", *written.schema().names])
    query = f"SELECT {names} FROM read_parquet('{written.out}/**/*.parquet', hive_partitioning = true) ORDER BY 1, 2, 6"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = connection.execute(query).fetchall()
    assert rows == exported(written)
    by_manifest = [str(written.out / name) for name in written.files()]
    with duckdb.connect() as connection:
        (count,) = connection.execute("SELECT count(*) FROM read_parquet(?)", [by_manifest]).fetchone()
    assert count == len(rows)


def test_polars_reads_the_same(written):
    frame = polars.scan_parquet(written.out / "**/*.parquet", hive_partitioning=True).sort("block_number", "log_index")
    assert frame.select("chain_id", *written.schema().names).collect().rows() == exported(written)


def test_sums_are_exact(exporter):
    exporter.run()
    total = sum(int(row[-1]) for row in expected(exporter))  # Decimals would be rounded to 28 digits
    with duckdb.connect() as connection:
        (found,) = connection.execute(f"SELECT sum(value) FROM read_parquet('{exporter.out}/**/*.parquet')").fetchone()
    assert int(found) == total


def test_no_column_has_a_type_that_spark_refuses(written):
    for name in written.files():
        file = pq.ParquetFile(written.out / name)
        for position in range(len(file.schema)):
            column = file.schema.column(position)
            logical = column.logical_type.type
            assert logical in SPARK[column.physical_type], (column.name, column.physical_type, logical)
            if logical == "TIMESTAMP":
                assert '"timeUnit": "nanoseconds"' not in column.logical_type.to_json()
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
        assert {b"gapless.contract", b"gapless.signature", b"gapless.first_block"} <= set(file.metadata.metadata)
