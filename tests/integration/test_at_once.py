"""Several processes that begin at the same moment: one does what is to be done, the others go on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from indexer.cli.context import prepare
from indexer.demo.world import manifest_text
from indexer.store.apply import migrate
from indexer.store.apply.apply import apply
from indexer.store.database import DatabaseError, create_engine
from indexer.sync.setup.declaration import declaration
from tests.further import further
from tests.integration.sync.rig import write_manifest
from tests.ready import ReadyProcess

GAPLESS = [sys.executable, "-c", "from indexer.cli import main; main()"]
AT_ONCE = 4
ROUNDS = 5

CATALOG = """
    SELECT (SELECT count(*) FROM gapless.contracts WHERE active), (SELECT count(*) FROM gapless.events WHERE active),
           (SELECT count(*) FROM gapless.sources WHERE active), (SELECT count(*) FROM gapless.contracts),
           (SELECT count(*) FROM gapless.events), (SELECT count(*) FROM gapless.sources)
"""


@pytest.fixture
def manifest(shared_history, tmp_path):
    return write_manifest(manifest_text(shared_history.world), tmp_path, shared_history.world.w3.provider.endpoint_uri)


def _together(work: Any, urls: list[str]) -> list[Any]:
    """Runs the same on threads that begin at one moment, each with an engine of its own."""
    barrier = threading.Barrier(len(urls))

    def one(url: str) -> Any:
        engine = create_engine(url)
        try:
            barrier.wait(60)
            return work(engine)
        finally:
            engine.dispose()

    with ThreadPoolExecutor(len(urls)) as threads:
        return list(threads.map(one, urls))


def _catalog(url: str) -> Any:
    with psycopg.connect(url) as connection:
        return connection.execute(CATALOG).fetchone()


@pytest.fixture
def expected(migrated_url, manifest):
    engine = create_engine(migrated_url)
    apply(engine, declaration(manifest))
    engine.dispose()
    return _catalog(migrated_url)


@pytest.mark.promise("O-09")
@pytest.mark.parametrize("is_migrated", [False, further(True)], ids=["an empty database", "a migrated one"])
def test_first_applies_at_once_make_one_catalog(make_database, manifest, expected, is_migrated):
    for _ in range(ROUNDS):
        with make_database() as url:
            if is_migrated:
                engine = create_engine(url)
                migrate.upgrade(engine)
                engine.dispose()
            _together(lambda engine: prepare(engine, manifest), [url] * AT_ONCE)
            assert _catalog(url) == expected


def test_changes_at_once_end_as_one_of_them_asks(make_database, manifest, shared_history, tmp_path):
    """The manifest grows in all of them at once, after a first apply."""
    text = manifest_text(shared_history.world)
    small = text[: text.index("[contracts.", text.index("[contracts.") + 1)]
    (tmp_path / "small").mkdir()
    first = write_manifest(small, tmp_path / "small", shared_history.world.w3.provider.endpoint_uri)
    for _ in range(ROUNDS):
        with make_database() as url:
            engine = create_engine(url)
            prepare(engine, first)
            engine.dispose()
            _together(lambda engine: apply(engine, declaration(manifest)), [url] * AT_ONCE)
            assert _catalog(url)[0] == len(manifest.contracts)


def test_a_contradiction_that_no_other_process_made_is_still_told(migrated_url, manifest):
    """A table of somebody else's stands where ours would: trying again changes nothing, and it is said at once."""
    engine = create_engine(migrated_url)
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("CREATE FUNCTION gapless.refuse() RETURNS trigger LANGUAGE plpgsql AS "
                           "$$ BEGIN RAISE unique_violation USING MESSAGE = 'no'; END $$")  # fmt: skip
        connection.execute("CREATE TRIGGER refuse BEFORE INSERT ON gapless.contracts "
                           "FOR EACH ROW EXECUTE FUNCTION gapless.refuse()")  # fmt: skip
    with pytest.raises(DatabaseError, match="the manifest contradicts what is in the database: no"):
        apply(engine, declaration(manifest))
    engine.dispose()


@pytest.mark.promise("O-09")
def test_processes_that_begin_at_once_on_an_empty_database_all_go_on(
    make_database, manifest, shared_history, redis_url
):
    environment = {
        **os.environ,
        "RPC_URL": shared_history.world.w3.provider.endpoint_uri,
        "REDIS_URL": redis_url,
        "GAPLESS_MANIFEST": str(manifest.path),
        "LOG_FORMAT": "text",
    }
    for _ in range(2):
        with make_database() as url:
            begun = [
                ReadyProcess(
                    [*GAPLESS, *command],
                    env={**environment, "DATABASE_URL": url},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                for command in (["migrate"], ["migrate"], ["backfill", "coins"])
            ]
            said = [process.communicate(timeout=120)[0] for process in begun]
            assert [process.returncode for process in begun] == [0, 0, 0], "\n".join(said)
