"""Tables as a program declares them: a class for each, its columns as annotated attributes, its key marked.

An instance is a row. Setting a column checks the value and tells the memory that the row belongs to, before the change,
so that the change is written, and can be undone.
"""

import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any, Final, Protocol, cast

from indexer.programs.columns import ColumnError, ColumnType, column_type

_NO_DEFAULT: Final = object()
_SET: Final = object.__setattr__
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TAKEN_COLUMNS: Final = frozenset({"chain_id", "block_number", "existed"})


class _Key:
    """Marks a column as a part of the key."""


def key() -> Any:
    """Mark a column as a part of the key of its table."""
    return _Key()


class Owner(Protocol):
    """What rows belong to."""

    stamp: int
    """Changes whenever rows must be announced again before a change."""

    def touch(self, row: "Table") -> None:
        """Note that a row is about to be changed."""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a program's table.

    Attributes:
        name: of the attribute, and in Postgres.
        kind: what it keeps.
        key: whether it is a part of the key.
        nullable: whether None may stand there.
        default: of a new row; it has none where it is a part of the key.
    """

    name: str
    kind: ColumnType
    key: bool
    nullable: bool
    default: object

    def check(self, value: object) -> None:
        """See that it takes a value.

        Raises:
            ColumnError: it does not.
        """
        if value is None and self.nullable:
            return
        try:
            self.kind.check(value)
        except ColumnError as error:
            raise ColumnError(f"column {self.name} {error}") from None


class TableType(type):
    """The class of tables: takes the annotated attributes of a class as columns."""

    table_name: str
    columns: tuple[TableColumn, ...]
    by_name: Mapping[str, TableColumn]
    key_of: Callable[[Mapping[str, Any]], Any]
    row_key: Callable[[Any], Any]
    key_count: int
    values_of: Callable[[Any], tuple[Any, ...]]
    defaults: tuple[Any, ...]
    keys: tuple[str, ...]
    limits: Mapping[str, tuple[int, int]]
    make: Callable[..., "Table"]

    def __new__(
        cls, class_name: str, bases: tuple[type, ...], namespace: dict[str, Any], name: str | None = None
    ) -> "TableType":
        """Make a table.

        Raises:
            ColumnError: it is not one; the message says why.
        """
        if not bases:
            return super().__new__(cls, class_name, bases, namespace)
        annotated = [each for each in namespace.get("__annotations__", {}) if not each.startswith("__")]
        given = {each: namespace.pop(each, _NO_DEFAULT) for each in annotated}
        namespace["__slots__"] = tuple(annotated)
        made = super().__new__(cls, class_name, bases, namespace)
        made.table_name = _table_name(class_name) if name is None else name
        if not _NAME.fullmatch(made.table_name):
            raise ColumnError(
                f"table {class_name}: {made.table_name!r} is no name of a table: lower-case letters, digits and _, at "
                "most 40, starting with a letter"
            )
        if not annotated:
            raise ColumnError(f"table {class_name} has no columns: write them as owner: address = key()")
        try:
            hints = typing.get_type_hints(made, include_extras=True)
        except NameError as error:
            raise ColumnError(f"table {class_name}: {error}") from None
        columns = tuple(_column(class_name, each, hints[each], given[each]) for each in annotated)
        # Positions of the key come first in Postgres, too.
        made.columns = tuple(sorted(columns, key=lambda column: not column.key))
        made.by_name = {column.name: column for column in columns}
        keys = [column.name for column in columns if column.key]
        if not keys:
            raise ColumnError(f"table {class_name} has no key: mark a column by = key()")
        made.key_of = itemgetter(*keys)
        made.row_key = attrgetter(*keys)
        made.key_count = len(keys)
        getter = attrgetter(*(column.name for column in made.columns))
        made.values_of = getter if len(columns) > 1 else lambda row: (getter(row),)
        made.defaults = tuple(column.default for column in columns if not column.key)
        made.keys = tuple(keys)
        made.limits = {
            column.name: (low, high)
            for column in columns
            if not column.key
            and column.kind.python is int
            and (low := column.kind.low) is not None
            and (high := column.kind.high) is not None
        }
        made.make = _maker(made, bases)
        return made

    def __init__(cls, class_name: str, bases: tuple[type, ...], namespace: dict[str, Any], **_: object) -> None:
        """As of any class."""
        super().__init__(class_name, bases, namespace)


def _maker(table: TableType, bases: tuple[type, ...]) -> Callable[..., "Table"]:
    """A function that makes rows: of owner, stamp, stored, and the values in the order of the columns.

    A row is made as of a class whose attributes are set without a check, and becomes one of the table then: a program
    makes hundreds of thousands of them a minute.
    """
    bare = type.__new__(
        TableType, "Bare", bases, {"__slots__": table.__dict__["__slots__"], "__setattr__": object.__setattr__}
    )
    names = [column.name for column in table.columns]
    lines = [f"    row.{name} = {name}" for name in ("_owner", "_stamp", "_stored", *names)]
    source = "\n".join(
        [
            f"def make(_owner, _stamp, _stored, {', '.join(names)}):",
            "    row = new(bare)",
            *lines,
            "    row.__class__ = table",
            "    return row",
        ]
    )
    scope: dict[str, Any] = {"new": object.__new__, "bare": bare, "table": table}
    exec(source, scope)  # noqa: S102 - made of names that were checked
    return cast(Callable[..., "Table"], scope["make"])


def _table_name(class_name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", class_name).lower()


def _column(class_name: str, name: str, annotation: Any, given: object) -> TableColumn:
    where = f"table {class_name}, column {name}"
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name) or name in _TAKEN_COLUMNS:
        raise ColumnError(f"{where}: no name of a column: lower-case letters, digits and _, and none of chain_id, …")
    try:
        kind, nullable = column_type(annotation)
    except ColumnError as error:
        raise ColumnError(f"{where}: {error}") from None
    is_key = isinstance(given, _Key)
    if is_key and nullable:
        raise ColumnError(f"{where}: a column of the key cannot be None")
    default = None if is_key else given
    if given is _NO_DEFAULT:
        default = None if nullable else _empty(kind)
    column = TableColumn(name, kind, is_key, nullable, default)
    if not is_key:
        try:
            column.check(default)
        except ColumnError as error:
            raise ColumnError(f"{where}: its default: {error}") from None
    return column


def _empty(kind: ColumnType) -> object:
    """What a new row has where no default is written."""
    return bytes(kind.low or 0) if kind.python is bytes else kind.python()


class Table(metaclass=TableType):
    """A table of a program; an instance is a row of it.

    Columns of the key are marked by :func:`key` and never change. Others may have a default; without one it is 0, "",
    False, zero bytes, or None where that may stand.
    """

    __slots__ = ("_owner", "_stamp", "_stored")

    _owner: Owner
    _stamp: int
    _stored: bool

    def __setattr__(self, name: str, value: object) -> None:
        """Set a column.

        Raises:
            AttributeError: there is no such column, or it is a part of the key.
            ColumnError: it does not take the value.
        """
        # The way of almost all values: a number in its range, in few steps.
        found = type(self).limits.get(name)
        if found is None or type(value) is not int or not found[0] <= value <= found[1]:
            _check(type(self), name, value)
        if self._stamp != self._owner.stamp:
            self._owner.touch(self)
        _SET(self, name, value)

    def __repr__(self) -> str:
        """For people."""
        return f"{type(self).__name__}({', '.join(f'{c.name}={getattr(self, c.name)!r}' for c in type(self).columns)})"


def _check(table: TableType, name: str, value: object) -> None:
    column = table.by_name.get(name)
    if column is None:
        known = ", ".join(table.by_name)
        raise AttributeError(f"table {table.table_name} has no column {name} (it has: {known})")
    if column.key:
        raise AttributeError(f"column {name} is a part of the key of {table.table_name}: it never changes")
    column.check(value)


def make_row(table: TableType, owner: Owner, values: tuple[Any, ...], *, stored: bool) -> Table:
    """A row with all of its values, in the order of the table's columns; it is not announced as changed."""
    return table.make(owner, -1, stored, *values)


def new_row(table: TableType, owner: Owner, stamp: int, key_values: Mapping[str, Any]) -> Table:
    """A row of a key, with the defaults, announced under a stamp.

    Raises:
        ColumnError: the key is none of the table's.
    """
    for column in table.columns:
        if not column.key:
            break
        column.check(key_values[column.name])
    return table.make(owner, stamp, False, *[key_values[name] for name in table.keys], *table.defaults)


def mark(row: Table, stamp: int) -> None:
    """Note that a row was announced under a stamp."""
    _SET(row, "_stamp", stamp)


def mark_stored(row: Table) -> None:
    """Note that a row is in the database."""
    _SET(row, "_stored", True)
