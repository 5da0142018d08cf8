"""Two who keep the same block at the same time: one hash is stored, and whoever has another one is told."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from indexer.store.database import create_engine, psycopg_connection
from indexer.store.rows import blocks
from indexer.store.rows.blocks import Block, ForeignBlockError, insert_blocks
from tests.chaos.stage import COIN, stage

ONE, OTHER = Block(500, b"\1" * 32, 1000), Block(500, b"\2" * 32, 1000)


@pytest.fixture
def scene(chaos):
    with stage(chaos, "blocks") as one:
        one.apply(COIN)
        yield one


def chain_id(scene) -> int:
    return int(scene.query("SELECT chain_id FROM gapless.chains")[0][0])


def until_somebody_waits(scene) -> None:
    for _ in range(100_000):
        if scene.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            return
    raise AssertionError("nobody waits")


@pytest.mark.parametrize("other", [ONE, OTHER])
def test_a_block_that_another_commits_meanwhile(scene, other):
    outcome: list[Any] = []

    def insert() -> None:
        try:
            with scene.engine.begin() as connection:
                insert_blocks(connection, chain, [Block(499, b"\3" * 32, 998), other])
            outcome.append("kept")
        except ForeignBlockError as error:
            outcome.append(str(error))

    chain = chain_id(scene)
    with scene.engine.begin() as first:
        insert_blocks(first, chain, [ONE])
        thread = threading.Thread(target=insert)
        thread.start()
        until_somebody_waits(scene)
    thread.join()
    stored = scene.query("SELECT number, hash FROM gapless.blocks WHERE number >= 499 ORDER BY 1")
    if other is ONE:
        assert outcome == ["kept"]
        assert [number for number, _ in stored] == [499, 500]
    else:
        assert outcome[0].startswith("block 500 of chain")
        assert stored == [(500, ONE.hash)]


def test_a_block_that_is_gone_when_it_is_looked_at(scene, monkeypatch):
    chain = chain_id(scene)
    with scene.engine.begin() as connection:
        insert_blocks(connection, chain, [OTHER])
    asked = []

    class Between:
        """Deletes the row that was in the way as soon as the insert has met it."""

        def __init__(self, driver: psycopg.Connection[Any]) -> None:
            self.driver = driver

        def execute(self, *arguments: Any) -> psycopg.Cursor[Any]:
            cursor = self.driver.execute(*arguments)
            if not asked:
                asked.append(1)
                scene.query("DELETE FROM gapless.blocks WHERE number = 500 RETURNING 1")
            return cursor

    engine = create_engine(scene.database_url)
    with engine.begin() as connection:
        monkeypatch.setattr(blocks, "psycopg_connection", lambda c: Between(psycopg_connection(c)))
        insert_blocks(connection, chain, [ONE])
    engine.dispose()
    assert scene.query("SELECT hash FROM gapless.blocks WHERE number = 500") == [(ONE.hash,)]


def test_a_block_that_is_relied_upon_cannot_be_deleted_before_the_commit(scene):
    chain = chain_id(scene)
    with scene.engine.begin() as connection:
        insert_blocks(connection, chain, [ONE])
    with scene.engine.begin() as connection:
        insert_blocks(connection, chain, [ONE])
        with psycopg.connect(scene.database_url) as other:
            other.execute("SET lock_timeout = '50ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("DELETE FROM gapless.blocks WHERE number = 500")
