"""``[programs.*]``: what is found out of a program's file, and what a mistake in it is told."""

from __future__ import annotations

import pytest
from manifest_desk import ETHEREUM, PROGRAM, USDC, Desk

PAIR = f'[contracts.pair]\nabi = "abis/uniswap_v2_pair.json"\naddress = "{USDC}"\n'
POSITIONS = '[programs.positions]\nmodule = "programs/positions.py"\n'


def test_a_program_is_what_its_file_declares(desk: Desk) -> None:
    (program,) = desk.load(ETHEREUM + PAIR + POSITIONS).programs.values()
    assert program.path == desk.folder / "programs/positions.py"
    assert (program.events, program.tables, program.chains) == (("pair.Transfer",), ("position",), ("ethereum",))
    assert program.working_set == 500_000


MISTAKES = {
    "no module": ("[programs.positions]\n", PROGRAM, "programs.positions", "module is missing: the file of its code"),
    "no file": (POSITIONS.replace("positions.py", "other.py"), PROGRAM, "programs.positions.module", "cannot be read"),
    "name": (POSITIONS.replace("s]", "s-x]"), PROGRAM, "programs.positions-x", "expected lower-case letters"),
    "unknown key": (POSITIONS + "workingset = 5\n", PROGRAM, "programs.positions.workingset",
                    "did you mean working_set"),
    "unknown contract": (POSITIONS, PROGRAM.replace("pair.T", "pear.T"), "programs.positions.module",
                         "it handles pear.Transfer: there is no contract pear; did you mean pair?"),
    "unknown event": (POSITIONS, PROGRAM.replace("Transfer", "Transfers"), "programs.positions.module",
                      "pair has no event Transfers; did you mean Transfer?"),
    "unkeyed table": (POSITIONS, PROGRAM.replace(" = key()", ""), "programs.positions.module",
                      "line 4: ColumnError: table Position has no key: mark a column by = key()"),
    "syntax": (POSITIONS, PROGRAM + "def f(:", "programs.positions.module", "positions.py, line 13: invalid syntax"),
    "ends the process": (POSITIONS, "import os\nos._exit(3)", "programs.positions.module", "ended the process"),
    "reserved word": (POSITIONS, PROGRAM.replace("(Table)", '(Table, name="order")'), "programs.positions.module",
                      "order is a reserved word of SQL"),
    "name of a generation": (POSITIONS, PROGRAM.replace("(Table)", '(Table, name="held_p7_before")'),
                             "programs.positions.module", "held_p7_before is called like a generation's table"),
    "other chain": (POSITIONS + 'chains = ["base"]\n', PROGRAM, "programs.positions.chains[0]",
                    "none of its contracts is on chain base (ethereum)"),
    "table name taken": (POSITIONS + POSITIONS.replace("s]", "s_two]"), PROGRAM, "programs.positions_two.module",
                         "the table derived.position is that of programs.positions: choose another name"),
}  # fmt: skip


@pytest.mark.promise("M-01")
@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_named_with_its_place(desk: Desk, what: str) -> None:
    text, code, place, told = MISTAKES[what]
    (desk.folder / "programs" / "positions.py").write_text(code)
    (problem,) = desk.problems(ETHEREUM + PAIR + text)
    assert problem.key == place
    assert told in problem.message
    assert problem.line is not None
