"""The index builder's beat: next to nothing while nothing changes, and whatever is amiss is seen at the next one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from benchmarks.scale._setup import TOKEN, applied, apply_again, psycopg_url
from indexer.store.rows import indexes

PATIENCE = 60.0
MANIFEST = """
[chains.one]
id = 1
rpc = ["${RPC_URL}"]

[contracts.coin]
abi = "coin.json"
address = "0x00000000000000000000000000000000000000aa"
start_block = 1
"""
ABIS = {"coin.json": TOKEN}
WANTED = {"from_address", "to_address", "tx_hash"}


class Scene:
    """A builder that has seen that all is well, and a clock that moves by hand."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.now = 0.0
        self.builder = indexes.Builder(engine, lambda: self.now)
        assert self.beat() == 0

    def beat(self) -> int:
        return self.builder.run(threading.Event())

    def have(self) -> set[str]:
        with self.engine.connect() as connection:
            return {
                column
                for column in indexes.columns_with_index(connection, "coin", "transfer")
                if indexes.is_finished(connection, "coin", "transfer", column)
            }

    def name_of(self, column: str) -> str:
        (name,) = self.query(
            "SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_attribute a "
            "ON a.attrelid = i.indrelid AND a.attnum = i.indkey[1] WHERE i.indrelid = 'coin.transfer'::regclass "
            "AND NOT i.indisprimary AND a.attname = :column", column=column,
        )  # fmt: skip
        return str(name)

    def query(self, statement: str, **values: object) -> list[Any]:
        with self.engine.begin() as connection:
            result = connection.execute(sa.text(statement), values)
            return list(result.scalars()) if result.returns_rows else []

    @contextmanager
    def statements(self) -> Iterator[list[str]]:
        """The statements that are run meanwhile."""
        seen: list[str] = []

        def before(_one: object, _two: object, statement: str, *_rest: object) -> None:
            seen.append(statement)

        sa.event.listen(self.engine, "before_cursor_execute", before)
        try:
            yield seen
        finally:
            sa.event.remove(self.engine, "before_cursor_execute", before)


@pytest.fixture
def scene(postgres_url: str) -> Iterator[Scene]:
    with applied(postgres_url, MANIFEST, ABIS) as engine:
        one = Scene(engine)
        assert one.have() == WANTED
        yield one


def test_a_beat_that_finds_nothing_changed_is_one_small_statement(scene: Scene) -> None:
    for _ in range(3):
        with scene.statements() as seen:
            assert scene.beat() == 0
        assert len(seen) == 1, seen
        assert "pg_attribute" not in seen[0]
    # Something may have changed that no number shows: it is looked at as a whole from time to time.
    scene.now += indexes.COMPARE_AGAIN
    with scene.statements() as seen:
        assert scene.beat() == 0
    assert any("pg_attribute" in one for one in seen)


def test_so_it_is_while_indexes_are_put_off(scene: Scene) -> None:
    with scene.engine.begin() as connection:
        assert indexes.put_off(connection, [1]) == ["coin.Transfer"]
    assert (scene.beat(), scene.have()) == (0, set())
    with scene.statements() as seen:
        assert scene.beat() == 0
    assert len(seen) == 1, seen
    with scene.engine.begin() as connection:
        assert indexes.call_for(connection, [1]) == ["coin"]
    assert (scene.beat(), scene.have()) == (3, WANTED)


def test_what_a_hand_or_a_crash_did_to_an_index_is_mended_at_the_next_beat(scene: Scene) -> None:
    name = scene.name_of("tx_hash")
    scene.query(f'DROP INDEX coin."{name}"')
    assert (scene.beat(), scene.have()) == (1, WANTED)
    assert scene.beat() == 0
    # One that takes the place of another.
    name = scene.name_of("to_address")
    scene.query(f'DROP INDEX coin."{name}"')
    scene.query("CREATE INDEX other ON coin.transfer (chain_id, value, block_number, log_index)")
    assert (scene.beat(), scene.have()) == (2, WANTED)
    assert scene.beat() == 0
    name = scene.name_of("from_address")
    scene.query(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = CAST(:name AS regclass)", name=f"coin.{name}"
    )
    assert (scene.beat(), scene.have()) == (1, WANTED)


def test_what_a_manifest_wants_is_built_at_the_next_beat(scene: Scene, tmp_path: Path) -> None:
    scene.query(
        "INSERT INTO coin.transfer (chain_id, block_number, block_time, tx_hash, tx_index, log_index, "
        "contract_address) VALUES (1, 5, now(), '\\x00', 0, 0, '\\x00')"
    )
    apply_again(scene.engine, tmp_path, MANIFEST + 'indexes = { Transfer = ["value"] }\n', ABIS)
    assert (scene.beat(), scene.have()) == (1, {*WANTED, "value"})


def test_a_build_of_another_process_that_is_killed_is_taken_up(scene: Scene) -> None:
    name = scene.name_of("tx_hash")
    scene.query(f'DROP INDEX coin."{name}"')
    other = threading.Thread(target=_build_until_killed, args=(scene.engine,))
    with psycopg.connect(psycopg_url(scene.engine)) as writer:
        writer.execute("LOCK TABLE coin.transfer IN ROW EXCLUSIVE MODE")  # the build waits for this transaction's end
        other.start()
        pid = _wait_for(lambda: scene.query("SELECT pid FROM pg_stat_progress_create_index WHERE index_relid <> 0"))
        assert (scene.beat(), scene.beat()) == (0, 0)
        assert scene.query("SELECT pg_terminate_backend(:pid)", pid=pid) == [True]
        other.join(PATIENCE)
        assert not other.is_alive()
    assert (scene.beat(), scene.have()) == (1, WANTED)


def _build_until_killed(engine: Engine) -> None:
    with pytest.raises(psycopg.OperationalError), psycopg.connect(psycopg_url(engine), autocommit=True) as connection:
        connection.execute(indexes.create("coin", "transfer", "tx_hash", concurrently=True))


def _wait_for(ask: Any) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found[0]


def test_a_table_has_an_index_of_its_time_from_the_start_and_gets_one_that_is_lacking(scene: Scene) -> None:
    there = (
        "SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam "
        "WHERE i.indrelid = 'coin.transfer'::regclass AND m.amname = 'brin' AND i.indisvalid"
    )
    (name,) = scene.query(there)
    scene.query(f"DROP INDEX coin.{name}")
    with scene.engine.connect() as connection:
        (lacking,) = indexes.amiss(connection)
    assert (lacking.label, lacking.state) == ("coin.Transfer(block_time)", "waiting")
    assert scene.beat() == 1
    assert scene.query(there) == [name]
    with scene.engine.connect() as connection:
        connection.execute(sa.text("SET enable_seqscan = off"))
        for condition in ("block_time > now() - interval '1 day'", "contract_address = '\\x01'"):
            plan = connection.execute(sa.text(f"EXPLAIN SELECT FROM coin.transfer WHERE {condition}")).scalars()
            assert name in "\n".join(plan)
