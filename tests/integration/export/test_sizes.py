"""``gapless db size``: what takes the room."""

from __future__ import annotations

import json

import pytest

from indexer.cli.size import size
from indexer.errors import GaplessError
from tests.integration.api import world


@pytest.fixture
def environment(seed, tmp_path, monkeypatch):
    (tmp_path / "indexer.toml").write_text(world.MANIFEST)
    monkeypatch.setenv("DATABASE_URL", seed.url)
    monkeypatch.setenv("GAPLESS_MANIFEST", str(tmp_path / "indexer.toml"))


def test_every_table_has_its_size_and_what_it_is(seed, environment, capsys):
    seed.execute("UPDATE gapless.events SET active = false WHERE api_name = 'Approval'")
    seed.execute("CREATE TABLE usdc.notes (t text)")
    size(as_json=True)
    found = {one["table"]: one for one in json.loads(capsys.readouterr().out)}
    transfer = found["usdc.transfer"]
    assert (transfer["kind"], transfer["contract"], transfer["name"]) == ("event", "usdc", "Transfer")
    assert transfer["rows"] == len(world.transfers())
    (table, indexes) = seed.execute(
        "SELECT pg_table_size('usdc.transfer'), pg_indexes_size('usdc.transfer')"
    ).fetchone()
    assert (transfer["table_bytes"], transfer["index_bytes"]) == (table, indexes)
    assert found["coins.supply"]["kind"] == "snapshot"
    assert found["gapless.blocks"]["kind"] == "own"
    assert found["usdc.notes"]["kind"] == "other"
    assert not found["usdc.approval"]["active"]
    assert 0 < sum(one["share"] for one in found.values()) < 1
    tables = seed.execute(
        "SELECT count(*) FROM gapless.events UNION ALL SELECT count(*) FROM pg_tables WHERE schemaname = 'gapless'"
    ).fetchall()
    assert len(found) == sum(count for (count,) in tables) + 2


def test_as_people_read_it(seed, environment, capsys):
    size()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["table", "rows", "table", "indexes", "share"]
    assert any(line.startswith("usdc.Transfer ") for line in lines)
    assert any("more tables of gapless" in line for line in lines)
    size("usdc")
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines[1:]} == {"usdc.Transfer", "usdc.Approval"}
    with pytest.raises(GaplessError, match="no contract nobody"):
        size("nobody")
