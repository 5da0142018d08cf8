"""The program: its tables, and the handlers of its events."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar, cast

from indexer.programs.columns import ColumnError
from indexer.programs.table import Table, TableType

Handler: TypeAlias = Callable[[Any, Any], None]
"""A function of an event and of the tables (:class:`~indexer.programs.memory.Memory`)."""

_H = TypeVar("_H", bound=Handler)
_MOST_TABLES: Final = 100


class Program:
    """A program.

    Args:
        tables: the classes of its tables.

    Raises:
        ColumnError: there is none, or two have one name.
    """

    def __init__(self, tables: Iterable[type[Table]]) -> None:
        self.tables: Sequence[TableType] = tuple(cast(Iterable[TableType], tables))
        self.handlers: dict[str, list[Handler]] = {}
        if not 0 < len(self.tables) <= _MOST_TABLES:
            raise ColumnError(f"a program has 1 to {_MOST_TABLES} tables: Program(tables=[Position])")
        for table in self.tables:
            if not isinstance(table, TableType):
                raise ColumnError(f"{table!r} is no table: write class {table}(Table)")
        names = [table.table_name for table in self.tables]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ColumnError(f"two tables have the name {', '.join(sorted(twice))}")

    def on(self, *events: str) -> Callable[[_H], _H]:
        """Have a function handle events, each named as ``contract.Event`` in the manifest."""
        for event in events:
            if not isinstance(event, str) or event.count(".") != 1:
                raise ColumnError(f'{event!r} names no event: write @program.on("contract.Event")')

        def register(handler: _H) -> _H:
            for event in events:
                self.handlers.setdefault(event, []).append(handler)
            return handler

        return register

    @property
    def contracts(self) -> Mapping[str, Sequence[str]]:
        """By contract: the names of the events that are handled."""
        found: dict[str, list[str]] = {}
        for event in sorted(self.handlers):
            contract, _, name = event.partition(".")
            found.setdefault(contract, []).append(name)
        return found
