"""An analyst's open transaction, a digest, a plan: whatever is under way, heads go on while manifests are applied."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from indexer.cli.context import as_if_applied, difference
from indexer.settings import Settings
from indexer.store import database
from indexer.store.apply import drop, readable_views
from indexer.store.apply.apply import apply
from indexer.store.catalog import catalog
from indexer.store.catalog.version import (
    WRITER_WAIT,
    CatalogChangedError,
    advance_version,
    hold_for_change,
    hold_version,
    load_version,
    writing_by,
)
from indexer.store.database import BusyError, create_engine
from indexer.store.integrity import digests
from indexer.store.tokens import transfers
from indexer.sync.audit import table_checks
from indexer.sync.setup.declaration import declaration
from tests.integration.sync.rig import write_manifest
from tests.integration.sync.test_changes import chain_text, coins, indexed, url_of

PATIENCE = 60.0
READ = """
    SELECT table_schema, table_name FROM information_schema.tables
    WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2
"""


@contextmanager
def reading_everything(url: str) -> Iterator[None]:
    """A notebook that has read every table and view, and leaves its transaction open."""
    with psycopg.connect(url, application_name="notebook") as analyst:
        for schema, name in analyst.execute(READ).fetchall():
            analyst.execute(sql.SQL("SELECT * FROM {} LIMIT 1").format(sql.Identifier(schema, name)))
        yield
        analyst.rollback()


def set_defaults(url: str, whose: str, isolation: str) -> None:
    """Has transactions begin as others want them, by the defaults of a database or of our role in it."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT current_database(), current_user").fetchone()
        assert row is not None
        database, role = map(sql.Identifier, row)
        target = sql.SQL("DATABASE {}").format(database)
        if whose == "ROLE":
            target = sql.SQL("ROLE {} IN DATABASE {}").format(role, database)
        for setting, value in (("default_transaction_isolation", isolation), ("default_transaction_deferrable", "on")):
            connection.execute(
                sql.SQL("ALTER {} SET {} TO {}").format(target, sql.Identifier(setting), sql.Literal(value))
            )
    with psycopg.connect(url) as connection:
        assert connection.execute("SHOW transaction_isolation").fetchone() == (isolation,)


class Head:
    """Appends nothing, but commits as the follower does, again and again; keeps the longest time a commit took."""

    def __init__(self, engine: sa.Engine, chain_id: int) -> None:
        self._engine, self._chain_id = engine, chain_id
        self._stop = threading.Event()
        self.longest = 0.0
        self.commits = 0

    def run(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                with (
                    self._engine.begin() as connection,
                    writing_by(connection, load_version(connection)),
                ):
                    connection.execute(
                        sa.text("UPDATE gapless.chains SET tip_number = tip_number WHERE chain_id = :id"),
                        {"id": self._chain_id},
                    )
                self.commits += 1
            except CatalogChangedError:
                pass
            self.longest = max(self.longest, time.monotonic() - started)

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def moving(one) -> Iterator[Head]:
    head = Head(create_engine(one.engine.url.render_as_string(hide_password=False)), one.chain.chain_id)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(head.run)
        try:
            yield head
        finally:
            head.stop()
            running.result(PATIENCE)


@pytest.fixture
def one(shared_history, migrated_url, tmp_path):
    text = chain_text(shared_history) + coins(shared_history, "gold")
    with indexed(text, shared_history, migrated_url, tmp_path) as (rigged, follower):
        rigged.follower_now = follower
        rigged.text = text
        yield rigged


def wanted(one, text: str, tmp_path, history):
    return write_manifest(text, tmp_path, url_of(history))


@pytest.mark.promise("O-01")
def test_the_head_goes_on_while_an_analyst_reads_and_manifests_are_applied(one, shared_history, migrated_url, tmp_path):
    other = coins(shared_history, "silver").replace("contracts.coins", "contracts.other")
    with reading_everything(migrated_url), moving(one) as head:
        both = declaration(wanted(one, one.text + other, tmp_path, shared_history))
        assert apply(one.engine, both, patience=10), "a contract is added"
        assert one.query("SELECT count(*) FROM other.transfer_v") == [(0,)], "readers hold up no readable view"
        with pytest.raises(BusyError, match="notebook"):
            transfers.keep_view(one.engine, patience=0.5)
        assert one.follower_now.tick() is not None
        assert apply(one.engine, declaration(wanted(one, one.text, tmp_path, shared_history)), patience=10)
        enough = head.commits + 20
        deadline = time.monotonic() + PATIENCE
        while head.commits < enough:
            assert time.monotonic() < deadline, "the head stands still"
    assert head.longest < WRITER_WAIT, f"a commit took {head.longest:.1f} s"
    transfers.keep_view(one.engine)
    with one.engine.connect() as connection:
        assert "other" in connection.execute(sa.text("SELECT pg_get_viewdef('gapless.transfers')")).scalar_one()


@pytest.mark.promise("O-01")
def test_a_drop_that_readers_hold_up_holds_up_no_head(one, shared_history, migrated_url, tmp_path, monkeypatch):
    other = coins(shared_history, "silver").replace("contracts.coins", "contracts.other")
    apply(one.engine, declaration(wanted(one, one.text + other, tmp_path, shared_history)))
    apply(one.engine, declaration(wanted(one, one.text, tmp_path, shared_history)))
    with one.engine.connect() as connection:
        (gone,) = drop.find(connection, "other")
    with reading_everything(migrated_url), moving(one) as head:
        with pytest.raises(BusyError, match="notebook"):
            drop.drop(one.engine, gone, patience=1.0)
        monkeypatch.setattr(readable_views, "VERSION", readable_views.VERSION + 1)  # all are to be made anew
        with pytest.raises(BusyError, match="notebook"):
            readable_views.keep(one.engine, patience=0.5)
        assert head.commits
    assert head.longest < WRITER_WAIT
    assert one.query("SELECT count(*) > 1 FROM gapless.events WHERE view_name IS NOT NULL") == [(True,)]
    drop.drop(one.engine, gone)
    assert one.query("SELECT count(*) FROM gapless.contracts") == [(1,)]


@pytest.mark.promise("O-01")
def test_plans_and_dry_runs_lock_nothing(one, shared_history, tmp_path):
    """While every row of the catalog is locked, they say what they have to say."""
    manifest = wanted(one, one.text.replace("start_block = 1", "start_block = 5"), tmp_path, shared_history)
    settings = Settings()
    with one.engine.begin() as other:
        hold_for_change(other, wait=database.WAIT)
        for table in ("catalog", "chains", "contracts", "deployments", "events", "sources"):
            other.execute(sa.text(f"SELECT FROM gapless.{table} FOR UPDATE"))
        with ThreadPoolExecutor(1) as pool:
            (change,) = pool.submit(difference, one.engine, manifest).result(PATIENCE)
            assert str(change).startswith("~ source coins.Transfer")
            with as_if_applied(one.engine, manifest, settings) as (_, planned):
                (source,) = pool.submit(planned, one.chain.chain_id).result(PATIENCE).sources
            assert source.start_block == 5


def test_an_apply_beside_a_digest(one, shared_history, tmp_path):
    """A digest that takes long makes no apply wait, and does not become true of another catalog."""
    with one.engine.connect() as connection:
        version = load_version(connection)
        (source,) = catalog.load_sources(connection)
    more = declaration(wanted(one, one.text.replace("start_block = 1", "start_block = 2"), tmp_path, shared_history))
    with one.engine.begin() as connection:
        digests.lock_rewrites(connection, [source.source_id])
        digests.take(connection, source, shared_history.last)
        assert apply(one.engine, more, patience=5)
        with pytest.raises(CatalogChangedError):
            hold_version(connection, version)
        connection.rollback()
    assert table_checks.take_digests(one.engine, one.chain.chain_id) > 0


@pytest.fixture(params=["DATABASE", "ROLE"])
def whose(request) -> str:
    return request.param


@pytest.fixture(params=["repeatable read", "serializable"])
def other_defaults(request, whose, migrated_url) -> None:
    """A database, or a role in it, whose owner has other ideas of what a transaction is."""
    set_defaults(migrated_url, whose, request.param)


def test_other_defaults_of_the_database_change_nothing(other_defaults, shared_history, migrated_url, tmp_path):
    text = chain_text(shared_history) + coins(shared_history, "gold")
    with indexed(text, shared_history, migrated_url, tmp_path) as (one, _):
        assert one.rows()["coins.Transfer"]
        with one.engine.connect() as connection:
            # Two who look at the version: the second sees what the first has committed while it was in its transaction.
            version = load_version(connection)
            with one.engine.begin() as first:
                advance_version(first, version)
            with pytest.raises(CatalogChangedError):
                hold_version(connection, version)
        with one.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            assert connection.execute(sa.text("SHOW transaction_isolation")).scalar_one() == "read committed"
