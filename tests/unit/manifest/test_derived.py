"""``[derived.NAME]``: what is read of it, and what a mistake is told without a database."""

from collections.abc import Callable

import pytest
from manifest_desk import ETHEREUM, Desk
from manifest_mistakes import ERC20

from indexer.errors import Problem

BASE = ETHEREUM + ERC20 + 'events = ["Transfer"]\n'
FLOW = '[derived.flow]\nfrom = "usdc.Transfer"\nkey = ["to_address"]\n'

MISTAKES: dict[str, tuple[str, str, str]] = {
    "no input": ("[derived.a]\nselect = { x = '1' }\n", "derived.a.from", "expected an event"),
    "unknown key": (FLOW + "summ = { x = 'value' }\n", "derived.flow.summ", "did you mean sum?"),
    "unknown contract": ('[derived.a]\nfrom = "usd.Transfer"\n', "derived.a.from", "did you mean usdc?"),
    "unknown event": ('[derived.a]\nfrom = "usdc.Transfers"\n', "derived.a.from", "did you mean Transfer?"),
    "event not indexed": ('[derived.a]\nfrom = "usdc.Approval"\n', "derived.a.from", "add it to contracts.usdc.events"),
    "unknown rows": ('[derived.a]\nfrom = "b"\n', "derived.a.from", "there is no derived table b"),
    "rows of an aggregate": (FLOW + '[derived.a]\nfrom = "flow"\n', "derived.a.from", "of kind aggregate"),
    "an aggregate of a view": (
        "[derived.v]\nsql = 'SELECT 1'\nkey = ['x']\n[derived.a]\nfrom = 'v'\nkey = ['x']\n",
        "derived.a.from",
        "Write a view instead",
    ),
    "the largest of an aggregate": (
        FLOW + "[derived.a]\nfrom = 'flow'\nkey = ['to_address']\nmax = { m = 'to_address' }\n",
        "derived.a.max",
        "no place among the logs",
    ),
    "a lookup for an aggregate": (
        FLOW + "[derived.a]\nfrom = 'flow'\nkey = ['to_address']\n"
        "lookup = { l = { event = 'usdc.Transfer', on = 'value = 1' } }\n",
        "derived.a.lookup",
        "no place among the logs",
    ),
    "a part that nothing reads": (FLOW + "stored = false\n", "derived.flow.stored", "nothing reads it"),
    "a part that a view reads": (
        FLOW + "stored = false\n[derived.a]\nfrom = 'flow'\nkey = ['to_address']\n"
        "[derived.v]\nsql = 'SELECT * FROM derived.flow'\nkey = ['x']\n",
        "derived.v.sql",
        "flow is not stored",
    ),
    "an event twice": (
        '[derived.a]\nfrom = ["usdc.Transfer", "usdc.Transfer"]\n',
        "derived.a.from",
        "would count twice",
    ),
    "a key of another kind": (FLOW + "select = { x = '1' }\n", "derived.flow.select", "kind aggregate has no select"),
    "a column twice": (FLOW + "sum = { to_address = 'value' }\n", "derived.flow.sum.to_address", "already"),
    "a column of the input": (
        '[derived.a]\nfrom = "usdc.Transfer"\nselect = { value = "1" }\n',
        "derived.a.select.value",
        "already",
    ),
    "a reserved word": (FLOW + "sum = { order = 'value' }\n", "derived.flow.sum.order", "no reserved word"),
    "a name of a generation": (
        '[derived.a_g1]\nfrom = "usdc.Transfer"\n',
        "derived.a_g1",
        "how generations are called",
    ),
    "an empty key": ('[derived.a]\nfrom = "usdc.Transfer"\nkey = {}\n', "derived.a.key", "what its rows are by"),
    "a view without a key": ("[derived.a]\nsql = 'SELECT 1'\n", "derived.a.key", "no two of its rows share"),
    "an index of what is not stored": (
        '[derived.a]\nfrom = "usdc.Transfer"\nindex = ["value"]\n',
        "derived.a.index",
        "stored = true",
    ),
    "an index of no column": (FLOW + 'index = ["to_addres"]\n', "derived.flow.index[0]", "did you mean to_address?"),
    "a lookup of no event": (FLOW + "lookup = { a = { on = 'x = y' } }\n", "derived.flow.lookup.a", "event is missing"),
    "a lookup of no column": (
        FLOW + "lookup = { a = { event = 'usdc.Transfer', on = 'valu = 1' } }\n",
        "derived.flow.lookup.a.on",
        "did you mean value?",
    ),
    "a comment on no column": (FLOW + "comments = { x = 'y' }\n", "derived.flow.comments.x", "no such column"),
}


@pytest.mark.promise("D-04")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_key(problem: Callable[[str], Problem], name: str) -> None:
    text, key, part = MISTAKES[name]
    found = problem(BASE + text)
    assert found.key == key
    assert part in found.message


def test_a_cycle_is_told_of_each_of_its_tables(desk: Desk) -> None:
    view = "[derived.{}]\nsql = 'SELECT * FROM derived.{}'\nkey = ['x']\n"
    text = view.format("a", "b") + view.format("b", "a")
    assert [one.key for one in desk.problems(BASE + text)] == ["derived.a", "derived.b"]


def test_the_rule_of_rows_becomes_part_of_what_reads_them(desk: Desk) -> None:
    rows = (
        '[derived.big]\nfrom = "usdc.Transfer"\nwhere = "value > 9"\nselect = { twice = "value * 2" }\nstored = true\n'
    )
    manifest = desk.load(BASE + rows + FLOW.replace("usdc.Transfer", "big") + 'sum = { total = "twice" }\n')
    below = manifest.derived["flow"].definition["rows"]
    assert (below["where"], below["select"]) == ("value > 9", [["twice", "value * 2"]])
    assert "stored" not in below
    assert manifest.derived["flow"].contracts == {"usdc"}


def test_an_aggregate_may_be_a_part_of_others_alone(desk: Desk) -> None:
    crowd = '[derived.crowd]\nfrom = "flow"\nkey = { known = "to_address IS NOT NULL" }\ncount = "holders"\n'
    manifest = desk.load(BASE + FLOW + "stored = false\n" + crowd)
    assert list(manifest.derived) == ["crowd"]
    assert manifest.derived["crowd"].definition["aggregate"]["key"] == [["to_address", "to_address"]]
    assert manifest.derived["crowd"].contracts == {"usdc"}
