"""Every type of column, in Postgres and read back from it."""

from __future__ import annotations

from indexer.programs import module
from indexer.programs.runner import ProgramRunner
from tests.integration.balances.test_ledgers import CHAIN
from tests.integration.programs.test_standing import model, work  # noqa: F401 - model is a fixture

PROGRAM = """
from indexer.programs import *


class Seen(Table):
    token: address = key()
    minute: timestamp = key()
    word: bytes32 = key()
    small: uint8 = key()
    first: timestamp = 0
    last: timestamp | None
    never: timestamp | None
    latest: timestamp = 253_402_300_799
    moves: uint16 = 0
    deep: int256 = -(2**255)
    high: uint256 = 2**256 - 1
    any_size: int = -(10**90)
    odd: bool = False
    text: str | None
    raw: bytes = b""


program = Program(tables=[Seen])


@program.on("nft.Transfer")
def moved(event, db):
    minute = event.block_time // 60 * 60
    row = db.get_or_new(Seen, token=event.address, minute=minute, word=b"\\x01" * 32, small=255)
    assert row.latest == 253_402_300_799 and row.never is None and row.any_size == -(10**90)
    assert row.deep == -(2**255) and row.high == 2**256 - 1
    if not row.moves:
        row.first = event.block_time
    else:
        assert minute <= row.first <= row.last and row.text == str(row.moves) and row.raw == bytes([row.moves])
    row.last = event.block_time
    row.moves += 1
    row.odd = bool(row.moves % 2)
    row.text, row.raw = str(row.moves), bytes([row.moves])
    if row.moves == 7:
        db.delete(row)
"""


def test_every_type_is_written_and_read_back_as_it_was(model):  # noqa: F811
    path = model.folder / "seen.py"
    path.write_text(PROGRAM)
    for _ in range(3):
        model.grow()
        # Each time from an empty memory, with room for few rows: what it changes is read first.
        runner = ProgramRunner(model.engine, "seen", module.load(path), CHAIN, step_rows=3, working_set=2, write_rows=1)
        assert work(runner) == "idle"
    with model.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT * FROM derived.seen ORDER BY 1, 2, 3").all()
        transfers = connection.exec_driver_sql(
            "SELECT contract_address, block_time FROM nft.transfer WHERE block_number <= %s "
            "ORDER BY block_number, log_index",
            (model.tip,),
        ).all()
    rows: dict[tuple[bytes, object], tuple[object, object, int]] = {}
    for token, time in transfers:
        at = bytes(token), time.replace(second=0, microsecond=0)
        first, _, moves = rows.pop(at, (time, None, 0))
        if moves < 6:
            rows[at] = first, time, moves + 1
    assert {(bytes(row.token), row.minute): (row.first, row.last, row.moves) for row in found} == rows
    assert any(moves > 1 for _, _, moves in rows.values())
    one = found[0]
    assert (bytes(one.word), one.small, one.never, one.latest.year) == (b"\x01" * 32, 255, None, 9999)
    assert (one.deep, one.high, one.any_size) == (-(2**255), 2**256 - 1, -(10**90))
    assert (one.odd, one.text, bytes(one.raw)) == (bool(one.moves % 2), str(one.moves), bytes([one.moves]))
