"""An audit replays programs and names the keys that differ; a repair has them built anew."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Any, cast

import pytest

from indexer.programs import module
from indexer.programs.replay import Replay, compare
from indexer.programs.supervisor import ProgramTask
from indexer.service.program_audit import ProgramAudit
from indexer.store.programs import disturbances, program_generations
from indexer.sync import audit as auditing
from indexer.sync.audit.repair import Repair
from indexer.sync.audit.run import report_as_json
from tests.integration.balances.test_ledgers import CHAIN
from tests.integration.programs.test_standing import FAILS, code, model, only, work  # noqa: F401


def replayed(model, **sizes: int) -> Replay:  # noqa: F811
    return compare(model.engine, "chained", module.load(model.folder / "chained.py"), CHAIN, **sizes)


def number(model, query: str) -> int:  # noqa: F811
    with model.engine.connect() as connection:
        return int(connection.exec_driver_sql(query).scalar_one())


def spoil(model, *statements: str) -> None:  # noqa: F811
    one, _ = only(model)
    with model.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("_p", f"_p{one.program_id}"))


WRONG = (
    "UPDATE derived.held_p SET amount = amount + 1 WHERE holder = (SELECT min(holder) FROM derived.held_p)",
    "DELETE FROM derived.held_p WHERE holder = (SELECT max(holder) FROM derived.held_p)",
    "INSERT INTO derived.trail_p SELECT chain_id, '\\x99', digest, moves, last_block FROM derived.trail_p LIMIT 1",
)


@pytest.mark.parametrize("sizes", [{}, {"working_set": 4, "step_rows": 3, "write_rows": 2}])
def test_a_replay_gives_what_is_kept_and_leaves_nothing_behind(model, sizes):  # noqa: F811
    assert work(code(model, "")) == "idle"
    tables = "SELECT count(*) FROM pg_class WHERE relkind = 'r'"
    before = number(model, tables)
    found = replayed(model, **sizes)
    assert (found.told, found.differences, found.first, found.last) == ("", [], min(model.start, 3), model.tip)
    assert found.rows == sum(number(model, f"SELECT count(*) FROM derived.{name}") for name in ("held", "trail"))
    assert found.events > 20
    assert number(model, tables) == before
    assert Replay.from_json(asdict(found)) == found
    spoil(model, *WRONG)
    held, trail = replayed(model, **sizes).differences
    least = "SELECT count(*) FROM derived.held_p1 WHERE holder = (SELECT min(holder) FROM derived.held_p1)"
    assert held.table == "held_p1"
    assert held.count > number(model, least)
    assert "amount is " in held.detail
    assert (trail.table, trail.count, trail.detail) == ("trail_p1", 1, "a row of token \\x99, and there must be none")


@pytest.mark.promise("Q-06")
def test_an_audit_names_what_was_spoilt_and_a_repair_has_it_built_anew(model):  # noqa: F811
    runner = code(model, "")
    assert work(runner) == "idle"
    task = ProgramTask("chained", model.folder / "chained.py", (CHAIN,), 1000)

    def audit(**request: Any) -> auditing.Report:
        programs = ProgramAudit(model.engine, [task], threading.Event())
        return auditing.audit(model.engine, CHAIN, "chain", auditing.Request(**request), programs=programs)

    def found(report: auditing.Report) -> list[str]:
        return [one.detail for one in report.findings if one.kind == "program"]

    assert replayed(model).differences == []
    spoil(model, *WRONG)
    report = audit()
    held, trail = found(report)
    assert report.programs is not None
    assert (report.programs.told, report.programs.events > 20) == ({}, True)
    assert report_as_json("chain", report)["programs"] == {
        "events": report.programs.events, "rows": report.programs.rows, "told": {},
    }  # fmt: skip
    assert held.startswith("derived.held_p1 of program chained: ")
    assert trail == "derived.trail_p1 of program chained: a row of token \\x99, and there must be none"
    with model.engine.begin() as connection:  # there is no node: blocks are made up
        connection.exec_driver_sql("DELETE FROM gapless.findings WHERE kind <> 'program'")
    outcome = Repair(model.engine, cast(Any, None), CHAIN, "chain").findings()
    assert {one.kind for one in outcome.repaired} == {"program"}
    one, state = only(model)
    assert (one.program_id, state.stale) == (1, True)
    assert "an audit found rows that do not follow from its events" in state.problem
    # As long as it is not begun, that is told and no finding.
    assert "an audit found rows" in replayed(model).told
    assert work(runner) == "idle"
    one, state = only(model)
    assert (one.program_id, one.served, state.stale) == (2, True, False)
    model.check()
    assert replayed(model).differences == []
    assert number(model, "SELECT count(*) FROM gapless.findings WHERE kind = 'program'") == 0


def test_what_cannot_be_compared_is_told(model):  # noqa: F811
    path = model.folder / "chained.py"
    assert replayed(model).told == "it has no build yet"
    runner = code(model, "")
    work(runner)
    (one, _) = only(model)

    path.write_text(path.read_text() + "\n# other code\n")
    assert "of other code" in replayed(model).told
    path.write_text(path.read_text().removesuffix("\n# other code\n"))
    assert replayed(model).told == ""

    with model.engine.begin() as connection:
        disturbances.note_of(connection, one.program_id, one.through_block + 1, "behind it")
    assert replayed(model).told == ""
    with model.engine.begin() as connection:
        disturbances.note_of(connection, one.program_id, one.through_block, "a repair")
    assert "rows that it has handled have changed: a repair" in replayed(model).told
    with model.engine.begin() as connection:
        program_generations.freeze(connection, one, "other code is there")
    assert replayed(model).told == "what is served is stale: other code is there"
    # So is a process that ends.
    programs = ProgramAudit(model.engine, [ProgramTask("chained", path, (CHAIN,), 1000)], threading.Event())
    path.write_text("import os\nos._exit(7)")
    report = auditing.audit(model.engine, CHAIN, "chain", auditing.Request(), programs=programs)
    assert report.programs is not None
    assert "ended with status 7" in report.programs.told["chained"]


def test_one_that_stands_still_is_compared_up_to_where_it_stands(model):  # noqa: F811
    numbers = [n for n, logs in model.blocks.items() if any(log[0] == "nft.Transfer" for log in logs) and n >= 3]
    assert work(code(model, FAILS.format(block=numbers[3]))) == "stands"
    found = replayed(model)
    assert (found.last, found.differences) == (numbers[3] - 1, [])
    assert found.told.startswith("it stands still: nft.Transfer in block")
    spoil(model, "UPDATE derived.trail_p SET moves = moves + 1")
    assert [one.table for one in replayed(model).differences] == ["trail_p1"]
    # Mended code goes on from there: rows are of two codes then.
    work(code(model, "\n# mended\n"))
    assert "its rows are of more than one code" in replayed(model).told
