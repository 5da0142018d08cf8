"""Transfers of tokens: which events of the catalog tell of them, and the view over all."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.abi import token_standards
from indexer.abi.token_standards import TRANSFER, TRANSFER_SINGLE, Standard
from indexer.store import database
from indexer.store.catalog import catalog, transfer_standards
from indexer.store.catalog.catalog import CatalogEvent
from indexer.store.catalog.declaration import Place
from indexer.store.database import psycopg_connection
from indexer.store.tokens import readable_transfers

#: Seconds for which a view that is being read is tried to be renewed before it is left to the next time.
VIEW_PATIENCE: Final = 5.0

#: Of how many tables that may share logs one is asked after the other whether it has a log, too. Of more, the rows of
#: one log are brought together instead: every table is planned once then, and not twice.
FEW: Final = 4

VIEW = sql.Identifier("gapless", "transfers")
# One transaction at a time makes or drops the view: Postgres fails where two create the same one.
_VIEW_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('gapless.transfers', 0))"
_NOTHING = """
    SELECT NULL::bigint AS chain_id, NULL::bigint AS block_number, NULL::timestamptz AS block_time,
           NULL::bytea AS tx_hash, NULL::bigint AS log_index, NULL::integer AS item, NULL::bytea AS token,
           NULL::text AS kind, NULL::bytea AS from_address, NULL::bytea AS to_address, NULL::bytea AS operator,
           NULL::numeric AS token_id, NULL::numeric AS amount WHERE false"""
_COMMENT = "Every ERC-20, ERC-721 and ERC-1155 transfer that is indexed, a row for each item of a batch"
_COLUMNS = {
    "chain_id": "EIP-155 chain id",
    "block_number": "block that bore the log",
    "block_time": "the block's timestamp",
    "tx_hash": "hash of the transaction, 32 bytes",
    "log_index": "place of the log in the block",
    "item": "place within an ERC-1155 batch, else 0",
    "token": "the token's contract, 20 bytes",
    "kind": "erc20, erc721 or erc1155",
    "from_address": "who gave it; 20 zero bytes: it was minted",
    "to_address": "who got it; 20 zero bytes: it was burned",
    "operator": "who moved it, ERC-1155 only",
    "token_id": "0 for ERC-20",
    "amount": "in the token's smallest unit; 1 for ERC-721",
}


@dataclass(frozen=True, slots=True)
class TransferEvent:
    """An event that tells of transfers, and by which standard."""

    event: CatalogEvent
    standard: Standard


def standard_of(event: CatalogEvent, abi: Sequence[Mapping[str, Any]]) -> Standard | None:
    """The token standard that an event belongs to; None: it tells of no transfer.

    Args:
        event: the event.
        abi: its contract's ABI.
    """
    return token_standards.standard_of(event.signature, event.table.columns, abi, anonymous=event.anonymous)


def load(connection: Connection) -> list[TransferEvent]:
    """All events of the catalog that tell of transfers, the retired ones too."""
    events = catalog.load_events(connection, signatures=token_standards.SIGNATURES).values()
    contract_ids = list({event.contract_id for event in events})
    rows = connection.execute(
        sa.text("SELECT id, abi FROM gapless.contracts WHERE id = ANY(:ids)"), {"ids": contract_ids}
    )
    abis = {row.id: row.abi for row in rows}
    found = []
    for event in events:
        if (standard := standard_of(event, abis[event.contract_id])) is not None:
            found.append(TransferEvent(event, standard))
    return found


def select(one: TransferEvent, condition: sql.Composable | None = None, *, place: int | None = None) -> sql.Composed:
    """A SELECT of an event's transfers (:func:`indexer.store.catalog.transfer_standards.select`).

    Args:
        one: the event.
        condition: on the event's table, which is called ``r``.
        place: a number that all rows have in one more column; None: without it.
    """
    table = one.event.table
    conditions = () if condition is None else (condition,)
    return transfer_standards.select(
        table.identifier, one.event.signature, one.standard, table.columns, *conditions, place=place
    )


def drop_view(connection: Connection) -> None:
    """Takes the views of transfers away, so that the tables below them can be dropped."""
    driver = psycopg_connection(connection)
    driver.execute(_VIEW_LOCK)
    driver.execute(sql.SQL("DROP VIEW IF EXISTS {}, {}").format(readable_transfers.VIEW, VIEW))


def shown_tables(connection: Connection) -> set[tuple[str, str]]:
    """The tables that the view reads: schema and name."""
    rows = connection.execute(
        sa.text("""
            SELECT n.nspname::text AS schema_name, c.relname::text AS table_name
            FROM pg_catalog.pg_rewrite r
            JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
            JOIN pg_catalog.pg_class c ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.oid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE r.ev_class = to_regclass('gapless.transfers') AND c.oid <> r.ev_class
        """)
    )
    return {(row.schema_name, row.table_name) for row in rows}


def branches(connection: Connection) -> list[sql.Composed]:
    """SELECTs that together are all transfers in the tables, each once; their text grows with the number of tables.

    Contracts of the manifest may share an address: a log that is in several of their tables is one transfer. Tables
    that may share logs are one SELECT, which leaves out what a table before has.
    """
    events = load(connection)
    places = _places(connection, [one.event.event_id for one in events])
    return [branch for group in _sharing(events, places) for branch in _each_once(group)]


def _each_once(group: Sequence[TransferEvent]) -> list[sql.Composed]:
    if len(group) <= max(FEW, 1):
        tables = [one.event.table.identifier for one in group]
        return [_in_order(one, tables[:at]) for at, one in enumerate(group)]
    columns = sql.SQL(", ").join(sql.SQL("every.{}").format(sql.Identifier(name)) for name in _COLUMNS)
    every = sql.SQL(" UNION ALL ").join(select(one, place=at) for at, one in enumerate(group))
    return [
        sql.SQL("""
            SELECT {columns} FROM (
                SELECT t.*, min(t.place) OVER (PARTITION BY {same}) AS first_place FROM ({every}) t
            ) every WHERE every.place = every.first_place""").format(columns=columns, same=_SAME, every=every)
    ]


def _in_order(one: TransferEvent, before: Sequence[sql.Identifier]) -> sql.Composed:
    """A table's transfers, but for logs that tables before have, so that the newest of all tables are merged.

    Postgres finds an index's order by itself where a table's rows are shown as they are, and not behind a condition or
    a list that is taken apart: there the order is said. Otherwise all rows were sorted for the newest ten.
    """
    if not before and one.event.signature in (TRANSFER, TRANSFER_SINGLE):
        return select(one)
    rows = select(one, transfer_standards.but_for(before) if before else None)
    return sql.SQL("({} ORDER BY chain_id DESC, block_number DESC, log_index DESC)").format(rows)


# What all tables that have a log say alike, and not what their standards make of it. The log alone would do, but a
# condition on any other column reaches the tables, and their indexes, only if the column is among these.
_SAME: Final = sql.SQL(", ").join(
    sql.Identifier("t", name)
    for name in (
        *("chain_id", "block_number", "log_index", "item", "token", "from_address", "to_address"),
        *("block_time", "tx_hash"),
    )
)


def _sharing(
    events: Sequence[TransferEvent], places: Mapping[int, Iterable[tuple[int, Place]]]
) -> list[list[TransferEvent]]:
    """Events in groups: a log may be in the tables of two only if both are in one group.

    Two events share an address of a chain, or one of them has the logs of any. Linear: an address, or a chain as a
    whole, leads to the events that have it.
    """
    group = list(range(len(events)))  # of each event, one before it in its group, or itself

    def first(at: int) -> int:
        while group[at] != at:
            group[at] = group[group[at]]
            at = group[at]
        return at

    def join(one: int, other: int) -> None:
        low, high = sorted((first(one), first(other)))
        group[high] = low

    holders: dict[tuple[str, int, str], int] = {}
    on_chain: dict[tuple[str, int], list[int]] = {}
    open_to_all: set[tuple[str, int]] = set()
    for at, one in enumerate(events):
        for chain_id, place in places.get(one.event.event_id, ()):
            chain = (one.event.signature, chain_id)
            on_chain.setdefault(chain, []).append(at)
            if not place.addresses:
                open_to_all.add(chain)
            for address in place.addresses:
                join(at, holders.setdefault((*chain, address), at))
    for chain in open_to_all:
        for at in on_chain[chain]:
            join(at, on_chain[chain][0])
    found: dict[int, list[TransferEvent]] = {}
    for at, one in enumerate(events):
        found.setdefault(first(at), []).append(one)
    return list(found.values())


def is_missing(engine: Engine) -> bool:
    """Whether the view, or the one for people beside it, is not there."""
    lacking = "SELECT to_regclass('gapless.transfers') IS NULL OR to_regclass('gapless.transfers_v') IS NULL"
    with engine.connect() as connection:
        return bool(connection.execute(sa.text(lacking)).scalar_one())


def keep_view(engine: Engine, *, patience: float = VIEW_PATIENCE) -> None:
    """Makes the view ``gapless.transfers`` of all that :func:`branches` has, where it is not so already.

    Beside it, the one for people (:mod:`indexer.store.tokens.readable_transfers`).

    It cannot be changed while it is being read. Its readers are not kept waiting: it is tried again for a while, and
    then left as it is.

    Args:
        engine: the database.
        patience: seconds for which it is tried.

    Raises:
        BusyError: it was read all the time.
    """
    database.attempt(engine, "the view gapless.transfers cannot be renewed", renew_view, patience=patience)


def renew_view(connection: Connection) -> None:
    """Does what :func:`keep_view` does; if anything is different, the view is locked until the transaction ends."""
    driver = psycopg_connection(connection)
    driver.execute(_VIEW_LOCK)
    parts: list[sql.Composable] = [*branches(connection)] or [sql.SQL(_NOTHING)]
    body = sql.SQL(" UNION ALL ").join(parts)
    mark = hashlib.sha256(body.as_string(driver).encode()).hexdigest()[:16]
    said = f"{_COMMENT} (made of {mark})"
    there = driver.execute("SELECT obj_description(to_regclass('gapless.transfers'), 'pg_class')").fetchone()
    if there != (said,):
        driver.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS {}").format(VIEW, body))
        driver.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(VIEW, sql.Literal(said)))
        for name, comment in _COLUMNS.items():
            of = sql.SQL("COMMENT ON COLUMN {}.{} IS {}")
            driver.execute(of.format(VIEW, sql.Identifier(name), sql.Literal(comment)))
    readable_transfers.renew(driver)


def _places(connection: Connection, event_ids: Sequence[int]) -> dict[int, list[tuple[int, Place]]]:
    """By event: the places of all its sources, the retired ones too, each with its chain."""
    places: dict[int, list[tuple[int, Place]]] = {}
    statement = sa.text("SELECT event_id, chain_id, place FROM gapless.sources WHERE event_id = ANY(:ids)")
    for row in connection.execute(statement, {"ids": list(event_ids)}):
        places.setdefault(row.event_id, []).append((row.chain_id, Place.from_json(row.place)))
    return places
