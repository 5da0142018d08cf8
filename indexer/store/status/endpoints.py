"""The ``endpoints`` table: how the indexer sees its nodes, for ``status`` and the API."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.store.database import jsonb, psycopg_connection


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """One endpoint; ``host`` is ``https://host/***``."""

    host: str
    state: str
    head_number: int | None
    details: Mapping[str, Any]


def store(connection: Connection, chain_id: int, endpoints: Iterable[EndpointRow]) -> None:
    """Replaces what is known of a chain's endpoints; their place in the list is that of the manifest."""
    rows = list(endpoints)
    connection.execute(
        sa.text("DELETE FROM gapless.endpoints WHERE chain_id = :chain_id AND position >= :count"),
        {"chain_id": chain_id, "count": len(rows)},
    )
    with psycopg_connection(connection).cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO gapless.endpoints (chain_id, position, host, state, head_number, details)
            VALUES (%s, %s, %s, %s, %s, %s)
            ON CONFLICT (chain_id, position) DO UPDATE
            SET host = excluded.host, state = excluded.state, head_number = excluded.head_number,
                details = excluded.details, updated_at = now()
            """,
            [
                (chain_id, position, row.host, row.state, row.head_number, jsonb(dict(row.details)))
                for position, row in enumerate(rows)
            ],
        )
