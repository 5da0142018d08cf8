"""Events handed to a program's handlers, in the order of the chain, block by block.

A handler that raises an exception stops the program before that block: :class:`HandlerError` names the event and the
line. What was changed in memory is worth nothing then; the caller reads the program's position again.
"""

import itertools
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from indexer.errors import GaplessError
from indexer.programs import lookahead
from indexer.programs.events import EventArguments, ProgramEvent, event_type
from indexer.programs.memory import Key, Memory
from indexer.programs.program import Handler, Program
from indexer.programs.table import TableType

_KIND: Final = 2
_HERE: Final = __file__.rpartition("/")[0] + "/"


class HandlerError(GaplessError):
    """A handler raised an exception.

    Attributes:
        block_number: the block of the event.
    """

    def __init__(self, event: ProgramEvent, error: BaseException) -> None:
        line = _last_line(error)
        super().__init__(
            f"{event.name} in block {event.block_number}, log {event.log_index}: {type(error).__name__}: "
            f"{str(error).strip() or 'no message'}{f' ({line})' if line else ''}",
            hint="mend the code; the program goes on from this block by itself",
        )
        self.block_number: int = event.block_number


def _last_line(error: BaseException) -> str:
    """The innermost line of the program's own code that an exception came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_HERE)]
    if not own:
        return ""
    return f"{own[-1].filename.rpartition('/')[2]}, line {own[-1].lineno}, in {own[-1].name}: {own[-1].line}"


class Handling:
    """A program's handlers over the rows of its events.

    Args:
        program: the program.
        events: those that it handles, in the order of the rows' ``kind``.
        chain_id: the chain.
        memory: its tables.
    """

    def __init__(self, program: Program, events: Sequence[EventArguments], chain_id: int, memory: Memory) -> None:
        self._memory = memory
        self._kinds: list[tuple[Callable[[tuple[Any, ...]], ProgramEvent], Sequence[Handler]]] = [
            (event_type(one, chain_id), tuple(program.handlers.get(one.label, ()))) for one in events
        ]
        self._rows: Sequence[tuple[Any, ...]] = ()
        self._at = 0
        memory.wanted = self._wanted

    def handle(self, rows: Sequence[tuple[Any, ...]], finalized: int) -> None:
        """Hands rows to the handlers.

        Args:
            rows: in the order of the chain.
            finalized: blocks above this one can be reorganised: how their rows were before is kept.

        Raises:
            HandlerError: a handler raised an exception.
        """
        kinds, memory = self._kinds, self._memory
        self._rows = rows
        block = -1
        for at, row in enumerate(rows):
            if row[0] != block:
                block = row[0]
                memory.begin_block(block if block > finalized else None)
            self._at = at
            make, handlers = kinds[row[_KIND]]
            event = make(row)
            for handler in handlers:
                try:
                    handler(event, memory)
                except Exception as error:
                    raise HandlerError(event, error) from error
        self._rows = ()

    def _wanted(self, table: TableType, key: Key) -> Mapping[TableType, set[Key]]:
        ahead = itertools.islice(self._rows, self._at, self._at + lookahead.AHEAD)
        return lookahead.wanted_rows(self._memory, self._handlers_of(ahead), (table, key))

    def _handlers_of(self, rows: Iterator[tuple[Any, ...]]) -> Iterator[Callable[[Any], None]]:
        for row in rows:
            make, handlers = self._kinds[row[_KIND]]
            event = make(row)
            for handler in handlers:
                yield partial(handler, event)
