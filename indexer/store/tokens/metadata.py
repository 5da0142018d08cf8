"""The ``tokens`` table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.store.catalog.catalog import CatalogEvent
from indexer.store.database import jsonb, psycopg_connection
from indexer.store.rows import indexes

# What was asked in vain is asked again, later and later: an address may become a token, and a node may come to run its
# calls. 'attempts' counts the vain ones before.
_PAUSE = "least(interval '1 hour' * power(2, least({attempts}, 20)), interval '28 days')"
_IS_SETTLED = "(t.asked_again_at IS NULL OR t.asked_again_at > now())"


@dataclass(frozen=True, slots=True)
class Token:
    """A row of ``tokens``; see there."""

    address: bytes
    kind: str | None
    name: str | None
    symbol: str | None
    decimals: int | None
    problems: Mapping[str, str]
    is_whole: bool = True
    """Whether every call has an answer; what has none is unknown, and asked again."""

    @property
    def is_settled(self) -> bool:
        """Whether it need not be asked again."""
        return self.is_whole and self.kind is not None


def known(connection: Connection, chain_id: int) -> list[bytes]:
    """Addresses of all tokens that were read."""
    rows = connection.execute(
        sa.text("SELECT address FROM gapless.tokens WHERE chain_id = :chain_id ORDER BY address"),
        {"chain_id": chain_id},
    )
    return [bytes(address) for (address,) in rows]


def unread(
    connection: Connection, chain_id: int, contract_ids: Iterable[int], limit: int, *, above: int = -1
) -> list[bytes]:
    """Addresses of token contracts that are not in ``tokens`` yet: listed ones, and factories' children.

    One that said nothing of itself is asked again after a while: it may not have been deployed then.

    Args:
        connection: to read with.
        chain_id: the chain.
        contract_ids: the contracts whose addresses are tokens.
        limit: so many addresses at most.
        above: only children that were discovered above this block: those are found by an index, whereas all children
            of a large factory take seconds.
    """
    rows = connection.execute(
        sa.text(f"""
            SELECT address FROM (
                SELECT unnest(addresses) AS address FROM gapless.deployments
                WHERE chain_id = :chain_id AND contract_id = ANY(:contracts)
                UNION
                SELECT address FROM gapless.children
                WHERE chain_id = :chain_id AND contract_id = ANY(:contracts) AND block_number > :above
            ) seen
            WHERE NOT EXISTS (SELECT 1 FROM gapless.tokens t
                              WHERE t.chain_id = :chain_id AND t.address = seen.address
                                AND {_IS_SETTLED})
            ORDER BY address LIMIT :limit
        """),
        {"chain_id": chain_id, "contracts": list(contract_ids), "limit": limit, "above": above},
    )
    return [bytes(address) for (address,) in rows]


def history_mark(
    connection: Connection, chain_id: int, contract_ids: Iterable[int], event_ids: Iterable[int] = ()
) -> tuple[int, ...]:
    """Changes whenever tokens may have been seen in history, or other contracts or events tell of them.

    Args:
        connection: to read with.
        chain_id: the chain.
        contract_ids: contracts whose children are tokens.
        event_ids: events whose arguments name tokens.
    """
    contracts, events = sorted(contract_ids), sorted(event_ids)
    row = connection.execute(
        sa.text("""
            SELECT (SELECT version FROM gapless.catalog) AS catalog,
                   coalesce(sum(e.version), 0)::bigint AS announced,
                   count(*) FILTER (WHERE d.adopted) AS adopted,
                   (SELECT coalesce(sum(version), 0)::bigint FROM gapless.events WHERE id = ANY(:events)) AS named
            FROM gapless.deployments d
            JOIN jsonb_array_elements(d.factories) f ON true
            JOIN gapless.contracts c ON c.name = f ->> 'contract'
            JOIN gapless.events e ON e.contract_id = c.id AND e.signature = f ->> 'event'
            WHERE d.chain_id = :chain_id AND d.contract_id = ANY(:contracts)
        """),
        {"chain_id": chain_id, "contracts": contracts, "events": events},
    ).one()
    return (row.catalog, row.announced, row.adopted, row.named, *contracts, *events)


def unread_emitters(connection: Connection, chain_id: int, event: CatalogEvent, limit: int) -> list[bytes]:
    """Addresses that emitted an event and are not in ``tokens`` yet: for contracts that may be anywhere."""
    return _unread_in(connection, chain_id, event, "contract_address", limit)


def unread_arguments(
    connection: Connection, chain_id: int, event: CatalogEvent, argument: str, limit: int, *, above: int = -1
) -> list[bytes]:
    """Addresses in an argument of an event that are not in ``tokens`` yet.

    Args:
        connection: to read with.
        chain_id: the chain.
        event: the event.
        argument: the ABI's name of an argument that is an address.
        limit: so many addresses at most.
        above: only of rows above this block; -1: of all.
    """
    column = next((one.name for one in event.table.columns if one.argument == argument), None)
    return [] if column is None else _unread_in(connection, chain_id, event, column, limit, above=above)


def _unread_in(
    connection: Connection, chain_id: int, event: CatalogEvent, column: str, limit: int, *, above: int = -1
) -> list[bytes]:
    """Addresses in a column that are not in ``tokens`` yet.

    Hops from address to address through the index (a "loose index scan"), so that a billion rows cost as much as there
    are addresses. While that index is put off or being built (a first history), there are none: each hop would scan the
    table. Few blocks are read by their numbers.
    """
    if above < 0 and not indexes.is_finished(connection, event.table.schema_name, event.table.table_name, column):
        return []
    every = """
        WITH RECURSIVE seen AS (
            (SELECT r.{column} AS address FROM {table} r WHERE r.chain_id = %(chain)s ORDER BY r.{column} LIMIT 1)
            UNION ALL
            SELECT (SELECT r.{column} FROM {table} r WHERE r.chain_id = %(chain)s AND r.{column} > s.address
                    ORDER BY r.{column} LIMIT 1)
            FROM seen s WHERE s.address IS NOT NULL
        )"""
    newest = """
        WITH seen AS (SELECT DISTINCT r.{column} AS address FROM {table} r
                      WHERE r.chain_id = %(chain)s AND r.block_number > %(above)s)"""
    unread = """
        SELECT s.address FROM seen s
        WHERE s.address IS NOT NULL
          AND NOT EXISTS (SELECT 1 FROM gapless.tokens t
                          WHERE t.chain_id = %(chain)s AND t.address = s.address AND {settled})
        LIMIT %(limit)s"""
    rows = psycopg_connection(connection).execute(
        sql.SQL((every if above < 0 else newest) + unread).format(
            table=event.table.identifier, column=sql.Identifier(column), settled=sql.SQL(_IS_SETTLED)
        ),
        {"chain": chain_id, "limit": limit, "above": above},
    )
    return [bytes(address) for (address,) in rows]


def store(
    connection: Connection,
    chain_id: int,
    block_number: int,
    tokens: Iterable[Token],
    *,
    read_at: datetime | None = None,
) -> None:
    """Keeps tokens as they were read at a block; a newer reading replaces an older one, where it is an answer.

    Args:
        connection: in a transaction.
        chain_id: the chain.
        block_number: the block.
        tokens: what they said.
        read_at: when; None: now.
    """
    statement = f"""
        INSERT INTO gapless.tokens AS t
            (chain_id, address, kind, name, symbol, decimals, problems, block_number, read_at, asked_again_at)
        VALUES (%(chain)s, %(address)s, %(kind)s, %(name)s, %(symbol)s, %(decimals)s, %(problems)s, %(block)s,
                coalesce(%(read_at)s, now()),
                CASE WHEN NOT %(settled)s THEN coalesce(%(read_at)s, now()) + {_PAUSE.format(attempts="0")} END)
        ON CONFLICT (chain_id, address) DO UPDATE
        SET kind = CASE WHEN %(whole)s THEN excluded.kind ELSE coalesce(excluded.kind, t.kind) END,
            name = CASE WHEN %(whole)s THEN excluded.name ELSE coalesce(excluded.name, t.name) END,
            symbol = CASE WHEN %(whole)s THEN excluded.symbol ELSE coalesce(excluded.symbol, t.symbol) END,
            decimals = CASE WHEN %(whole)s THEN excluded.decimals ELSE coalesce(excluded.decimals, t.decimals) END,
            problems = excluded.problems, block_number = excluded.block_number, read_at = excluded.read_at,
            attempts = CASE WHEN %(settled)s THEN 1 ELSE least(t.attempts + 1, 1000) END,
            asked_again_at = CASE WHEN NOT %(settled)s THEN now() + {_PAUSE.format(attempts="t.attempts")} END
    """
    with psycopg_connection(connection).cursor() as cursor:
        cursor.executemany(
            statement,
            [
                {
                    "chain": chain_id,
                    "address": t.address,
                    "kind": t.kind,
                    "name": t.name,
                    "symbol": t.symbol,
                    "decimals": t.decimals,
                    "problems": jsonb(dict(t.problems) or None),
                    "block": block_number,
                    "read_at": read_at,
                    "settled": t.is_settled,
                    "whole": t.is_whole,
                }
                for t in sorted(tokens, key=lambda token: token.address)
            ],
        )


class StoredCacheSecret:
    """What values in Redis are signed with: what the environment says, else what the database keeps."""

    def __init__(self, engine: Engine, given: str | None = None) -> None:
        """Asks nothing yet.

        Args:
            engine: the database.
            given: of the environment, where it names one.
        """
        self._engine = engine
        self._secret = None if given is None else given.encode()

    def __call__(self) -> bytes | None:
        """The secret; None while the database does not tell it."""
        if self._secret is None:
            try:
                with self._engine.connect() as connection:
                    kept = connection.execute(sa.text("SELECT secret FROM gapless.cache_secret")).scalar_one_or_none()
            except sa.exc.SQLAlchemyError:
                return None
            self._secret = None if kept is None else bytes(kept)
        return self._secret
