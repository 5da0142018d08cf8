"""A program that fails stands still alone, says where and why, and goes on from there with mended code."""

from __future__ import annotations

import os
import re
import signal
import time

import psycopg
import pytest
import sqlalchemy as sa

from indexer.programs import module
from indexer.programs.runner import ProgramRunner
from indexer.programs.supervisor import ProgramSupervisor, ProgramTask
from indexer.store import status
from indexer.store.programs import program_generations
from indexer.store.programs.program_generations import ProgramLostError
from tests.integration.balances.test_ledgers import CHAIN
from tests.integration.programs.test_histories import HERE, ProgramModel


@pytest.fixture
def model(migrated_url, tmp_path, pytestconfig):
    model = ProgramModel(5, migrated_url, tmp_path, pytestconfig.rootpath / "abis")
    model.join()
    while any(source.gap(model.finalized) for source in model.look()[1]):
        model.backfill()
    for _ in range(4):
        model.grow()
    model.join()
    yield model
    model.engine.dispose()


def work(runner):
    for _ in range(200):
        if (outcome := runner.step()) in ("idle", "stands"):
            return outcome
    raise AssertionError("it never comes to an end")


def code(model, text):
    path = model.folder / "chained.py"
    path.write_text((HERE / "chained.py").read_text() + text)
    return ProgramRunner(model.engine, "chained", module.load(path), CHAIN, step_rows=7)


def only(model):
    with model.engine.connect() as connection:
        (one,) = program_generations.load(connection)
        (state,) = connection.execute(sa.text("SELECT * FROM gapless.program_states")).all()
    return one, state


FAILS = """
@program.on("nft.Transfer")
def fails(event, db):
    if event.block_number >= {block}:
        db.get(Trail, token=event.address).moves = -1
"""


@pytest.mark.promise("Q-04")
@pytest.mark.parametrize("at", ["history", "head"])
def test_an_exception_halts_the_program_before_that_block(model, at):
    numbers = [n for n, logs in model.blocks.items() if any(log[0] == "nft.Transfer" for log in logs) and n >= 3]
    block = numbers[3] if at == "history" else numbers[-1]
    assert work(code(model, FAILS.format(block=block))) == "stands"
    one, state = only(model)
    assert (one.through_block, one.problem_block, state.stale) == (block - 1, block, True)
    assert f"nft.Transfer in block {block}, log " in one.problem
    assert "moves takes uint64: -1" in one.problem
    assert "chained.py, line" in one.problem
    with model.engine.connect() as connection:
        (shown,) = status.load_overview(connection).programs
    assert (shown["stale"], shown["problem"], shown["block_number"]) == (True, one.problem, block - 1)
    assert state.problem == one.problem
    model.check()

    assert work(code(model, "# mended")) == "idle"
    one, state = only(model)
    assert (one.through_block, one.problem, state.stale) == (model.tip, None, False)
    assert one.remark == f"from block {block} on, mended code handles its events"
    model.check()


@pytest.mark.promise("Q-05")
def test_other_code_is_built_beside_what_is_served(model):
    assert work(code(model, "")) == "idle"
    before, _ = only(model)
    runner = code(model, "# other")
    assert runner.step() == "moved"
    with model.engine.connect() as connection:
        old, new = program_generations.load(connection)
        (state,) = connection.execute(sa.text("SELECT * FROM gapless.program_states")).all()
    assert (old.program_id, old.live, old.served) == (before.program_id, False, True)
    assert (new.live, new.served) == (True, False)
    assert (state.block_number, state.stale, state.problem) == (model.tip, True, old.remark)
    assert state.rebuilt_to == new.through_block
    assert work(runner) == "idle"
    one, state = only(model)
    assert (one.program_id, one.served, state.stale) == (new.program_id, True, False)


def test_of_a_chain_that_was_deleted_nothing_is_left_once_the_program_begins_again(model):
    runner = code(model, "")
    work(runner)
    with model.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM gapless.programs"))  # as a reset of the chain does
    assert work(runner) == "idle"
    model.settle()


@pytest.mark.promise("Q-01")
def test_a_second_process_stands_by_and_a_former_writer_commits_nothing(model):
    first, second = code(model, ""), code(model, "")
    assert first.step() == "moved"
    second.step()  # its opening makes it the writer
    with pytest.raises(ProgramLostError):
        first._write(first._work)
    assert work(second) == "idle"
    model.check()


@pytest.mark.promise("Q-04")
def test_each_program_has_a_process_that_is_started_again(model, migrated_url):
    path = model.folder / "chained.py"
    path.write_text((HERE / "chained.py").read_text())
    supervisor = ProgramSupervisor(migrated_url)
    supervisor.take_over([ProgramTask("chained", path, (CHAIN,), 1_000)])
    try:
        until(model, lambda one: one.through_block == model.tip)
        model.check()
        pid = writer_of(model)
        os.kill(pid, signal.SIGKILL)
        with model.engine.begin() as connection:  # the lease of a killed process would last for some seconds
            connection.execute(sa.text("DELETE FROM gapless.leases WHERE name LIKE 'program%'"))
        model.grow()
        until(model, lambda one: one.through_block == model.tip)
        assert writer_of(model) != pid
    finally:
        supervisor.close()
    assert writer_of(model) is None
    model.check()


@pytest.mark.promise("Q-04")
def test_a_process_that_ends_again_and_again_is_a_problem_that_is_told(model, migrated_url):
    path = model.folder / "chained.py"
    ends = '@program.on("nft.Transfer")\ndef ends(event, db):\n    import os\n    os._exit(9)\n'
    path.write_text((HERE / "chained.py").read_text() + ends)
    supervisor = ProgramSupervisor(migrated_url)
    supervisor.take_over([ProgramTask("chained", path, (CHAIN,), 1_000)])
    try:
        until(model, lambda one: one.problem is not None)
        _, state = only(model)
        assert state.problem == "its process ended with status 9, and is started again: the log says why it ended"
        assert state.stale
        path.write_text((HERE / "chained.py").read_text())
        with model.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM gapless.leases WHERE name LIKE 'program%'"))
        until(model, lambda one: one.through_block == model.tip and one.problem is None)
    finally:
        supervisor.close()
    model.check()


def until(model, condition):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with model.engine.connect() as connection:
            found = program_generations.load(connection)
        if found and condition(found[-1]):
            return
        time.sleep(0.1)
    raise AssertionError(f"never: {found}")


def writer_of(model):
    """The number of the process that holds the program's lease."""
    with model.engine.connect() as connection:
        holder = connection.execute(
            sa.text("SELECT holder FROM gapless.leases WHERE name LIKE 'program%' AND expires_at > now()")
        ).scalar_one_or_none()
    return None if holder is None else int(re.search(r"([0-9]+)@", holder)[1])


def test_tables_of_programs_are_read_by_their_names(model, migrated_url):
    work(code(model, ""))
    with psycopg.connect(migrated_url) as connection:
        named = connection.execute(
            "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute "
            "WHERE attrelid = 'derived.held'::regclass AND attnum > 0 ORDER BY attnum"
        ).fetchall()
    assert named == [
        ("chain_id", "EIP-155 chain id"), ("holder", "address"), ("token", "address"), ("amount", "uint256"),
    ]  # fmt: skip


@pytest.mark.promise("Q-04")
def test_a_file_that_cannot_be_loaded_is_told_before_there_is_any_table(model, migrated_url):
    path = model.folder / "chained.py"
    path.write_text("import nowhere\n")
    supervisor = ProgramSupervisor(migrated_url)
    supervisor.take_over([ProgramTask("chained", path, (CHAIN,), 1_000)])
    try:
        shown = until_told(model, "chained.py, line 1: ModuleNotFoundError: No module named 'nowhere'")
        assert (shown["stale"], shown["block_number"], shown["tables"]) == (True, None, [])
        path.write_text("from indexer.programs import Table, key\n\n\nclass Held(Table):\n    holder: float = key()\n")
        until_told(model, "chained.py, line 4: ColumnError: table Held, column holder: float is no type of a column")
        path.write_text((HERE / "chained.py").read_text())
        until(model, lambda one: one.through_block == model.tip)
    finally:
        supervisor.close()
    _, state = only(model)
    assert (state.block_number, state.stale, state.problem) == (model.tip, False, None)


def until_told(model, said):
    deadline = time.monotonic() + 60
    found = []
    while time.monotonic() < deadline:
        with model.engine.connect() as connection:
            found = status.load_overview(connection).programs
        if found and said in (found[0]["problem"] or ""):
            (one,) = found
            return one
        time.sleep(0.1)
    raise AssertionError(f"never told: {found}")


def test_what_is_built_in_place_of_the_served_one_tells_why_it_stands_still(model):
    assert work(code(model, "")) == "idle"
    first = min(number for number, logs in model.blocks.items() if any(log[0] == "nft.Transfer" for log in logs))
    assert work(code(model, FAILS.format(block=first))) == "stands"
    with model.engine.connect() as connection:
        (shown,) = status.load_overview(connection).programs
        listed = connection.exec_driver_sql(
            "SELECT DISTINCT problem FROM gapless.derived_coverage WHERE kind = 'program' AND served"
        ).scalars()
        assert ["what is built in its place stands still: nft.Transfer in block" in one for one in listed] == [True]
    assert shown["problem"].startswith("what is built in its place stands still: nft.Transfer in block")
    assert (shown["stale"], shown["block_number"]) == (True, model.tip)


@pytest.mark.promise("Q-05")
def test_views_that_read_a_program_s_table_stay_when_it_is_built_anew(model, migrated_url):
    assert work(code(model, "")) == "idle"
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("CREATE VIEW public.mine AS SELECT holder, amount FROM derived.held")
        before = connection.execute("SELECT * FROM public.mine ORDER BY 1, 2").fetchall()
        assert before
        assert work(code(model, "# other")) == "idle"
        assert only(model)[1].stale is False
        assert connection.execute("SELECT * FROM public.mine ORDER BY 1, 2").fetchall() == before

        # A column goes that it may read: it stands in the way, and is named.
        path = model.folder / "chained.py"
        fewer = (
            (HERE / "chained.py").read_text().replace("amount: uint256", "kept: uint256").replace(".amount", ".kept")
        )
        path.write_text(fewer)
        now = [0.0]
        loaded = module.load(path)
        runner = ProgramRunner(model.engine, "chained", loaded, CHAIN, step_rows=7, clock=lambda: now[0])
        assert work(runner) == "idle"
        with model.engine.connect() as other:
            (shown,) = status.load_overview(other).programs
        assert "its new build waits: derived.held cannot be replaced" in shown["problem"]
        assert "view mine depends on view derived.held" in shown["problem"]
        assert connection.execute("SELECT * FROM public.mine ORDER BY 1, 2").fetchall() == before
        connection.execute("DROP VIEW public.mine")
        now[0] += 60
        assert work(runner) == "idle"
        assert only(model)[1].stale is False
        assert "kept" in [column.name for column in connection.execute("SELECT * FROM derived.held").description]
