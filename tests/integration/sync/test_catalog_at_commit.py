"""What is written by a catalog is committed by it, whatever was waited for; and no one waits for a change for long."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa

from indexer.block_records import BlockColumns
from indexer.store import database
from indexer.store.catalog import catalog
from indexer.store.catalog import version as version_module
from indexer.store.catalog.version import (
    CatalogBusyError,
    CatalogChangedError,
    advance_version,
    hold_for_change,
    hold_version,
    load_version,
    writing_by,
)
from indexer.store.database import BusyError
from indexer.store.rows import writer
from indexer.store.rows.writer import Rows
from tests.integration.sync.test_changes import chain_text, coins, indexed, url_of
from tests.integration.sync.test_nobody_waits import set_defaults

PATIENCE = 30.0

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def until_one_waits(one, wait: str = WAITING) -> None:
    """Returns once a session of the test's database waits for a lock."""
    done = threading.Event()
    timer = threading.Timer(PATIENCE, done.set)
    timer.start()
    try:
        while not done.is_set():
            if one.query(wait) != [(0,)]:
                return
    finally:
        timer.cancel()
    raise AssertionError("nobody waits for a lock")


def write(one, sources, version: int) -> writer.WriteOutcome:
    with one.engine.begin() as connection:
        return writer.write_history(
            connection,
            one.chain.chain_id,
            (1, 20),
            sources,
            rows=Rows(),
            blocks=BlockColumns.of({}),
            catalog_version=version,
        )


@pytest.fixture
def defaults(request, migrated_url) -> None:
    """How transactions begin, where a test says so: of what, and with which isolation."""
    if hasattr(request, "param"):
        set_defaults(migrated_url, *request.param)


whatever_the_defaults = pytest.mark.parametrize(
    "defaults",
    [(whose, isolation) for whose in ("DATABASE", "ROLE") for isolation in ("repeatable read", "serializable")],
    indirect=True,
    ids=" ".join,
)


@pytest.fixture
def uncovered(defaults, shared_history, migrated_url, tmp_path):
    """Two coins; of the blocks 1 to 20 nothing is covered any more."""
    text = chain_text(shared_history)
    with indexed(text + coins(shared_history, "gold"), shared_history, migrated_url, tmp_path) as (one, _):
        with one.engine.begin() as connection:
            connection.execute(sa.text("UPDATE gapless.sources SET coverage = coverage - '{[1,21)}'::int8multirange"))
        yield one


@pytest.mark.promise("M-06")
@whatever_the_defaults
def test_what_waited_for_a_source_is_not_written_by_the_catalog_of_before(uncovered, shared_history, tmp_path):
    one = uncovered
    with one.engine.connect() as connection:
        version, sources = load_version(connection), catalog.load_sources(connection)
    with psycopg.connect(one.engine.url.set(drivername="postgresql").render_as_string(False)) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s, %s)", (writer._SOURCE_LOCK, sources[0].source_id))
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write, one, sources, version)
            until_one_waits(one)
            wanted = chain_text(shared_history) + coins(shared_history, "gold", "silver")
            one.apply(wanted, tmp_path, url_of(shared_history))
            other.rollback()
            with pytest.raises(CatalogChangedError):
                writing.result(PATIENCE)
    assert one.query("SELECT count(*) FROM gapless.sources WHERE coverage @> 5::bigint") == [(0,)]


@pytest.mark.promise("R-13")
@whatever_the_defaults
def test_of_two_who_write_the_same_one_is_overtaken(uncovered):
    """The second sees what the first has committed while it waited for the source."""
    one = uncovered
    with one.engine.connect() as connection:
        version, sources = load_version(connection), catalog.load_sources(connection)
    with ThreadPoolExecutor(1) as pool:
        with one.engine.begin() as first:
            outcome = writer.write_history(
                first,
                one.chain.chain_id,
                (1, 20),
                sources,
                rows=Rows(),
                blocks=BlockColumns.of({}),
                catalog_version=version,
            )
            assert outcome is writer.WriteOutcome.WRITTEN
            second = pool.submit(write, one, sources, version)
            until_one_waits(one)
        assert second.result(PATIENCE) is writer.WriteOutcome.OVERTAKEN


def test_what_was_dropped_under_a_writer_is_a_change_of_the_catalog(uncovered):
    with uncovered.engine.connect() as connection:
        version = load_version(connection)
    with (
        uncovered.engine.begin() as connection,
        pytest.raises(CatalogChangedError, match="dropped meanwhile"),
        writing_by(connection, version),
    ):
        connection.execute(sa.text("INSERT INTO coins.gone VALUES (1)"))


def test_a_change_that_takes_long_is_not_waited_for_for_ever(uncovered, monkeypatch):
    monkeypatch.setattr(version_module, "WRITER_WAIT", 0.2)
    with uncovered.engine.connect() as connection:
        version = load_version(connection)
    with uncovered.engine.begin() as other:
        hold_for_change(other, wait=1)
        with uncovered.engine.begin() as connection, pytest.raises(CatalogBusyError):
            hold_version(connection, version)
        with uncovered.engine.begin() as connection, pytest.raises(CatalogBusyError):
            advance_version(connection, version)


def test_what_cannot_be_locked_is_told_with_the_one_who_holds_it(uncovered):
    def drop(connection: sa.Connection) -> None:
        connection.execute(sa.text("ALTER TABLE coins.transfer ADD COLUMN more integer"))

    with psycopg.connect(
        uncovered.engine.url.set(drivername="postgresql").render_as_string(False), application_name="notebook"
    ) as analyst:
        analyst.execute("SELECT count(*) FROM coins.transfer")
        with pytest.raises(BusyError, match="is of notebook, process"):
            database.attempt(uncovered.engine, "it cannot be altered", drop, patience=0.5)
    database.attempt(uncovered.engine, "it cannot be altered", drop)


def test_many_writers_that_commit_keep_no_change_away(uncovered):
    """A row's lock, shared by one writer after the other, would never be free."""
    stop = threading.Event()

    def keep_writing() -> None:
        while not stop.is_set():
            with uncovered.engine.begin() as connection:
                hold_version(connection, load_version(connection))
                connection.execute(sa.text("SELECT pg_sleep(0.02)"))

    with ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(keep_writing) for _ in range(6)]
        try:
            for _ in range(5):
                database.attempt(
                    uncovered.engine,
                    "no change",
                    lambda connection: hold_for_change(connection, wait=database.WAIT),
                    patience=5,
                )
        finally:
            stop.set()
        for one in writers:
            one.result(PATIENCE)
