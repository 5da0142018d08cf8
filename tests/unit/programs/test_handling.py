"""Programs without a database: what handlers see, what they may not do, and what is kept of it."""

from __future__ import annotations

import re
import textwrap

import pytest

from indexer.programs import ZERO, Program, Table, address, int8, key, module, timestamp, uint256
from indexer.programs.columns import ColumnError
from indexer.programs.describe import described
from indexer.programs.events import EventArguments
from indexer.programs.handling import HandlerError, Handling
from indexer.programs.memory import Memory
from indexer.programs.testing import EventGivenError, run

A, B, C = (bytes([n]) * 20 for n in (1, 2, 3))


class Position(Table):
    """Who has how much."""

    owner: address = key()
    token: address = key()
    amount: uint256 = 0
    seen: timestamp | None


program = Program(tables=[Position])


@program.on("coin.Transfer")
def moved(event, db):
    if event.args.to != ZERO:
        row = db.get_or_new(Position, owner=event.args.to, token=event.address)
        row.amount += event.args.value
        row.seen = event.block_time
    if event.args.from_ != ZERO:
        row = db.get_or_new(Position, owner=event.args.from_, token=event.address)
        row.amount -= event.args.value
        if not row.amount:
            db.delete(row)


def transfer(block, giver, receiver, value, **more):
    args = {"from": giver, "to": receiver, "value": value}
    return {"event": "coin.Transfer", "block": block, "address": "0x" + "cc" * 20, "args": args, **more}


def test_a_program_is_run_over_dicts():
    tables = run(program, [transfer(1, ZERO, A, 5, time=9), transfer(1, A, B, 2), transfer(7, A, C, 3, time=70)])
    found = [(row.owner, row.amount, row.seen) for row in tables[Position]]
    assert found == [(B, 2, 0), (C, 3, 70)]


def test_an_exception_names_the_event_and_the_line():
    with pytest.raises(
        HandlerError, match=r"coin.Transfer in block 4, log 1: ColumnError: column amount .*-1"
    ) as caught:
        run(program, [transfer(4, ZERO, A, 1), transfer(4, B, ZERO, 1)])
    assert caught.value.block_number == 4
    assert "test_handling.py, line" in str(caught.value)
    assert "row.amount -= event.args.value" in str(caught.value)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([{"event": "coin.Approval", "args": {}}], "does not handle coin.Approval"),
        ([transfer(2, ZERO, A, 1), transfer(1, ZERO, A, 1)], "is at (1, 0), which is not after (2, 0)"),
        ([{**transfer(1, ZERO, A, 1), "number": 3}], "has number; known: address, args"),
    ],
)
def test_events_that_cannot_be_are_refused(events, told):
    with pytest.raises(EventGivenError, match=re.escape(told)):
        run(program, events)


def given(handler):
    other = Program(tables=[Position])
    other.on("coin.Transfer")(handler)
    return lambda: run(other, [transfer(1, ZERO, A, 1), transfer(2, ZERO, A, 1)])


kept = []


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (lambda e, db: db.get(Position, owner=A), "the key of Position is owner, token"),
        (lambda e, db: db.get(Position, owner=A, token=B, amount=1), "the key of Position is owner, token"),
        (lambda e, db: db.get_or_new(Position, owner="0x", token=B), "column owner takes address, that is bytes"),
        (lambda e, db: setattr(db.get_or_new(Position, owner=A, token=B), "amount", 1.5), "and not 1.5 (float)"),
        (lambda e, db: setattr(db.get_or_new(Position, owner=A, token=B), "amount", True), "and not True (bool)"),
        (lambda e, db: setattr(db.get_or_new(Position, owner=A, token=B), "amuont", 1), "has no column amuont"),
        (lambda e, db: setattr(db.get_or_new(Position, owner=A, token=B), "owner", C), "part of the key"),
        (lambda e, db: db.get(Table), "is no table of this program"),
        (lambda e, db: e.args.amount, "the event has no argument amount (it has: from_, from_address, to"),
    ],
)
def test_a_mistake_in_a_handler_is_named(handler, told):
    with pytest.raises(HandlerError, match=re.escape(told)):
        given(handler)()


def test_a_row_of_an_earlier_event_is_not_written_behind_the_memory():
    def handler(event, db):
        row = db.get_or_new(Position, owner=A, token=B)
        db.delete(row)
        row.amount = 3

    with pytest.raises(HandlerError, match="got for an earlier event, or deleted"):
        given(handler)()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("amount: uint256 = 0", "table Bad has no key"),
        (
            "owner: address = key()\n    amount: float = 0",
            "column amount: float is no type of a column: amounts",
        ),
        (
            "owner: address = key()\n    small: int8 = 200",
            "its default: column small takes int8: 200 is out",
        ),
        ("owner: address | None = key()", "a column of the key cannot be None"),
        ("chain_id: uint256 = key()", "no name of a column"),
        ("pass", "has no columns"),
        ("owner: adress = key()", "name 'adress' is not defined"),
    ],
)
def test_a_mistake_in_a_table_is_named(body, told):
    scope = {"Table": Table, "key": key, "address": address, "uint256": uint256, "int8": int8, "__name__": __name__}
    with pytest.raises(ColumnError, match=re.escape(told)):
        exec(f"class Bad(Table):\n    {body}", scope)


def test_two_tables_of_one_name_are_refused():
    class Other(Table, name="position"):
        owner: address = key()

    with pytest.raises(ColumnError, match="two tables have the name position"):
        Program(tables=[Position, Other])


# -- memory -----------------------------------------------------------------------------------------------------------


class Database:
    """What a database would have: rows by key, and how often it was asked."""

    def __init__(self) -> None:
        self.rows: dict[object, tuple[object, ...]] = {}
        self.asked: list[int] = []

    def fetch(self, table, keys):
        self.asked.append(len(keys))
        return [self.rows[key] for key in keys if key in self.rows]

    def write(self, memory):
        for changed in memory.changes().values():
            for row in changed.added:
                assert row[:2] not in self.rows
                self.rows[row[:2]] = row
            for row in changed.changed:
                assert row[:2] in self.rows
                self.rows[row[:2]] = row
            for gone in changed.removed:
                del self.rows[gone]
        memory.written(4)


ROWS = [
    (n, 0, 0, 1_000 + n, bytes(32), 0, C, ZERO if n % 3 else A, (A, B, bytes([n % 40]) * 20)[n % 3], 5)
    for n in range(1, 300)
]  # fmt: skip
ARGUMENTS = [EventArguments("coin.Transfer", [("from", "from_address"), ("to", "to_address"), ("value",)])]


def test_a_small_memory_gives_the_same_rows_and_asks_for_many_at_once():
    whole = Memory([Position])
    Handling(program, ARGUMENTS, 1, whole).handle(ROWS, finalized=10**9)
    expected = {(row.owner, row.token): (row.owner, row.token, row.amount, row.seen) for row in whole.rows(Position)}
    database = Database()
    small = Memory([Position], database.fetch)
    handling = Handling(program, ARGUMENTS, 1, small)
    for at in range(0, len(ROWS), 25):
        handling.handle(ROWS[at : at + 25], finalized=10**9)
        database.write(small)
    assert database.rows == expected
    assert database.asked
    assert len(database.asked) <= 2 * len(ROWS) / 25, "one question for a batch, and not one for each row"


def test_rows_before_each_block_that_can_be_reorganised_are_kept():
    memory = Memory([Position])
    handling = Handling(program, ARGUMENTS, 1, memory)
    mint = (5, 0, 0, 0, b"", 0, C, ZERO, A, 5)
    handling.handle([mint], finalized=5)
    memory.written()
    more = [(6, 0, *mint[2:]), (6, 1, *mint[2:]), (7, 0, 0, 0, b"", 0, C, A, ZERO, 15), (8, 0, *mint[2:])]
    handling.handle(more, finalized=5)
    (changes,) = memory.changes().values()
    assert changes.before == [(6, True, (A, C, 5, 0)), (7, True, (A, C, 15, 0)), (8, False, (A, C, None, None))]
    assert (changes.added, changes.changed, changes.removed) == ([], [(A, C, 5, 0)], [])


# -- files ------------------------------------------------------------------------------------------------------------

GOOD = """
from indexer.programs import Program, Table, address, key, uint256

class Held(Table):
    owner: address = key()
    amount: uint256 = 0

program = Program(tables=[Held])

@program.on("coin.Transfer")
def moved(event, db):
    pass
"""


def test_a_file_is_described(tmp_path):
    (tmp_path / "good.py").write_text(GOOD)
    found = described(module.load(tmp_path / "good.py"))
    assert found["events"] == ["coin.Transfer"]
    assert [(c["name"], c["pg_type"], c["key"]) for c in found["tables"][0]["columns"]] == [
        ("owner", "bytea", True),
        ("amount", "numeric(78,0)", False),
    ]


def test_what_a_file_imports_from_its_folder_is_a_part_of_the_code(tmp_path):
    (tmp_path / "more_of_it.py").write_text("RATE = 3\n")
    (tmp_path / "good.py").write_text("from more_of_it import RATE\n" + GOOD)
    loaded = module.load(tmp_path / "good.py")
    assert not loaded.is_changed()
    (tmp_path / "more_of_it.py").write_text("RATE = 4\n")
    assert loaded.is_changed()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def f(:", "bad.py, line 1: invalid syntax"),
        ("1 / 0", "bad.py, line 1: ZeroDivisionError"),
        ("raise SystemExit(3)", "bad.py, line 1: SystemExit: 3"),
        ("x = 1", "bad.py has no program"),
        (GOOD + "other = Program(tables=[Held])", "bad.py has several programs"),
        (GOOD.replace("@program", "#"), "its program handles no event"),
        (GOOD.replace('"coin.Transfer"', '"Transfer"'), "'Transfer' names no event"),
        ("import random\n" + GOOD, "line 1: import random: handlers must not depend on chance"),
        ("from time import time\n" + GOOD, "line 1: import time: handlers must not depend on a clock"),
        (GOOD.replace("    pass", "    import datetime\n    datetime.datetime.now()"), "now() gives another value"),
    ],
)
def test_a_file_that_is_no_program_is_refused_with_the_line(tmp_path, text, told):
    (tmp_path / "bad.py").write_text(textwrap.dedent(text))
    with pytest.raises(module.ProgramFileError, match=re.escape(told)):
        module.load(tmp_path / "bad.py")


def test_a_handler_reaches_no_network():
    import socket

    module.forbid_outside()
    module.handlers_run(1)
    try:
        with pytest.raises(PermissionError, match="must not use socket"), socket.socket() as one:
            one.connect(("127.0.0.1", 9))
    finally:
        module.handlers_run(-1)
