"""Tables of events from an earlier version are upgraded, whole, and the rest goes on as it was."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from indexer.store.apply import migrate, readable_views
from indexer.store.catalog import catalog
from indexer.store.database import BusyError, DatabaseError
from indexer.store.integrity import digests
from tests.integration.sync.rig import rig

MANIFEST = """
[chains.demo]
id = 31337
rpc = ["${RPC_URL}"]
[contracts.coins]
abi = "ABIS/erc20.json"
address = "0x1111111111111111111111111111111111111111"
start_block = 0
""".replace("ABIS", str(Path(__file__).parents[2] / "abis"))


@pytest.fixture
def earlier(tmp_path, migrated_url):
    """A database as version 1 of the layout left it: with 100 rows."""
    with (
        rig(MANIFEST, tmp_path, "http://127.0.0.1:9", migrated_url) as it,
        psycopg.connect(migrated_url, autocommit=True) as plain,
    ):
        plain.execute("DROP VIEW gapless.transfers_v, gapless.transfers")
        for table, view in plain.execute("SELECT table_name, view_name FROM gapless.events").fetchall():
            plain.execute(f"DROP VIEW coins.{view}")
            plain.execute(f"ALTER TABLE coins.{table} ALTER tx_index TYPE integer, ALTER log_index TYPE integer")
        plain.execute("UPDATE gapless.events SET layout_version = 1, view_name = NULL")
        readable_views.keep(it.engine)
        plain.execute(
            "INSERT INTO coins.transfer SELECT 31337, n, now(), decode(repeat('ab', 32), 'hex'), n % 7, n, "
            "decode(repeat('11', 20), 'hex'), decode(repeat('22', 20), 'hex'), decode(repeat('33', 20), 'hex'), n "
            "FROM generate_series(1, 100) n"
        )
        plain.execute("CREATE VIEW gapless.transfers AS SELECT chain_id, block_number, log_index FROM coins.transfer")
        yield it.engine, plain


def measured(engine):
    with engine.connect() as connection:
        (source,) = [s for s in catalog.load_sources(connection, 31337) if s.event.label == "coins.Transfer"]
        return digests.measure(connection, source, (0, 1000)), digests.method(connection)


def types(plain):
    return {
        row[0]
        for row in plain.execute(
            "SELECT DISTINCT data_type FROM information_schema.columns "
            "WHERE table_schema = 'coins' AND column_name IN ('tx_index', 'log_index')"
        )
    }


def test_tables_are_upgraded_whole_and_digests_stay_true(earlier):
    engine, plain = earlier
    before = measured(engine)
    rows = plain.execute("SELECT * FROM coins.transfer ORDER BY block_number").fetchall()
    with pytest.raises(DatabaseError, match="tables of events have an earlier layout"):
        migrate.require_current(engine)
    assert migrate.upgrade(engine)
    assert types(plain) == {"bigint"}
    assert plain.execute("SELECT * FROM coins.transfer ORDER BY block_number").fetchall() == rows
    assert measured(engine) == before
    assert plain.execute("SELECT count(*), max(log_index) FROM coins.transfer_v").fetchone() == (100, 100)
    assert plain.execute("SELECT count(*), max(log_index) FROM gapless.transfers").fetchone() == (100, 100)
    migrate.require_current(engine)
    assert not migrate.upgrade(engine)
    plain.execute("UPDATE coins.transfer SET log_index = 4294967266 WHERE log_index = 100")


def test_a_table_that_is_being_read_is_upgraded_when_the_reader_has_gone(earlier, migrated_url):
    engine, plain = earlier
    reader = psycopg.connect(migrated_url)
    reader.execute("SELECT count(*) FROM coins.transfer")
    with pytest.raises(BusyError, match=r"coins\.transfer cannot be upgraded.*others hold locks"):
        migrate.upgrade_layouts(engine, patience=0.1)
    reader.close()
    assert migrate.upgrade_layouts(engine) >= 1
    assert types(plain) == {"bigint"}


def test_a_view_of_the_operators_is_named_and_kept(earlier):
    engine, plain = earlier
    plain.execute("CREATE VIEW public.mine AS SELECT log_index FROM coins.transfer")
    with pytest.raises(DatabaseError, match=r"coins\.transfer cannot be upgraded.*mine") as caught:
        migrate.upgrade(engine)
    assert "drop that view" in (caught.value.hint or "")
    plain.execute("DROP VIEW public.mine")
    migrate.upgrade(engine)
    assert types(plain) == {"bigint"}
