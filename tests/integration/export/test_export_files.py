"""``gapless export``: files of covered, final rows, kept up to date, right at any instant."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
import threading
from decimal import Decimal

import psycopg
import pyarrow as pa
import pytest

from indexer.cli.export import export as command_of_export
from indexer.errors import GaplessError
from indexer.store.database import psycopg_connection
from indexer.store.export.folder import Folder, FolderError
from indexer.store.export.folder_manifest import ManifestError
from indexer.store.export.run import StoppedError
from tests import ready
from tests.integration.api import world
from tests.integration.api.seed import hex_of
from tests.integration.api.world import FINALIZED, GAP, START, TIP

COVERED = [(START, GAP[0] - 1), (GAP[1] + 1, 1099), (1100, 1199), (1200, 1200)]


def expected(exporter, last: int = FINALIZED, table: str = "usdc.transfer") -> list[tuple]:
    with exporter.engine.connect() as connection:
        return (
            psycopg_connection(connection)
            .execute(
                f"SELECT * FROM {table} WHERE block_number <= %s ORDER BY chain_id, block_number, log_index", [last]
            )
            .fetchall()
        )


def exported(exporter) -> list[tuple]:
    names = ["chain_id", *exporter.schema().names]
    return [tuple(row[name] for name in names) for row in exporter.rows()]


@pytest.mark.promise("X-01")
def test_the_files_hold_the_covered_final_rows_and_nothing_else(exporter):
    report = exporter.run()
    assert exported(exporter) == expected(exporter)
    assert exporter.blocks() == COVERED
    assert report.written == len(exporter.files()) == 4
    for one in exporter.manifest()["files"]:
        data = (exporter.out / one["path"]).read_bytes()
        assert (one["sha256"], one["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
        assert one["path"].startswith(f"chain_id=1/first_block={one['first_block'] // 100 * 100}/")


def test_a_second_run_writes_nothing(exporter):
    exporter.run()
    before = {name: (exporter.out / name).stat().st_ino for name in exporter.files()}
    assert exporter.run().written == 0
    assert {name: (exporter.out / name).stat().st_ino for name in exporter.files()} == before


@pytest.mark.promise("X-02")
def test_what_is_new_is_added_and_what_was_changed_is_written_anew(exporter, seed):
    exporter.run()
    first = exporter.files()
    with psycopg.connect(seed.url, autocommit=True) as connection:
        connection.execute("UPDATE usdc.transfer SET value = value + 1 WHERE block_number = 1150")
        connection.execute("UPDATE gapless.events SET version = version + 1, rewrite_version = rewrite_version + 1")
    seed.cover("usdc", (START, TIP))
    seed.head(TIP, finalized=1240)
    report = exporter.run()
    assert exported(exporter) == expected(exporter, 1240)
    assert (report.written, report.rewritten) == (3, 2), "one joined, one changed, one new"
    assert exporter.blocks() == [(1000, 1099), (1100, 1199), (1200, 1200), (1201, 1240)]
    assert [name for name in first if name in exporter.files()] == ["chain_id=1/first_block=1200/1200-1200.1.parquet"]
    assert set(exporter.on_disk()) == {*exporter.files(), "_manifest.json", ".lock"}, "what was replaced is deleted"


def test_files_stay_while_their_blocks_are_fetched_again(exporter, seed):
    exporter.run()
    seed.cover("usdc", (1150, TIP))
    report = exporter.run()
    assert report.set_apart == {"ethereum": ((START, GAP[0] - 1), (GAP[1] + 1, 1199))}
    assert exported(exporter) == expected(exporter)
    assert [one["covered"] for one in exporter.manifest()["files"]] == [False, False, False, True]
    seed.cover("usdc", (START, GAP[0] - 1), (GAP[1] + 1, TIP))
    assert exporter.run().set_apart == {}
    assert all(one["covered"] for one in exporter.manifest()["files"])


def test_blocks_that_can_be_reorganised_come_only_when_asked_for_and_are_written_anew(exporter, seed):
    exporter.run(unfinalized=True)
    assert exported(exporter) == expected(exporter, TIP)
    assert [one["final"] for one in exporter.manifest()["files"]] == [True] * 4 + [False]
    seed.reorg(1290, TIP, branch=1)
    seed.rows(
        "usdc",
        "Transfer",
        [{"block": 1295, "log": 1, "address": world.USDC, "from": world.BOB, "to": world.BOB, "value": 1, "branch": 1}],
    )
    seed.head(TIP, finalized=1210, branch=1)
    exporter.run(unfinalized=True)
    assert exported(exporter) == expected(exporter, TIP)
    exporter.run()
    assert exported(exporter) == expected(exporter, 1210)


def test_only_proven_blocks(exporter, seed):
    seed.execute("UPDATE gapless.sources SET verified = '{[1010,1020),[1035,1060)}'")
    exporter.run(proven=True)
    assert exporter.blocks() == [(1010, 1019), (1035, 1039), (1050, 1059)]
    with pytest.raises(ManifestError, match="--proven"):
        exporter.run()


def test_chosen_blocks_and_what_is_there_already(exporter):
    exporter.run(blocks=(1060, 1110))
    assert exporter.blocks() == [(1060, 1099), (1100, 1110)]
    exporter.run()
    assert exported(exporter) == expected(exporter)


@pytest.mark.promise("X-03")
def test_numbers_of_more_than_38_digits_are_text_in_all_files(exporter, seed):
    exporter.run()
    assert exporter.schema().field("value").type == pa.decimal128(38, 0)
    assert b"38 digits" in exporter.schema().field("value").metadata[b"stored_as"]
    row = {"block": 1199, "log": 9, "address": world.USDC, "from": world.BOB, "to": world.BOB, "value": 2**256 - 1}
    seed.rows("usdc", "Transfer", [row])
    report = exporter.run()
    assert exporter.manifest()["wide"] == ["value"]
    assert exporter.schema().field("value").type == pa.string()
    assert [str(row[-1]) for row in exported(exporter)] == [str(row[-1]) for row in expected(exporter)]
    assert report.written == 4
    assert set(exporter.on_disk()) == {*exporter.files(), "_manifest.json", ".lock"}


def test_every_type(exporter):
    exporter.label = "zoo.Everything"
    exporter.run()
    (row,) = exporter.rows()
    names = [column["name"] for column in exporter.manifest()["columns"]][6:]
    found = {name: row[name] for name in names}
    values = dict(zip(names, world.EVERYTHING.values(), strict=True))
    assert json.loads(found.pop("point")) == values.pop("point")
    assert found == values | {"wide": str(values["wide"]), "big": [str(number) for number in values["big"]]}
    assert exporter.manifest()["wide"] == ["wide", "big"] or exporter.manifest()["wide"] == ["big", "wide"]


def test_nulls_and_values_of_another_width(exporter, seed):
    seed.execute("UPDATE usdc.transfer SET value = NULL, from_address = '\\x01' WHERE block_number = 1010")
    seed.execute("UPDATE usdc.transfer SET value = -5, to_address = NULL WHERE block_number = 1011")
    exporter.run()
    assert exported(exporter) == expected(exporter)


def test_csv_and_ndjson(exporter):
    exporter.label = "zoo.Everything"
    exporter.run(file_format="csv")
    (name,) = exporter.files()
    text = pa.input_stream(exporter.out / name, compression="zstd").read().decode()
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["limit_value"] == str(2**48 - 1)
    assert row["wide"] == str(-(2**255))
    assert row["contract_address"] == hex_of(world.ZOO)
    assert json.loads(row["who"]) == [hex_of(world.ALICE), hex_of(world.BOB)]
    assert row["label"] == world.EVERYTHING["label"]
    assert exporter.run(file_format="csv").written == 0
    with pytest.raises(ManifestError, match="format csv, not ndjson"):
        exporter.run(file_format="ndjson")
    exporter.out = exporter.out / "other"
    exporter.run(file_format="ndjson")
    (name,) = exporter.files()
    text = pa.input_stream(exporter.out / name, compression="zstd").read().decode()
    row = json.loads(text)
    assert row["big"] == ["0", str(2**256 - 1)]
    assert row["point"] == world.EVERYTHING["point"]
    assert row["small"] == [1, 65535]
    assert row["raw"] == "0x"
    assert row["block_time"].endswith("Z")


@pytest.mark.promise("X-02")
def test_a_run_that_is_killed_at_any_write_leaves_a_folder_that_the_next_one_finishes(exporter, seed, monkeypatch):
    exporter.run(blocks=(1050, 1150))
    seed.cover("usdc", (START, TIP))
    wanted = expected(exporter)
    steps = 0
    while True:
        left = [steps]

        def fail(*_: object, left: list[int] = left) -> None:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1

        real_delete = Folder.delete
        with monkeypatch.context() as patched:
            for name in ("fsync", "unlink", "replace", "remove"):
                real = getattr(os, name)
                patched.setattr(os, name, lambda *a, real=real, fail=fail, **k: (fail(), real(*a, **k))[1])
            patched.setattr(Folder, "delete", lambda s, n, real=real_delete, fail=fail: (fail(), real(s, n))[1])
            try:
                exporter.run()
                break
            except KeyboardInterrupt:
                steps += 1
        named = [exporter.out / name for name in exporter.files()]
        assert all(path.exists() for path in named), "what the manifest names is there"
        tables = [pa.parquet.read_table(path, partitioning=None) for path in named]
        rows = pa.concat_tables(tables).select(["block_number", "log_index"]).to_pylist()
        assert len({(row["block_number"], row["log_index"]) for row in rows}) == len(rows)
    assert steps > 5
    assert exported(exporter) == wanted
    assert set(exporter.on_disk()) == {*exporter.files(), "_manifest.json", ".lock"}


def test_only_files_that_an_export_left_are_deleted(exporter):
    cell = exporter.out / "chain_id=1" / "first_block=1000"
    cell.mkdir(parents=True)
    left = ["1000-1099.7.parquet", "1000-1099.7.parquet.part"]
    mine = ["notes.txt", "chain_id=1/mine.parquet", "chain_id=1/first_block=1000/1000-1099.parquet.bak"]
    for path in [cell / name for name in left] + [exporter.out / name for name in mine]:
        path.write_text("something")
    exporter.run()
    assert not [name for name in left if (cell / name).exists()]
    assert set(mine) <= set(exporter.on_disk())


def test_it_stops_when_told_to(exporter):
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        exporter.run(stop)
    assert exporter.manifest()["files"] == []
    exporter.run()
    assert exported(exporter) == expected(exporter)


def test_two_at_once_and_folders_that_cannot_be_used(exporter, tmp_path):
    with exporter.folder().locked(), pytest.raises(FolderError, match="another export"):
        exporter.run()
    (exporter.out / "_manifest.json").write_text("{}")
    with pytest.raises(ManifestError, match="no manifest of an export"):
        exporter.run()
    file = tmp_path / "file"
    file.write_text("")
    exporter.out = file / "below"
    with pytest.raises(FolderError, match="cannot write"):
        exporter.run()


def test_the_command(exporter, seed, tmp_path, monkeypatch):
    (tmp_path / "indexer.toml").write_text(world.MANIFEST)
    environment = {"DATABASE_URL": seed.url, "GAPLESS_MANIFEST": str(tmp_path / "indexer.toml")}
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "PYTHONPATH")}
    command = [sys.executable, "-c", "from indexer.cli import main; main()", "export", "bridge"]
    command += ["--out", str(tmp_path / "all"), "--blocks-per-file", "1000"]
    done = ready.run(command, env=kept | environment, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bridge.Transfer: 2 files added and 0 written anew with 2 rows" in done.stdout
    exporter.out = tmp_path / "all" / "bridge" / "transfer"
    assert [(row["chain_id"], row["value"]) for row in exporter.rows()] == [(1, Decimal(1)), (8453, Decimal(8453))]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for arguments, said in (
        ({"name": "usdc.Nothing"}, "has no event Nothing"),
        ({"name": "nobody"}, "has no contract nobody"),
        ({"name": "usdc", "chain": "moon"}, "has no chain moon"),
        ({"name": "usdc", "first": 5, "last": 4}, "--from 5 lies after --to 4"),
        ({"name": "usdc", "out": "s9://user:secret@bucket/path"}, "cannot use s9://bucket/path"),
    ):
        with pytest.raises(GaplessError, match=said) as raised:
            command_of_export(**{"out": str(tmp_path / "none"), "first": 0, "last": None, "chain": None} | arguments)
        assert "secret" not in f"{raised.value}{raised.value.hint}"
