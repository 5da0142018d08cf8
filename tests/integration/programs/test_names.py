"""Derived tables and programs share the schema ``derived``: no table takes the name of another."""

from __future__ import annotations

import psycopg
import pytest

from indexer.errors import ProblemsError
from indexer.programs.worker import ChainWork
from indexer.store.apply import drop
from indexer.store.derived import counting, generations, views
from indexer.store.derived.taken_names import TakenNameError
from indexer.store.programs import program_generations
from tests.integration.balances.test_ledgers import CHAIN
from tests.integration.programs.test_histories import HERE, ProgramModel

HELD = '[derived.held]\nfrom = "coins.Transfer"\nkey = { holder = "to_address" }\ncount = "moves"\n'
PROGRAM = f'[programs.chained]\nmodule = "{HERE}/chained.py"\n'


class Named(ProgramModel):
    text = ""

    def more(self) -> str:
        return self.text

    def fill(self) -> None:
        """All of history."""
        while any(source.gap(self.finalized) for source in self.look()[1]):
            self.backfill()

    def set(self, text: str) -> None:
        self.text = text
        self.apply()

    def refused(self, text: str) -> dict[str, str]:
        with pytest.raises(ProblemsError) as caught:
            self.set(text)
        return {one.key: one.message for one in caught.value.problems}

    def drop(self, name: str) -> None:
        with self.engine.connect() as connection:
            (found,) = drop.find(connection, name)
        drop.drop(self.engine, found)

    def shown(self) -> str | None:
        """What is told of the program."""
        with self.engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT problem FROM gapless.program_states")
            return rows.scalar_one_or_none()

    def columns(self) -> list[str]:
        with self.engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT * FROM derived.held LIMIT 0")
            return list(rows.keys())


@pytest.fixture
def model(migrated_url, tmp_path, pytestconfig):
    one = Named(1, migrated_url, tmp_path, pytestconfig.rootpath / "abis")
    one.fill()
    yield one
    one.engine.dispose()


@pytest.mark.promise("D-04")
def test_a_program_takes_no_derived_table_s_name(model):
    model.set(HELD)
    model.set("")  # its rows stay
    assert "kept by the derived table held" in model.refused(PROGRAM)["programs.chained.module"]
    # One that runs although its manifest was not applied does not take it either.
    with pytest.raises(TakenNameError, match="gapless drop held --kind derived"):
        model.runner.step()
    assert model.columns() == ["chain_id", "holder", "moves"]
    chain_work = ChainWork(model.engine, model.engine, model.runner, "chained", CHAIN)
    told = "it is tried again and again, and fails: derived.held is kept by the derived table held"
    for problem in ("", told):  # one failure may pass by itself
        chain_work._again_at = 0
        assert not chain_work.step()
        assert (model.shown() or "")[: len(told)] == problem

    model.text = ""
    model.drop("held")
    model.set(PROGRAM)
    chain_work._again_at = 0
    while chain_work.step():
        pass
    assert model.columns() == ["chain_id", "holder", "token", "amount"]
    assert model.shown() is None


@pytest.mark.promise("D-04")
def test_a_derived_table_takes_no_program_s_name(model):
    while model.runner.step() == "moved":
        pass
    with model.engine.begin() as connection:
        program_generations.retire(connection, [])
    assert "kept by the program chained, also where" in model.refused(HELD)["derived.held"]
    with model.engine.connect() as connection:
        (served,) = program_generations.load(connection)
    with model.engine.begin() as connection, pytest.raises(TakenNameError, match="the program chained"):
        program_generations.begin(
            connection, "other", served.chain_id, code_hash="", event_ids=[], tables=served.tables, start_block=1
        )
    assert model.columns() == ["chain_id", "holder", "token", "amount"]

    model.drop("chained")
    model.set(HELD)
    assert model.columns() == ["chain_id", "holder", "moves"]
    with model.engine.connect() as connection:
        left = connection.exec_driver_sql(
            "SELECT relname FROM pg_class WHERE relnamespace = 'derived'::regnamespace AND relkind IN ('r', 'v')"
        )
        assert sorted(left.scalars()) == ["held", "held_g1"]


def test_what_takes_derived_tables_back_leaves_programs_alone(model):
    while model.runner.step() == "moved":
        pass
    model.set(HELD.replace("held", "moves"))

    def state():
        with model.engine.connect() as connection:
            program = connection.exec_driver_sql("SELECT * FROM gapless.programs").one()
            coverage = connection.exec_driver_sql("SELECT * FROM gapless.derived_coverage WHERE kind = 'program'").all()
            return program, coverage, connection.exec_driver_sql("SELECT * FROM derived.held ORDER BY 1, 2, 3").all()

    before = state()
    _, sources, _ = model.look()
    ids = [source.event.event_id for source in sources]
    everywhere = ((0, model.tip),)
    with model.engine.begin() as connection:
        counting.uncount(connection, CHAIN, ids, everywhere)
        with counting.rewriting(connection, CHAIN, ids, everywhere):
            pass
        counting.take_back(connection, CHAIN, 1)
        counting.extend(connection, CHAIN, (model.tip + 1, model.tip + 1), sources, ids)
        assert {one.generation.name for one in generations.lock(connection, CHAIN)} == {"moves"}
        views.forget_reading(connection, ids)
    assert state() == before
    assert len(before[1]) == 2


def test_what_someone_else_has_made_is_left_alone(model, migrated_url):
    with psycopg.connect(migrated_url) as connection:
        connection.execute("CREATE VIEW derived.held AS SELECT 1 AS mine")
    assert "not Gapless' own" in model.refused(HELD)["derived.held"]
    assert model.columns() == ["mine"]
