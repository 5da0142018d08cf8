"""Rows that Postgres refuses: one of them must not hold up the thousands beside it.

A value that the decoder took and Postgres does not (an indexed text too long for a btree, say) fails the whole COPY.
The rows are halved until those that break it stand alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

from indexer.abi.columns import Column, Component

Row: TypeAlias = tuple[Any, ...]
Copy: TypeAlias = Callable[[Sequence[Row]], None]

# What is the row's fault. Everything else (a full disk, a lost connection, a key that is there already) is not.
REFUSALS = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded)

_SAVEPOINT = sql.SQL("SAVEPOINT gapless_copy")
_BACK = sql.SQL("ROLLBACK TO SAVEPOINT gapless_copy")
_RELEASE = sql.SQL("RELEASE SAVEPOINT gapless_copy")


def copy_accepted(driver: psycopg.Connection[Any], rows: Sequence[Row], copy: Copy) -> list[tuple[Row, str]]:
    """Copies the rows that Postgres takes.

    Args:
        driver: in a transaction.
        rows: for one table.
        copy: copies some of them, on that connection.

    Returns:
        The rows that it refused, each with the reason. Every other row is in the table.
    """
    driver.execute(_SAVEPOINT)
    try:
        copy(rows)
    except REFUSALS as error:
        driver.execute(_BACK)
        driver.execute(_RELEASE)
        if len(rows) == 1:
            return [(rows[0], _reason(error))]
    else:
        driver.execute(_RELEASE)
        return []
    middle = len(rows) // 2
    return [*copy_accepted(driver, rows[:middle], copy), *copy_accepted(driver, rows[middle:], copy)]


def addresses(columns: Sequence[Column], values: Sequence[Any]) -> dict[str, str]:
    """The addresses among the arguments of a row: what it announces, though it is in no table.

    Args:
        columns: of the arguments.
        values: of the arguments, in the same order.

    Returns:
        ``0x`` and 40 digits by the column's name, which never changes; ``key.pool`` for a component of a tuple.
    """
    found: dict[str, str] = {}
    for column, value in zip(columns, values, strict=True):
        if column.abi_type == "address" and not column.hashed and isinstance(value, bytes):
            found[column.name] = "0x" + value.hex()
        elif isinstance(value, Mapping):
            found |= dict(_within(column.name, column.components, value))
    return found


def _within(path: str, components: Sequence[Component], value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for component in components:
        part, name = value.get(component.name), f"{path}.{component.name}"
        if component.abi_type == "address" and isinstance(part, str):
            yield name, part
        elif isinstance(part, Mapping):
            yield from _within(name, component.components, part)


def _reason(error: psycopg.Error) -> str:
    return f"Postgres refused the row: {error.diag.message_primary or error}"
