"""Holdings whose ledger is gone: deleted a few at a time, since there may be millions."""

from typing import Final

from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.store.database import psycopg_connection

#: Rows that one transaction deletes from each table.
ROWS: Final = 20_000

_TABLES: Final = ("holdings", "holdings_daily")

# From one ledger's number to the next by the key: the rows between are not read.
_DELETE: Final = sql.SQL("""
    WITH RECURSIVE kept AS (
        (SELECT ledger_id FROM {table} ORDER BY ledger_id LIMIT 1)
        UNION ALL
        SELECT (SELECT h.ledger_id FROM {table} h WHERE h.ledger_id > k.ledger_id ORDER BY h.ledger_id LIMIT 1)
        FROM kept k WHERE k.ledger_id IS NOT NULL
    ), gone AS (
        SELECT k.ledger_id FROM kept k
        WHERE k.ledger_id IS NOT NULL AND NOT EXISTS (SELECT FROM gapless.ledgers l WHERE l.id = k.ledger_id)
        LIMIT 1
    )
    DELETE FROM {table} WHERE ctid = ANY(ARRAY(
        SELECT h.ctid FROM {table} h WHERE h.ledger_id = (SELECT ledger_id FROM gone) LIMIT %s))
""")


def sweep(connection: Connection) -> int:
    """Deletes some of them; returns how many, 0 when none are left."""
    driver = psycopg_connection(connection)
    return sum(
        driver.execute(_DELETE.format(table=sql.Identifier("gapless", table)), (ROWS,)).rowcount for table in _TABLES
    )
