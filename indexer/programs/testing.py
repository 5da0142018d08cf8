"""A program run over events that are given as dicts: for tests of its handlers, without any server.

::

    from indexer.programs.testing import run
    from positions import Position, program

    def test_a_transfer_moves_what_is_owned():
        tables = run(program, [
            {"event": "pair.Transfer", "block": 1, "address": "0x" + "aa" * 20,
             "args": {"from": "0x" + "00" * 20, "to": "0x" + "01" * 20, "value": 5}},
        ])
        assert [row.amount for row in tables[Position]] == [5]
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from indexer.errors import GaplessError
from indexer.programs.events import FIELDS, EventArguments
from indexer.programs.handling import Handling
from indexer.programs.memory import Memory
from indexer.programs.program import Program
from indexer.programs.table import Table, TableType

_KNOWN: Final = {"event", "block", "time", "tx_hash", "tx_index", "log_index", "address", "args"}


class EventGivenError(GaplessError):
    """An event that a test gives cannot be handled."""


def run(program: Program, events: Iterable[Mapping[str, Any]], *, chain_id: int = 1) -> dict[type[Table], list[Any]]:
    """Hand events to a program.

    Args:
        program: the program.
        events: in the order of the chain. Each has ``event`` (``contract.Event``) and ``args``, by name; ``block``
            (else that of the event before), ``log_index`` (else the next one), ``time``, ``address``, ``tx_hash`` and
            ``tx_index`` may be given. A text that begins with ``0x`` becomes bytes.
        chain_id: of the chain.

    Returns:
        The rows of each table, by its class, in the order of their keys.

    Raises:
        EventGivenError: an event is not handled by the program, has unknown keys, or comes before the one before.
        HandlerError: a handler raised an exception.
    """
    memory = Memory(program.tables)
    kinds: dict[tuple[str, tuple[str, ...]], int] = {}
    rows = []
    before = (0, -1)
    for number, one in enumerate(events):
        if unknown := one.keys() - _KNOWN:
            raise EventGivenError(
                f"event {number} has {', '.join(sorted(unknown))}; known: {', '.join(sorted(_KNOWN))}"
            )
        label = one.get("event")
        if label not in program.handlers:
            raise EventGivenError(f"event {number}: the program does not handle {label}")
        block = one.get("block", before[0])
        position = (block, one.get("log_index", before[1] + 1 if block == before[0] else 0))
        if position <= before:
            raise EventGivenError(f"event {number} is at {position}, which is not after {before}")
        before = position
        arguments = dict(one.get("args", {}))
        kind = kinds.setdefault((label, tuple(arguments)), len(kinds))
        values = (one.get("time", 0), one.get("tx_hash", bytes(32)), one.get("tx_index", 0))
        given = (*values, one.get("address", bytes(20)), *arguments.values())
        rows.append((*position, kind, *map(_plain, given)))
    named = [EventArguments(label, [_names(name) for name in names]) for label, names in kinds]
    Handling(program, named, chain_id, memory).handle(rows, finalized=rows[-1][0] if rows else 0)
    return {_class(table): sorted(memory.rows(table), key=table.row_key) for table in program.tables}


def _class(table: TableType) -> type[Table]:
    return table  # type: ignore[return-value]


def _names(name: str) -> tuple[str, ...]:
    return (name, f"{name}_address") if name in ("from", "to") else (name,)


def _plain(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("0x"):
        return bytes.fromhex(value[2:])
    return value


assert FIELDS[2] == "kind"
