"""How large the tables are: those of events, snapshots and derived tables by name, Gapless' own each by itself."""

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class TableSize:
    """One table.

    Attributes:
        kind: of what; ``own``: Gapless' own, ``other``: in one of its schemas, and not made by Gapless.
        contract: of an event or a snapshot: its contract.
        name: of the event in the API, of the snapshot or derived table, or of the table.
        table: schema and table.
        active: whether the manifest asks for it.
        rows: an estimate by Postgres' statistics.
        table_bytes: rows, and what is kept beside them because it is long.
        index_bytes: all indexes.
        share: part of the whole database.
    """

    kind: Literal["event", "snapshot", "derived", "own", "other"]
    contract: str | None
    name: str
    table: str
    active: bool
    rows: int
    table_bytes: int
    index_bytes: int
    share: float

    @property
    def bytes(self) -> int:
        """Table and indexes."""
        return self.table_bytes + self.index_bytes


_SIZES = sa.text("""
    WITH named AS (
        SELECT 'event' AS kind, c.name AS contract, e.api_name AS name, c.schema_name, e.table_name,
               e.active AND c.active AS active
        FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
        UNION ALL
        SELECT 'snapshot', c.name, s.name, c.schema_name, s.table_name, s.active
        FROM gapless.series s JOIN gapless.contracts c ON c.id = s.contract_id
        UNION ALL
        SELECT 'derived', NULL, d.name, 'derived', d.table_name, d.active FROM gapless.derived d
        WHERE d.table_name IS NOT NULL
    )
    SELECT coalesce(n.kind, CASE m.nspname WHEN 'gapless' THEN 'own' ELSE 'other' END) AS kind,
           coalesce(n.contract, c.name) AS contract, coalesce(n.name, p.relname) AS name,
           m.nspname || '.' || p.relname AS "table", coalesce(n.active, true) AS active,
           greatest(pg_stat_get_live_tuples(p.oid), p.reltuples, 0)::bigint AS rows,
           coalesce(pg_table_size(p.oid), 0) AS table_bytes, coalesce(pg_indexes_size(p.oid), 0) AS index_bytes,
           pg_database_size(current_database()) AS whole
    FROM pg_catalog.pg_class p JOIN pg_catalog.pg_namespace m ON m.oid = p.relnamespace
    LEFT JOIN gapless.contracts c ON c.schema_name = m.nspname
    LEFT JOIN named n ON n.schema_name = m.nspname
          AND (n.table_name = p.relname OR n.kind = 'derived' AND p.relname ~ ('^' || n.table_name || '_[0-9]+$'))
    WHERE p.relkind IN ('r', 'm') AND (m.nspname IN ('gapless', 'derived') OR c.id IS NOT NULL)
      AND (CAST(:contract AS text) IS NULL OR c.name = :contract)
    ORDER BY pg_table_size(p.oid) + pg_indexes_size(p.oid) DESC NULLS LAST, 4
""")


def load(connection: Connection, contract: str | None = None) -> list[TableSize]:
    """The tables, the largest first.

    Args:
        connection: to read with. A table that another transaction holds for itself is waited for.
        contract: only those of its schema; None: all.
    """
    return [
        TableSize(
            row.kind,
            row.contract,
            row.name,
            row.table,
            row.active,
            row.rows,
            row.table_bytes,
            row.index_bytes,
            (row.table_bytes + row.index_bytes) / row.whole,
        )
        for row in connection.execute(_SIZES, {"contract": contract})
    ]
