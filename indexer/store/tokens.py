"""The ``tokens`` table and its cache."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.store.cache import Cache
from indexer.store.catalog import CatalogEvent
from indexer.store.database import psycopg_connection
from indexer.store.writer import jsonb

CACHE_SECONDS = 24 * 3600
NEGATIVE_CACHE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Token:
    """A row of ``tokens``; see there."""

    address: bytes
    kind: str | None
    name: str | None
    symbol: str | None
    decimals: int | None
    problems: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """What the cache holds and the API shows."""
        return {"kind": self.kind, "name": self.name, "symbol": self.symbol, "decimals": self.decimals}


def cache_key(chain_id: int, address: bytes) -> str:
    """The key of a token in Redis."""
    return f"gapless:token:{chain_id}:0x{address.hex()}"


def known(connection: Connection, chain_id: int) -> list[bytes]:
    """Addresses of all tokens that were read."""
    rows = connection.execute(
        sa.text("SELECT address FROM gapless.tokens WHERE chain_id = :chain_id ORDER BY address"),
        {"chain_id": chain_id},
    )
    return [bytes(address) for (address,) in rows]


def unread(connection: Connection, chain_id: int, contract_ids: Iterable[int], limit: int) -> list[bytes]:
    """Addresses of token contracts that are not in ``tokens`` yet: listed ones, and factories' children.

    One that said nothing of itself is asked again after a while: it may not have been deployed then.
    """
    rows = connection.execute(
        sa.text("""
            SELECT address FROM (
                SELECT unnest(addresses) AS address FROM gapless.deployments
                WHERE chain_id = :chain_id AND contract_id = ANY(:contracts)
                UNION
                SELECT address FROM gapless.children WHERE chain_id = :chain_id AND contract_id = ANY(:contracts)
            ) seen
            WHERE NOT EXISTS (SELECT 1 FROM gapless.tokens t
                              WHERE t.chain_id = :chain_id AND t.address = seen.address
                                AND (t.kind IS NOT NULL OR t.read_at > now() - make_interval(secs => :negative)))
            ORDER BY address LIMIT :limit
        """),
        {"chain_id": chain_id, "contracts": list(contract_ids), "limit": limit, "negative": NEGATIVE_CACHE_SECONDS},
    )
    return [bytes(address) for (address,) in rows]


def unread_emitters(connection: Connection, chain_id: int, event: CatalogEvent, limit: int) -> list[bytes]:
    """Addresses that emitted an event and are not in ``tokens`` yet: for contracts that may be anywhere.

    Hops from address to address through the index (a "loose index scan"), so that a billion rows cost as much as there
    are addresses.
    """
    rows = psycopg_connection(connection).execute(
        sql.SQL("""
            WITH RECURSIVE emitters AS (
                (SELECT contract_address FROM {table} WHERE chain_id = %(chain)s ORDER BY contract_address LIMIT 1)
                UNION ALL
                SELECT (SELECT t.contract_address FROM {table} t
                        WHERE t.chain_id = %(chain)s AND t.contract_address > e.contract_address
                        ORDER BY t.contract_address LIMIT 1)
                FROM emitters e WHERE e.contract_address IS NOT NULL
            )
            SELECT contract_address FROM emitters e
            WHERE contract_address IS NOT NULL
              AND NOT EXISTS (SELECT 1 FROM gapless.tokens t
                              WHERE t.chain_id = %(chain)s AND t.address = e.contract_address
                                AND (t.kind IS NOT NULL OR t.read_at > now() - make_interval(secs => %(negative)s)))
            LIMIT %(limit)s
        """).format(table=event.table.identifier),
        {"chain": chain_id, "limit": limit, "negative": NEGATIVE_CACHE_SECONDS},
    )
    return [bytes(address) for (address,) in rows]


def store(connection: Connection, chain_id: int, block_number: int, tokens: Iterable[Token]) -> None:
    """Keeps tokens as they were read at a block; a newer reading replaces an older one."""
    with psycopg_connection(connection).cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO gapless.tokens (chain_id, address, kind, name, symbol, decimals, problems, block_number)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
            ON CONFLICT (chain_id, address) DO UPDATE
            SET kind = excluded.kind, name = excluded.name, symbol = excluded.symbol, decimals = excluded.decimals,
                problems = excluded.problems, block_number = excluded.block_number, read_at = now()
            """,
            [
                (
                    chain_id,
                    t.address,
                    t.kind,
                    t.name,
                    t.symbol,
                    t.decimals,
                    jsonb(dict(t.problems) or None),
                    block_number,
                )
                for t in sorted(tokens, key=lambda token: token.address)
            ],
        )


def remember(cache: Cache, chain_id: int, tokens: Iterable[Token]) -> None:
    """Puts tokens into the cache; one that says nothing of itself is remembered for a shorter while."""
    tokens = list(tokens)
    for known, seconds in ((True, CACHE_SECONDS), (False, NEGATIVE_CACHE_SECONDS)):
        values = {
            cache_key(chain_id, token.address): token.to_json() for token in tokens if (token.kind is not None) is known
        }
        cache.set_many(values, seconds)
