"""Derived tables of kind ``view`` over tables of programs: they wait for them, and stay when these are built anew."""

from __future__ import annotations

import pytest

from indexer.errors import ProblemsError
from indexer.programs import module
from indexer.store import status
from tests.integration.programs.test_histories import HERE
from tests.integration.programs.test_names import PROGRAM, Named

VIEWS = """
[derived.a_top]
sql = "SELECT * FROM derived.rich WHERE amount > 1"
key = ["holder", "token"]
[derived.rich]
sql = "SELECT chain_id, holder, token, amount FROM derived.held"
key = ["holder", "token"]
[derived.thief]
sql = "SELECT k.id, h.amount FROM derived.held h, gapless.api_keys k"
key = ["id"]
"""


@pytest.fixture
def model(migrated_url, tmp_path, pytestconfig):
    one = Named(1, migrated_url, tmp_path, pytestconfig.rootpath / "abis")
    one.fill()
    yield one
    one.engine.dispose()


def told(model) -> dict[str, str]:
    with model.engine.connect() as connection:
        return {one["name"]: one["remark"] for one in status.load_overview(connection).derived}


def rows(model, name: str) -> list[tuple[object, ...]]:
    with model.engine.connect() as connection:
        found = connection.exec_driver_sql(f"SELECT holder, token, amount FROM derived.{name} ORDER BY 1, 2")
        return [tuple(row) for row in found]


def work(model) -> None:
    for _ in range(200):
        if model.runner.step() in ("idle", "waits"):
            return
    raise AssertionError("it never comes to an end")


@pytest.mark.promise("D-02")
def test_a_view_over_a_program_s_table_waits_for_it_and_stays_when_it_is_built_anew(model):
    model.set(PROGRAM + VIEWS)
    waits = "it waits for a table that it reads, and that is not there yet"
    assert told(model) == {"a_top": waits, "rich": waits, "thief": waits}
    model.apply()  # nothing is wrong, and nothing is to be done
    with pytest.raises(ProblemsError) as caught:
        model.set(PROGRAM + VIEWS + '[derived.lost]\nsql = "SELECT * FROM derived.nowhere"\nkey = ["x"]\n')
    assert [one.key for one in caught.value.problems] == ["derived.lost.sql"]
    model.set(PROGRAM + VIEWS)

    work(model)
    assert rows(model, "rich") == rows(model, "held")
    assert rows(model, "a_top")
    assert told(model) == {
        "thief": "its sql is wrong: gapless.api_keys holds what only administrators read: it may not be shown"
    }
    model.set(PROGRAM + VIEWS[: VIEWS.index("[derived.thief]")])

    # Other columns: the views are made anew over them, as long as they fit.
    text = (HERE / "chained.py").read_text()
    build(model, text.replace("()\n    amount", "()\n    spent: int = 0\n    amount"))
    assert model.columns() == ["chain_id", "holder", "token", "spent", "amount"]
    assert rows(model, "rich") == rows(model, "held")
    assert told(model) == {}
    build(model, text.replace("amount", "kept"))
    assert model.columns() == ["chain_id", "holder", "token", "kept"]
    assert "does not fit what it reads" in told(model)["rich"]
    build(model, text)
    assert rows(model, "rich") == rows(model, "held")
    assert rows(model, "a_top")
    assert told(model) == {}


def build(model, text: str) -> None:
    path = model.folder / "chained.py"
    path.write_text(text)
    model.loaded = module.load(path)
    model.restart()
    work(model)
