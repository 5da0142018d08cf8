"""Which rows the next events will want: found out by handing them to the handlers ahead of time, on copies.

Where a row has to come from the database, the rows of the next few thousand events come with it, in one question a
table. What the handlers do meanwhile is forgotten, errors among it: rows that are not at hand look as if they did not
exist, so the guess may be wrong, which costs another question and nothing else.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from indexer.programs.memory import Key, Memory
from indexer.programs.table import Table, TableType, make_row, new_row

AHEAD: Final = 2_000
"""Events that are looked at."""


class Guess:
    """A program's tables as the events ahead see them: what is not at hand is noted as wanted.

    Args:
        memory: the rows at hand.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._rows: dict[tuple[TableType, Key], Table | None] = {}
        self.wanted: dict[TableType, set[Key]] = {}
        self.stamp = -1

    def touch(self, row: Table) -> None:
        """As of the rows' own memory; nothing is kept."""

    def get(self, table: TableType, /, **key: Any) -> Table | None:
        """As :meth:`~indexer.programs.memory.Memory.get`."""
        of = (table, table.key_of(key))
        if of not in self._rows:
            found = self._memory.peek(*of)
            if found is None:
                self.wanted.setdefault(table, set()).add(of[1])
            is_row = isinstance(found, Table)
            self._rows[of] = make_row(table, self, table.values_of(found), stored=True) if is_row else None
        return self._rows[of]

    def get_or_new(self, table: TableType, /, **key: Any) -> Table:
        """As :meth:`~indexer.programs.memory.Memory.get_or_new`."""
        row = self.get(table, **key)
        if row is None:
            row = self._rows[table, table.key_of(key)] = new_row(table, self, self.stamp, key)
        return row

    def delete(self, row: Table) -> None:
        """As :meth:`~indexer.programs.memory.Memory.delete`."""
        table: Any = type(row)
        self._rows[table, table.row_key(row)] = None


def wanted_rows(
    memory: Memory, events: Iterable[Callable[[Guess], None]], first: tuple[TableType, Key]
) -> Mapping[TableType, set[Key]]:
    """The keys that some events want and that are not at hand, that of the row that is missing now among them.

    Args:
        memory: the rows at hand.
        events: each hands one of the events to its handlers.
        first: the table and the key of the row that is missing.
    """
    guess = Guess(memory)
    for handle in events:
        # The handlers see rows that may be wrong: what they raise means nothing yet.
        with suppress(Exception):
            handle(guess)
    guess.wanted.setdefault(first[0], set()).add(first[1])
    return guess.wanted
