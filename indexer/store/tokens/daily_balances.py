"""Balances at the ends of days: a row for each day (UTC) at whose end a holder has another amount than the day before.

Only ledgers whose contract is named in ``daily`` of ``[balances]`` have them. A day's amount is the sum of all that
came before, so what changes on a day moves the holder's later days as well: transfers may be counted in any order, and
taken back, as holdings may. A holder's amount at the end of any day is that of the newest row up to it.
"""

from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg import sql

# All of it sees the table as it was before. Looking up one row after the other by the key, whatever the planner thinks
# of their number, keeps a step from reading the whole table.
_ADD: Final = sql.SQL("""
    WITH moved AS MATERIALIZED ({deltas}), running AS (
        SELECT token, token_id, holder, day, delta, sum(delta) OVER holders AS so_far,
               lead(day) OVER holders AS next_day
        FROM moved WINDOW holders AS (PARTITION BY token, token_id, holder ORDER BY day)
    ), later AS (
        UPDATE gapless.holdings_daily h SET amount = h.amount + found.so_far
        FROM (
            SELECT r.so_far, n.place FROM running r CROSS JOIN LATERAL (
                SELECT d.ctid AS place FROM gapless.holdings_daily d
                WHERE d.ledger_id = %(ledger)s AND d.token = r.token AND d.token_id = r.token_id
                  AND d.holder = r.holder AND d.day > r.day AND (r.next_day IS NULL OR d.day < r.next_day)
                OFFSET 0) n
        ) found
        WHERE h.ctid = found.place
    )
    INSERT INTO gapless.holdings_daily AS h (ledger_id, token, token_id, holder, day, change, amount)
    SELECT %(ledger)s, r.token, r.token_id, r.holder, r.day, r.delta, r.so_far + coalesce((
        SELECT d.amount FROM gapless.holdings_daily d
        WHERE d.ledger_id = %(ledger)s AND d.token = r.token AND d.token_id = r.token_id AND d.holder = r.holder
          AND d.day <= r.day
        ORDER BY d.day DESC LIMIT 1), 0)
    FROM running r ORDER BY r.token, r.token_id, r.holder, r.day
    ON CONFLICT (ledger_id, token, token_id, holder, day)
    DO UPDATE SET change = h.change + excluded.change, amount = excluded.amount
""")

_RECOUNTED: Final = sql.SQL("""
    SELECT token, token_id, holder, day, delta AS change,
           sum(delta) OVER (PARTITION BY token, token_id, holder ORDER BY day) AS amount
    FROM ({deltas}) moved
""")


def add(driver: psycopg.Connection[Any], deltas: sql.Composed, values: Mapping[str, Any]) -> None:
    """Counts what transfers changed on each day.

    Args:
        driver: in a transaction that holds the ledger's lock.
        deltas: token, token_id, holder, day and delta (:func:`indexer.store.tokens.balances.deltas`).
        values: its parameters, and ``ledger``.
    """
    driver.execute(_ADD.format(deltas=deltas), values)


def forget_unchanged(driver: psycopg.Connection[Any], ledger_id: int) -> None:
    """Deletes the days on which nothing changes any more; an index of those alone finds them."""
    driver.execute("DELETE FROM gapless.holdings_daily WHERE ledger_id = %s AND change = 0", (ledger_id,))


def recounted(deltas: sql.Composed) -> sql.Composed:
    """A SELECT of all that a ledger's days should be: token, token_id, holder, day, change, amount.

    Args:
        deltas: as for :func:`add`, of all that the ledger has counted.
    """
    return _RECOUNTED.format(deltas=deltas)
