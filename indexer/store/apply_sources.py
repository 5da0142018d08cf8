"""A factory's children when its rules change. Part of :mod:`indexer.store.apply`: it works in its transaction."""

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.store.catalog import load_sources
from indexer.store.database import psycopg_connection
from indexer.store.declaration import Factory


def forget_children(connection: Connection, contract_id: int, chain_id: int) -> None:
    """Forgets whom a contract's factories have announced on a chain, for a rule that is no longer the same."""
    connection.execute(
        sa.text("DELETE FROM gapless.children WHERE contract_id = :contract_id AND chain_id = :chain_id"),
        {"contract_id": contract_id, "chain_id": chain_id},
    )


def adopt_children(connection: Connection) -> dict[tuple[int, int], int]:
    """Finds the children that factories announced before their rule was declared: their events are in the tables.

    Returns:
        By chain and contract whose children were found: the first block in which one was born.
    """
    driver = psycopg_connection(connection)
    sources = load_sources(connection)
    done: set[tuple[int, int, Factory]] = set()
    found: dict[tuple[int, int], int] = {}
    for child in sources:
        for factory in child.place.factories:
            key = (child.chain_id, child.event.contract_id, factory)
            announcing = next((s.event for s in sources if factory.announced_by(s.event)), None)
            if key in done or announcing is None:
                continue
            done.add(key)
            first = driver.execute(
                sql.SQL("""
                    WITH adopted AS (INSERT INTO gapless.children
                        (chain_id, contract_id, address, block_number, log_index, factory_address)
                    SELECT DISTINCT ON (child) chain_id, %s, child, block_number, log_index, contract_address
                    FROM (SELECT chain_id, {} AS child, block_number, log_index, contract_address FROM {}
                          WHERE chain_id = %s) announced
                    ORDER BY child, block_number, log_index
                    ON CONFLICT (chain_id, contract_id, address) DO NOTHING RETURNING block_number)
                    SELECT min(block_number) FROM adopted
                """).format(announcing.table.address(factory.argument), announcing.table.identifier),
                (child.event.contract_id, child.chain_id),
            ).fetchone()
            if first is not None and first[0] is not None:
                contract = (child.chain_id, child.event.contract_id)
                found[contract] = min(first[0], found.get(contract, first[0]))
    return found
