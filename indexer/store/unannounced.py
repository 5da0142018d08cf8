"""Children whose announcement is gone: another filter, or another place, of their factory has replaced its rows.

A child is kept with the log that announced it. When a retired source of the factory's event is displaced
(``store.writer``), that log may be none of those that are wanted now.
"""

from collections.abc import Collection, Iterable, Sequence

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection

from indexer.intervals import RangeSet
from indexer.store.catalog import CatalogEvent, load_events
from indexer.store.database import psycopg_connection
from indexer.store.declaration import Factory

Rule = tuple[Factory, CatalogEvent]
"""How a child is found, and the event that announces it."""


def announcements(rules: Iterable[Rule]) -> sql.Composed:
    """A SELECT of all announcements in the tables: child, block_number, log_index, factory.

    Its parameter: ``chain_id``.
    """
    return sql.SQL(" UNION ALL ").join(
        sql.SQL(
            "SELECT {} AS child, block_number, log_index, contract_address AS factory FROM {} "
            "WHERE chain_id = %(chain_id)s"
        ).format(event.table.address(factory.argument), event.table.identifier)
        for factory, event in rules
    )


def kept_raw(rules: Iterable[Rule]) -> sql.Composed:
    """A condition on a child ``c``: its announcement was decoded, but Postgres refused the row, so it is kept raw.

    The table does not announce it then, and yet it is a child. Its parameter: ``chain_id``.
    """
    return sql.SQL(
        "EXISTS (SELECT FROM gapless.undecoded_logs u WHERE u.chain_id = %(chain_id)s AND u.event_id = ANY({}) "
        "AND u.block_number = c.block_number AND u.log_index = c.log_index AND NOT u.has_row)"
    ).format(sql.Literal([event.event_id for _, event in rules]))


def settle(connection: Connection, chain_id: int, event_ids: Collection[int], ranges: RangeSet) -> bool:
    """Makes the children born in some blocks those that are announced there, after other rows took these blocks.

    Args:
        connection: in the transaction that displaced rows, after the others are in.
        chain_id: the chain.
        event_ids: the events whose rows were displaced.
        ranges: the blocks.

    Returns:
        Whether one was forgotten. Whoever works by the catalog must read it anew then (``catalog.Writing.forgets``): in
        memory it is still known as a child, and a later announcement would be passed over.
    """
    forgotten = 0
    for contract_id, rules in _rules(connection, chain_id, set(event_ids)):
        for first, last in ranges:
            forgotten += _settle(connection, chain_id, contract_id, rules, first, last)
    return forgotten > 0


def _rules(connection: Connection, chain_id: int, event_ids: Collection[int]) -> Iterable[tuple[int, list[Rule]]]:
    """The contracts some of whose children such an event announces, each with all of its rules."""
    rows = connection.execute(
        sa.text("""
            SELECT contract_id, factories FROM gapless.deployments
            WHERE chain_id = :chain_id AND factories IS NOT NULL ORDER BY contract_id
        """),
        {"chain_id": chain_id},
    ).all()
    events = load_events(connection).values() if rows else ()
    for row in rows:
        factories = [Factory(**factory) for factory in row.factories]
        rules = [(factory, event) for factory in factories for event in events if factory.announced_by(event)]
        if any(event.event_id in event_ids for _, event in rules):
            yield row.contract_id, rules


def _settle(
    connection: Connection, chain_id: int, contract_id: int, rules: Sequence[Rule], first: int, last: int
) -> int:
    driver = psycopg_connection(connection)
    announced = announcements(rules)
    parameters = {"chain_id": chain_id, "contract_id": contract_id, "first": first, "last": last}
    gone = driver.execute(
        sql.SQL("""
            DELETE FROM gapless.children c
            WHERE c.chain_id = %(chain_id)s AND c.contract_id = %(contract_id)s
              AND c.block_number BETWEEN %(first)s AND %(last)s
              AND NOT EXISTS (SELECT FROM ({}) a WHERE a.block_number = c.block_number
                              AND a.log_index = c.log_index AND a.child = c.address)
              AND NOT {}
            RETURNING c.address
        """).format(announced, kept_raw(rules)),
        parameters,
    ).fetchall()
    if not gone:
        return 0
    # It may have been announced more than once.
    driver.execute(
        sql.SQL("""
            INSERT INTO gapless.children (chain_id, contract_id, address, block_number, log_index, factory_address)
            SELECT DISTINCT ON (child) %(chain_id)s, %(contract_id)s, child, block_number, log_index, factory
            FROM ({}) a WHERE child = ANY(%(gone)s) ORDER BY child, block_number, log_index
        """).format(announced),
        {**parameters, "gone": [bytes(address) for (address,) in gone]},
    )
    return len(gone)
