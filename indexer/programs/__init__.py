"""Programs: Python code that keeps tables of its own by handling events in the order of the chain.

What a program's module imports is here. ::

    from indexer.programs import ZERO, Program, Table, address, key, uint256

    class Position(Table):
        owner: address = key()
        pair: address = key()
        amount: uint256 = 0

    program = Program(tables=[Position])

    @program.on("uniswap_v2_pair.Transfer")
    def moved(event, db):
        if event.args.to != ZERO:
            db.get_or_new(Position, owner=event.args.to, pair=event.address).amount += event.args.value

A handler is a function of the event and of the program's own tables, and of nothing else: no clock, no randomness, no
network, nothing remembered outside of the tables. It may be called for an event more often than once, before its
changes count: ahead, to find out which rows it will want; and again, after the process was killed.

* ``columns``: the types of columns. ``table``: what a program declares of its tables. ``program``: the program and its
  handlers.
* ``events``: what a handler gets.
* ``memory``: the rows at hand, and what was changed in them. ``lookahead``: which rows the next events will want.
* ``handling``: events handed to handlers, block by block.
* ``module``: a program's file: loaded, hashed, and looked through for what handlers must not use. ``describe``: the
  same in a process of its own, for those who must not run its code.
* ``testing``: a program run over events that are given as dicts, without any server.
* ``runner``: a program at work on the database, on one chain. ``worker``: the process of one program.
* ``replay``: a program replayed beside what it keeps, and compared with it, for audits.
* ``supervisor``: those processes, kept running.
"""

from indexer.programs.columns import (
    address,
    bytes32,
    int8,
    int16,
    int32,
    int64,
    int128,
    int256,
    timestamp,
    uint8,
    uint16,
    uint32,
    uint64,
    uint128,
    uint256,
)
from indexer.programs.events import ZERO, ProgramEvent
from indexer.programs.memory import Memory
from indexer.programs.program import Program
from indexer.programs.table import Table, key

__all__ = [
    "ZERO",
    "Memory",
    "Program",
    "ProgramEvent",
    "Table",
    "address",
    "bytes32",
    "int8",
    "int16",
    "int32",
    "int64",
    "int128",
    "int256",
    "key",
    "timestamp",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "uint128",
    "uint256",
]
