"""What Postgres says of rules, rules that cannot be computed, and the end of derived tables."""

from __future__ import annotations

from typing import Any, cast

import psycopg
import pytest

from indexer.errors import ProblemsError
from indexer.store.apply import drop
from indexer.store.catalog import table_sizes
from indexer.store.database import DatabaseError
from indexer.store.derived import counting, generations, recount, steps
from indexer.sync import audit as auditing
from indexer.sync.audit.repair import Repair
from indexer.sync.history import derived_history
from tests.integration.balances.test_ledgers import CHAIN, Model

BASE = '[derived.one]\nfrom = "coins.Transfer"\nkey = { holder = "to_address" }\n'

MISTAKES = {
    "unknown column": ('sum = { x = "valu" }', "derived.one.sum.x", 'column "valu" does not exist'),
    "no SQL": ('sum = { x = "value +" }', "derived.one.sum.x", "syntax error"),
    "not a number": ('sum = { x = "from_address" }', "derived.one.sum.x", "this is bytea"),
    "no condition": ('where = "value"', "derived.one.where", "must be type boolean"),
    "not immutable": ('max = { x = "now()" }', "derived.one.max.x", "not immutable"),
    "random": ('where = "random() < 0.5"', "derived.one.where", "not immutable"),
    "depends on a setting": ('last = { x = "block_time::text" }', "derived.one.last.x", "not immutable"),
    "a subquery": ('last = { x = "(SELECT 1)" }', "derived.one.last.x", "a subquery may not stand there"),
    "an aggregate": ('last = { x = "sum(value)" }', "derived.one.last.x", "an aggregate function may not"),
    "no order": ('min = { x = "value > 1" }', "derived.one.min.x", "min(boolean) does not exist"),
    "unknown function": ('last = { x = "gapless.week(block_time)" }', "derived.one.last.x", "does not exist"),
    "a lookup's other type": (
        'lookup = { n = { event = "nft.Transfer", on = "token_id = from_address" } }',
        "derived.one.lookup.n.on",
        "operator does not exist",
    ),
    "a lookup's unknown column": (
        'lookup = { n = { event = "nft.Transfer", on = "token_id = value" } }\nlast = { x = "n.id" }',
        "derived.one.last.x",
        "does not exist",
    ),
}


class Rules(Model):
    text = ""

    def more(self) -> str:
        return self.text

    def set(self, text: str) -> None:
        self.text = text
        self.apply()

    def query(self, statement: str) -> list[tuple[object, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]


@pytest.fixture
def model(migrated_url, tmp_path, pytestconfig):
    one = Rules(1, migrated_url, tmp_path, pytestconfig.rootpath / "abis")
    yield one
    one.engine.dispose()


@pytest.mark.promise("D-04")
def test_all_mistakes_are_told_at_once_and_nothing_is_changed(model):
    text = "".join(BASE.replace("one", f"t{at}") + rest + "\n" for at, (rest, _, _) in enumerate(MISTAKES.values()))
    with pytest.raises(ProblemsError) as caught:
        model.set(text)
    found = {one.key: one.message for one in caught.value.problems}
    assert len(found) == len(MISTAKES)
    for at, (_, key, part) in enumerate(MISTAKES.values()):
        assert part in found[key.replace("one", f"t{at}")], found
    assert model.query("SELECT count(*) FROM gapless.derived") == [(0,)]


def test_a_view_is_tried_when_it_is_made_and_shows_no_secrets(model):
    views = (
        '[derived.wrong]\nsql = "SELECT nothing FROM coins.transfer"\nkey = ["nothing"]\n'
        '[derived.secret]\nsql = "SELECT id FROM gapless.api_keys"\nkey = ["id"]\n'
    )
    with pytest.raises(ProblemsError) as caught:
        model.set(BASE + views)
    found = {one.key: one.message for one in caught.value.problems}
    assert "does not exist" in found["derived.wrong.sql"]
    assert "only administrators" in found["derived.secret.sql"]
    assert model.query("SELECT name FROM gapless.derived") == [("one",)]


@pytest.mark.promise("D-03")
def test_a_rule_that_cannot_be_computed_stops_alone_at_its_block(model):
    model.set(BASE + 'count = "n"\n' + BASE.replace("one", "bad") + 'sum = { x = "1 / (block_number - 41)" }\n')
    while any(source.gap(model.finalized) for source in model.look()[1]):
        model.backfill()
    derived_history.catch_up(model.engine, CHAIN)
    model.join()
    for _ in range(20):
        model.grow()
        derived_history.catch_up(model.engine, CHAIN, step_rows=3)
    rows = model.query(
        "SELECT name, problem, problem_block, wanted - covered FROM gapless.derived_coverage ORDER BY name DESC"
    )
    (one, bad) = rows
    assert one[1:3] == (None, None)
    if model.query("SELECT FROM coins.transfer WHERE block_number = 41"):
        assert "division by zero" in str(bad[1])
        assert bad[2] == 41
    with model.engine.connect() as connection:
        for each in generations.progress(connection, CHAIN):
            assert recount.differences(connection, each, 3) == (0, [])


def test_what_is_no_longer_declared_keeps_its_rows_until_it_is_dropped(model):
    model.set(BASE + 'count = "n"\n[derived.every]\nsql = "SELECT * FROM derived.one"\nkey = ["holder"]\n')
    model.set("")
    assert model.query("SELECT * FROM derived.every") == []
    with model.engine.connect() as connection:
        (found,) = drop.find(connection, "one")
        assert not found.active
        assert [one.name for one in drop.retired(connection)] == ["every", "one"]
    drop.drop(model.engine, found)
    with pytest.raises(DatabaseError, match="gone already"):
        drop.drop(model.engine, found)
    names = "SELECT relname::text FROM pg_class WHERE relnamespace = 'derived'::regnamespace AND relkind IN ('r', 'v')"
    assert model.query(names) == []
    (remark,) = model.query("SELECT remark FROM gapless.derived WHERE name = 'every'")
    assert "does not fit what it reads" in str(remark[0])


def test_derived_tables_go_with_the_contract_that_they_read(model):
    model.set(
        '[derived.moves]\nfrom = "items.TransferSingle"\nkey = ["to_address"]\ncount = "n"\n'
        '[derived.crowd]\nfrom = "moves"\nkey = { n = "n" }\ncount = "holders"\n'
    )
    left = """
        SELECT relname::text FROM pg_class WHERE relnamespace = 'derived'::regnamespace
        UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'derived'::regnamespace
    """
    assert {("crowd_g1",), ("crowd_g1_1",), ("crowd_g1_f",)} <= set(model.query(left))
    with model.engine.connect() as connection:
        sizes = [one.name for one in table_sizes.load(connection) if one.kind == "derived"]
    assert sorted(sizes) == ["crowd", "crowd", "moves"]
    model.set("")
    with model.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE gapless.contracts SET active = false WHERE name = 'items'")
    with model.engine.connect() as connection:
        (found,) = drop.find(connection, "items")
    drop.drop(model.engine, found)
    assert model.query("SELECT count(*) FROM gapless.derived") == [(0,)]
    assert model.query(left) == []


@pytest.mark.promise("D-02")
def test_another_rule_is_built_beside_the_one_that_is_served(model):
    while any(source.gap(model.finalized) for source in model.look()[1]):
        model.backfill()
    model.set(BASE + 'sum = { total = "value" }\n')
    derived_history.catch_up(model.engine, CHAIN)
    before = model.query("SELECT * FROM derived.one ORDER BY holder")
    model.set(BASE + 'sum = { total = "value" }\ncount = "n"\n')
    assert model.query("SELECT * FROM derived.one ORDER BY holder") == before
    served = "SELECT generation, served, stale FROM gapless.derived_coverage ORDER BY generation"
    assert model.query(served) == [(1, True, True), (2, False, False)]
    with model.engine.connect() as connection:
        (new,) = [one for one in generations.progress(connection, CHAIN) if not one.generation.served]
    with model.engine.begin() as connection:
        steps.advance(connection, CHAIN, new.generation.derived_id, rows=1)
    assert steps.serve_caught_up(model.engine) == []
    derived_history.catch_up(model.engine, CHAIN)
    assert model.query(served) == [(2, True, False)]
    assert [row[:2] + row[3:] for row in model.query("SELECT * FROM derived.one ORDER BY holder")] == before
    # A reader's transaction holds it up for no longer than it reads.
    model.set(BASE + 'sum = { total = "value" }\n')
    model.set(BASE + 'sum = { total = "value" }\ncount = "n"\n')
    assert model.query(served) == [(2, True, False)]


@pytest.mark.promise("D-02")
def test_views_of_users_stay_when_what_they_read_is_built_anew(model, migrated_url):
    while any(source.gap(model.finalized) for source in model.look()[1]):
        model.backfill()
    rule = BASE + 'count = "n"\nsum = { total = "value" }\n'
    every = '[derived.every]\nsql = "SELECT chain_id, holder, n FROM derived.one"\nkey = ["holder"]\n'
    top = '[derived.top]\nsql = "SELECT * FROM derived.every WHERE n > 1"\nkey = ["holder"]\n'
    model.set(rule + every + top)
    derived_history.catch_up(model.engine, CHAIN)
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        connection.execute("CREATE VIEW public.mine AS SELECT holder, n FROM derived.top")
        before = connection.execute("SELECT * FROM public.mine ORDER BY 1").fetchall()
        assert before
        # Another rule with the same columns, and a view's other SELECT: what reads them is not touched.
        model.set(rule.replace("value", "value * 2") + every + top.replace("n > 1", "1 < n"))
        derived_history.catch_up(model.engine, CHAIN)
        assert model.query("SELECT name, generation FROM gapless.derived WHERE served ORDER BY 1") == [
            ("every", 1), ("one", 2), ("top", 2),
        ]  # fmt: skip
        assert connection.execute("SELECT * FROM public.mine ORDER BY 1").fetchall() == before
        # Other columns: what is read by a user stays as it was, and says who is in the way. Others are not held up.
        fewer = rule.replace("total", "amount") + every + top
        free = BASE.replace("one", "two") + 'count = "n"\n'
        model.set(fewer.replace("value", "value * 2") + free)
        model.set(fewer.replace("value", "value * 2") + free.replace('"n"', '"m"'))
        derived_history.catch_up(model.engine, CHAIN)
        ((stale, remark),) = model.query(
            "SELECT stale, remark FROM gapless.derived_coverage WHERE name = 'one' AND served"
        )
        assert stale
        assert "view mine depends on view derived.top; " in f"{remark}; "
        assert model.query("SELECT generation FROM gapless.derived WHERE name = 'two' AND served") == [(2,)]
        with pytest.raises(ProblemsError, match=r"view mine depends on view derived\.top"):
            model.set(fewer.replace("value", "value * 2").replace("SELECT *", "SELECT chain_id, holder"))
        assert connection.execute("SELECT * FROM public.mine ORDER BY 1").fetchall() == before
        connection.execute("DROP VIEW public.mine")
        derived_history.catch_up(model.engine, CHAIN)
        assert model.query("SELECT DISTINCT stale FROM gapless.derived_coverage WHERE name = 'one'") == [(False,)]
        assert connection.execute("SELECT holder, n FROM derived.top ORDER BY 1").fetchall() == before


def test_a_step_passes_over_what_another_one_counts(model, migrated_url):
    model.set(BASE + 'count = "n"\n')
    with psycopg.connect(migrated_url) as other:
        (row,) = other.execute("SELECT derived_id FROM gapless.derived_progress FOR UPDATE").fetchall()
        with model.engine.begin() as connection:
            assert steps.advance(connection, CHAIN, row[0]) is None


def test_a_block_takes_as_many_round_trips_for_ten_tables_as_for_one(model, monkeypatch):
    model.set(BASE + 'count = "n"\n')
    model.join()
    execute, asked = psycopg.Cursor.execute, []

    def counted(self, query, *args, **kwargs):
        asked[-1] += 1
        return execute(self, query, *args, **kwargs)

    for count in (1, 10):
        text = "".join(BASE.replace("one", f"t{at}") + f'sum = {{ x = "value + {at}" }}\n' for at in range(count))
        model.set(text)
        derived_history.catch_up(model.engine, CHAIN)
        _, sources, _ = model.look()
        event = next(source.event.event_id for source in sources if source.event.label == "coins.Transfer")
        with model.engine.begin() as connection, monkeypatch.context() as patch:
            asked.append(0)
            patch.setattr(psycopg.Cursor, "execute", counted)
            counting.extend(connection, CHAIN, (model.tip + 1, model.tip + 1), sources, [event])
            connection.rollback()
    assert asked[0] == asked[1] < 10, asked


@pytest.mark.promise("D-06")
def test_an_audit_names_the_keys_that_differ_and_a_repair_mends_them(model):
    model.set(
        BASE + 'count = "n"\naverage = { mean = "value" }\nfirst = { opened = "from_address" }\n'
        '[derived.big]\nfrom = "coins.Transfer"\nselect = { twice = "value * 2" }\nstored = true\n'
        '[derived.crowd]\nfrom = "one"\nkey = { n = "n" }\ncount = "holders"\n'
    )
    while any(source.gap(model.finalized) for source in model.look()[1]):
        model.backfill()
    derived_history.catch_up(model.engine, CHAIN)

    def found(**request):
        report = auditing.audit(model.engine, CHAIN, "chain", auditing.Request(**request))
        return {one.detail.partition(":")[0]: one for one in report.findings if one.kind == "derived"}

    def rows():
        return [model.query(f"SELECT * FROM derived.{name} ORDER BY 1, 2, 3") for name in ("one", "big", "crowd")]

    assert found() == {}
    before = rows()
    assert len(before[0]) > 1
    assert len(before[1]) > 1
    with model.engine.begin() as connection:
        for statement in (
            "UPDATE derived.one_g1 SET _rows = _rows + 1 WHERE holder = (SELECT min(holder) FROM derived.one_g1)",
            "DELETE FROM derived.one_g1 WHERE holder = (SELECT max(holder) FROM derived.one_g1)",
            "INSERT INTO derived.one_g1 SELECT chain_id, '\\x99', _sum_mean, 1, opened, 1, 1, 1, 1, 1 "
            "FROM derived.one_g1 LIMIT 1",
            "UPDATE derived.big_g1 SET twice = 7 WHERE ctid = (SELECT min(ctid) FROM derived.big_g1)",
            "DELETE FROM derived.crowd_g1_1 WHERE holder = (SELECT max(holder) FROM derived.crowd_g1_1)",
            "UPDATE derived.crowd_g1 SET _rows = 70 WHERE n = (SELECT min(n) FROM derived.crowd_g1)",
        ):
            connection.exec_driver_sql(statement)
    assert rows() != before
    wrong = found()
    assert {name: one.count for name, one in wrong.items()} == {
        **{"derived.one_g1": 3, "derived.big_g1": 1},
        "derived.crowd_g1": 2,  # a holder, and the wrong count; the right one follows from the holders that there are
    }
    assert "twice is 7, not" in wrong["derived.big_g1"].detail
    assert "and there must be one" in wrong["derived.one_g1"].detail
    assert "_rows is" in wrong["derived.one_g1"].detail
    assert found(within=(5, 6)) == {}, "what is summed up has no parts"
    versions = "SELECT sum(version) FROM gapless.derived_progress"
    (version,) = model.query(versions)
    with model.engine.begin() as connection:  # there is no node: blocks are made up
        connection.exec_driver_sql("DELETE FROM gapless.findings WHERE kind <> 'derived'")
    outcome = Repair(model.engine, cast(Any, None), CHAIN, "chain").findings()
    assert {one.kind for one in outcome.repaired} == {"derived"}
    assert rows() == before
    assert model.query(versions) > [version]
    assert found() == {}
