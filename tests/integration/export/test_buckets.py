"""An export to a bucket, through pyarrow's own client of S3."""

from __future__ import annotations

import hashlib
import json

import pytest
from pyarrow import dataset, fs

from indexer.store.export.folder import Folder, FolderError
from tests.integration.export.object_store import bucket
from tests.integration.export.test_export_files import expected


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with bucket() as one:
        yield one


def manifest_files(store) -> list[dict]:
    return json.loads(store.objects["exports/_manifest.json"])["files"]


@pytest.mark.promise("X-01")
def test_a_bucket_holds_the_rows_and_is_brought_up_to_date(exporter, store, monkeypatch):
    monkeypatch.setattr(exporter, "folder", lambda: Folder.at(store.url))
    assert exporter.run().written == 4
    manifest = json.loads(store.objects["exports/_manifest.json"])
    for one in manifest["files"]:
        data = store.objects[f"exports/{one['path']}"]
        assert (one["sha256"], one["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    before = {name: data for name, data in store.objects.items() if name.endswith(".parquet")}
    assert exporter.run().written == 0
    assert {name: data for name, data in store.objects.items() if name.endswith(".parquet")} == before

    with exporter.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE usdc.transfer SET value = value + 1 WHERE block_number = 1150")
    report = exporter.run(compare=True)
    assert report.rewritten == 1
    named = {f"exports/{one['path']}" for one in manifest_files(store)}
    assert {name for name, data in store.objects.items() if data} == named | {"exports/_manifest.json"}
    filesystem, path = fs.FileSystem.from_uri(store.url)
    names = ["/".join((path, one["path"])) for one in manifest_files(store)]
    table = dataset.dataset(names, filesystem=filesystem, format="parquet", partitioning="hive").to_table()
    rows = expected(exporter)
    assert table.num_rows == len(rows)
    assert sorted(table["value"].to_pylist()) == sorted(row[-1] for row in rows)


def test_a_bucket_that_refuses_is_named_and_keeps_what_it_had(exporter, store, monkeypatch):
    monkeypatch.setattr(exporter, "folder", lambda: Folder.at(store.url))
    store.refused = ".parquet"
    with pytest.raises(FolderError, match=r"cannot write .* in s3://bucket/exports") as error:
        exporter.run()
    assert "a-secret" not in str(error.value)
    assert "exports/_manifest.json" not in store.objects
    store.refused = None
    assert exporter.run().written == 4
