"""The rows that a program has at hand, and what was changed in them since they were last written.

A row is in memory from its first use until room is needed: those that were used least lately go, half of the memory at
a time, and only when all changes are written. Rows that were never changed and rows that are known not to exist take
part in that as well.

While blocks are handled that can be reorganised, the values that a row had before each of them are kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from indexer.programs.columns import ColumnError
from indexer.programs.table import Table, TableType, make_row, mark, mark_stored, new_row

Values = tuple[Any, ...]
Key = Any
"""The value of a key of one column, a tuple of the values of another; in the order of the declaration."""

T = TypeVar("T", bound=Table)

#: Rows in memory, all tables together, where the manifest does not say another number.
WORKING_SET: Final = 500_000


class RowsUnreadError(BaseException):
    """The database did not give rows that a handler wants. No handler can catch it as an error of its own."""


class _Absent:
    """Stands for a row that is known not to exist."""


ABSENT: Final = _Absent()


@dataclass(slots=True)
class ChangedRows:
    """What was changed in a table; see :class:`indexer.store.programs.program_tables.TableChanges`."""

    added: list[Values] = field(default_factory=list)
    changed: list[Values] = field(default_factory=list)
    removed: list[Values] = field(default_factory=list)
    before: list[tuple[int, bool, Values]] = field(default_factory=list)


class _TableMemory:
    """The rows at hand of one table."""

    __slots__ = ("before", "dirty", "is_whole", "old", "stored_gone", "table", "young")

    def __init__(self, table: TableType, *, is_whole: bool) -> None:
        self.table = table
        self.young: dict[Key, Table | _Absent] = {}
        self.old: dict[Key, Table | _Absent] = {}
        self.dirty: dict[Key, Table | None] = {}
        """By key: the row that was changed; None: it was removed."""
        self.stored_gone: set[Key] = set()
        """Of the removed ones, those that are in the database."""
        self.before: dict[Key, None] = {}
        """The keys that were changed in the block at hand already."""
        self.is_whole = is_whole
        """Whether all rows that exist are in memory."""


class Memory:
    """A program's tables, as handlers see them (``db``).

    Args:
        tables: of the program.
        fetch: reads rows by their keys from the database; None: there is none.
        is_new: whether the tables are empty in the database.
    """

    def __init__(
        self,
        tables: Sequence[TableType],
        fetch: Callable[[TableType, Sequence[Key]], Sequence[Values]] | None = None,
        *,
        is_new: bool = True,
    ) -> None:
        self._tables = {table: _TableMemory(table, is_whole=is_new) for table in tables}
        self._fetch = fetch
        self._block: int | None = None
        self._images: dict[TableType, list[tuple[int, bool, Values]]] = {table: [] for table in tables}
        self.stamp = 0
        self.wanted: Callable[[TableType, Key], Mapping[TableType, set[Key]]] = lambda table, key: {table: {key}}
        """Which rows to fetch where one is missing: that one at least."""

    # -- what handlers call

    def get(self, table: type[T], /, **key: Any) -> T | None:
        """The row of a key; None: there is none.

        Raises:
            ColumnError: that is no key of the table.
        """
        *_, found = self._seek(table, key)
        return None if found is ABSENT else cast(T, found)

    def get_or_new(self, table: type[T], /, **key: Any) -> T:
        """The row of a key; where there is none, it is made with the defaults.

        Raises:
            ColumnError: that is no key of the table.
        """
        memory, of, found = self._seek(table, key)
        if found is ABSENT:
            found = self._add(memory, of, key)
        return cast(T, found)

    def delete(self, row: Table) -> None:
        """Remove a row."""
        memory = self._memory(type(row))
        of = key_of(row)
        self._require_at_hand(memory, of, row)
        self._note_before(memory, of, row)
        memory.dirty[of] = None
        if row._stored:
            memory.stored_gone.add(of)
        memory.young[of] = ABSENT
        mark(row, -1)  # a change of it would be none of a row that exists

    # -- what rows call

    def touch(self, row: Table) -> None:
        """Note that a row is about to be changed."""
        memory = self._memory(type(row))
        of = key_of(row)
        self._require_at_hand(memory, of, row)
        self._note_before(memory, of, row)
        memory.dirty[of] = row
        mark(row, self.stamp)

    # -- what handling calls

    def begin_block(self, number: int | None) -> None:
        """Begin a block whose changes can be undone; None: blocks that no reorganisation changes any more."""
        if number is None and self._block is None:
            return
        self._block = number
        self.stamp += 1
        for memory in self._tables.values():
            memory.before = {}

    @property
    def fresh_rows(self) -> int:
        """How many rows were used since room was made last."""
        return sum(len(memory.young) for memory in self._tables.values())

    @property
    def dirty_rows(self) -> int:
        """How many rows were changed since they were last written."""
        return sum(len(memory.dirty) for memory in self._tables.values())

    def changes(self) -> dict[TableType, ChangedRows]:
        """What was changed since it was last written, by table."""
        found = {}
        for table, memory in self._tables.items():
            changed = ChangedRows(before=self._images[table])
            for of, row in memory.dirty.items():
                if row is None:
                    if of in memory.stored_gone:
                        changed.removed.append(of if table.key_count > 1 else (of,))
                elif row._stored or of in memory.stored_gone:
                    changed.changed.append(table.values_of(row))
                else:
                    changed.added.append(table.values_of(row))
            if memory.dirty or changed.before:
                found[table] = changed
        return found

    def written(self, most_rows: int = WORKING_SET) -> None:
        """Note that all changes are in the database; what was used least lately makes room."""
        for table, memory in self._tables.items():
            for row in memory.dirty.values():
                if row is not None:
                    mark_stored(row)
            memory.dirty, memory.stored_gone = {}, set()
            self._images[table] = []
        self.stamp += 1
        if self.fresh_rows > most_rows // 2:
            for memory in self._tables.values():
                if memory.old:
                    memory.is_whole = False
                memory.old, memory.young = memory.young, {}

    def rows(self, table: TableType) -> list[Table]:
        """All rows at hand of a table."""
        memory = self._tables[table]
        return [row for part in (memory.old, memory.young) for row in part.values() if isinstance(row, Table)]

    def peek(self, table: TableType, of: Key) -> Table | _Absent | None:
        """The row of a key if it is at hand, ABSENT if there is none; None: that is not known."""
        memory = self._tables[table]
        found = memory.young.get(of) or memory.old.get(of)
        return ABSENT if found is None and memory.is_whole else found

    # -- inside

    def _memory(self, table: type) -> _TableMemory:
        try:
            return self._tables[cast(TableType, table)]
        except KeyError:
            raise self._wrong(table) from None

    def _wrong(self, table: type) -> ColumnError:
        if table not in self._tables:
            return ColumnError(f"{table!r} is no table of this program: name it in Program(tables=[…])")
        return ColumnError(f"the key of {table.__name__} is {', '.join(table.keys)}")

    def _seek(self, table: TableType, key: Mapping[str, Any]) -> tuple[_TableMemory, Key, Table | _Absent]:
        """The memory of a table, the key, and its row."""
        try:
            memory = self._tables[table]
            of = memory.table.key_of(key)
        except KeyError:
            raise self._wrong(table) from None
        found = memory.young.get(of)
        return memory, of, self._find(memory, of, key) if found is None else found

    def _find(self, memory: _TableMemory, of: Key, key: Mapping[str, Any]) -> Table | _Absent:
        """The row of a key that is not among those that were used lately."""
        if len(key) != memory.table.key_count:
            raise self._wrong(memory.table)
        found = memory.old.pop(of, None)
        if found is None and memory.is_whole:
            found = ABSENT
        if found is None:
            for column in memory.table.columns[: memory.table.key_count]:
                column.check(key[column.name])
            self._load(memory.table, of)
            found = memory.young.get(of, ABSENT)
        memory.young[of] = found
        return found

    def _load(self, table: TableType, of: Key) -> None:
        for each, keys in self.wanted(table, of).items():
            memory = self._tables[each]
            missing = [one for one in keys if one not in memory.young and one not in memory.old]
            for values in self._fetched(each, missing):
                row = make_row(each, self, values, stored=True)
                memory.young[key_of(row)] = row
            for one in missing:
                memory.young.setdefault(one, ABSENT)

    def _fetched(self, table: TableType, keys: Sequence[Key]) -> Sequence[Values]:
        if self._fetch is None or not keys:
            return ()
        try:
            return self._fetch(table, keys)
        except Exception as error:
            raise RowsUnreadError from error

    def _add(self, memory: _TableMemory, of: Key, key: Mapping[str, Any]) -> Table:
        row = new_row(memory.table, self, self.stamp, key)
        self._note_before(memory, of, None, key)
        memory.young[of] = memory.dirty[of] = row
        return row

    def _require_at_hand(self, memory: _TableMemory, of: Key, row: Table) -> None:
        if memory.young.get(of) is not row:
            raise ColumnError(
                f"{row!r} was got for an earlier event, or deleted: get it again by db.get or db.get_or_new"
            )

    def _note_before(
        self, memory: _TableMemory, of: Key, row: Table | None, key: Mapping[str, Any] | None = None
    ) -> None:
        """Keep the values that a row has before the block at hand, if that can be undone."""
        if self._block is None or of in memory.before:
            return
        memory.before[of] = None
        table = memory.table
        if row is not None:
            values = table.values_of(row)
        else:
            values = tuple(key[column.name] if key and column.key else None for column in table.columns)
        self._images[table].append((self._block, row is not None, values))


def key_of(row: Table) -> Key:
    """The key of a row."""
    return cast(TableType, type(row)).row_key(row)
