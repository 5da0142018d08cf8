"""Rows that Postgres refuses: one of them must not hold up the thousands beside it.

A value that the decoder took and Postgres does not (an indexed text too long for a btree, say) fails the whole COPY.
The rows are halved until those that break it stand alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import psycopg
from psycopg import sql

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


def _reason(error: psycopg.Error) -> str:
    return f"Postgres refused the row: {error.diag.message_primary or error}"
