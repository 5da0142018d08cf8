"""Readable views beside event tables, such as ``coins.transfer_v``: what people read, of what programs search.

Bytes are texts, addresses have their names, amounts of ERC-20 tokens are in units too. What a query does not select
costs nothing: names are functions of a row, the tables of tokens and chains are joined by their keys. Filters by
address go to the columns ``..._bytes``, which are the table's own and have its indexes.

The catalog keeps each view's name (``events.view_name``), chosen beside what is there. A table's columns never change,
so a view is made once, and anew where this version writes views otherwise.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

from indexer.abi import token_standards
from indexer.abi.columns import Column
from indexer.abi.names import MOST_COLUMNS, fit, unique
from indexer.abi.token_standards import TRANSFER
from indexer.store import database
from indexer.store.database import BusyError, psycopg_connection

log = logging.getLogger(__name__)

VERSION: Final = 1
"""Of the form in which views are written here; one that is higher makes all of them anew."""

APPROVAL: Final = "Approval(address,address,uint256)"
#: Views that are made in one transaction: each holds a lock until its end, and the server has room for thousands.
_STEP: Final = 50
#: Seconds for which a view that is being read is tried to be made anew before it is left to the next time.
_PATIENCE: Final = 5.0

# One transaction at a time makes or drops them: Postgres fails where two create the same one.
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('gapless readable views', 0))"

_FIXED: Final = (
    # name, expression, comment
    ("chain_id", "r.chain_id", "EIP-155 chain id"),
    ("chain", "n.name::text", "name of the chain in the manifest"),
    ("block_number", "r.block_number", "block that bore the log"),
    ("block_time", "r.block_time", "the block's timestamp"),
    ("tx_hash", "gapless.hex(r.tx_hash)", "hash of the transaction as text; tx_hash_bytes is searched by an index"),
    ("tx_index", "r.tx_index", "place of the transaction in the block"),
    ("log_index", "r.log_index", "place of the log in the block"),
    ("contract_address", "gapless.hex(r.contract_address)", "who emitted the log, as text"),
)
_JOINS: Final = """
    FROM {table} r
    LEFT JOIN gapless.chains n ON n.chain_id = r.chain_id
    LEFT JOIN gapless.tokens t ON t.chain_id = r.chain_id AND t.address = r.contract_address"""


@dataclass(frozen=True, slots=True)
class _Shown:
    """One column of a view."""

    name: str
    expression: sql.Composable
    comment: str


_WAITING: Final = sa.text("""
    SELECT e.id FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
    WHERE e.view_name IS NULL OR e.view_version < :version ORDER BY e.id
""")
_EVENTS: Final = sa.text("""
    SELECT e.id, e.signature, e.anonymous, e.table_name, e.columns, e.view_name, c.name AS contract, c.schema_name,
           CASE WHEN e.signature = ANY(:of_tokens) THEN c.abi END AS abi
    FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
    WHERE e.id = ANY(:ids) AND (e.view_name IS NULL OR e.view_version < :version)
    ORDER BY e.id
""")


def keep(engine: Engine, *, patience: float = _PATIENCE) -> int:
    """Make the views that are lacking, and anew those of an earlier form; no reader is kept waiting.

    Args:
        engine: the database.
        patience: seconds for which each step is tried while others hold what it needs.

    Returns:
        How many were made.

    Raises:
        BusyError: a view was read all the time; it is as it was, and those after it are not made yet.
    """
    with engine.connect() as connection:
        waiting = list(connection.execute(_WAITING, {"version": VERSION}).scalars())
    for at in range(0, len(waiting), _STEP):
        make = partial(_make, ids=waiting[at : at + _STEP])
        database.attempt(engine, "readable views cannot be made", make, patience=patience)
    return len(waiting)


def keep_or_say(engine: Engine) -> None:
    """Do what :func:`keep` does; where readers hold a view, the log says that the running indexer makes it."""
    try:
        keep(engine)
    except BusyError as error:
        log.warning("%s; the running indexer makes them", error)


def drop(connection: Connection, tables_of: Collection[tuple[str, str]]) -> None:
    """Drop the views of event tables, so that these can be dropped or changed; :func:`keep` makes them again.

    Args:
        connection: in a transaction.
        tables_of: schema and name of each table.
    """
    psycopg_connection(connection).execute(_LOCK)
    rows = connection.execute(
        sa.text("""
            SELECT e.id, c.schema_name, e.table_name, e.view_name
            FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
            WHERE e.view_name IS NOT NULL AND c.schema_name = ANY(:schemas) ORDER BY e.id
        """),
        {"schemas": sorted({schema for schema, _ in tables_of})},
    )
    gone = []
    for row in rows.all():
        if (row.schema_name, row.table_name) in tables_of:
            _run(connection, sql.SQL("DROP VIEW IF EXISTS {}").format(sql.Identifier(row.schema_name, row.view_name)))
            gone.append(row.id)
    connection.execute(sa.text("UPDATE gapless.events SET view_name = NULL WHERE id = ANY(:ids)"), {"ids": gone})


def _make(connection: Connection, *, ids: Sequence[int]) -> None:
    psycopg_connection(connection).execute(_LOCK)
    of_tokens = [TRANSFER, APPROVAL]
    events = connection.execute(_EVENTS, {"ids": list(ids), "version": VERSION, "of_tokens": of_tokens}).all()
    taken = _relations(connection, {event.schema_name for event in events})
    made = {}
    for event in events:
        names = taken[event.schema_name]
        name = event.view_name or unique(fit(event.table_name, "_v"), names)
        names.add(name)
        _run(connection, _statements(event, name))
        made[event.id] = name
    # Last: history and head write these rows too, and wait for this transaction from here on.
    connection.execute(
        sa.text("""
            UPDATE gapless.events e SET view_name = m.name, view_version = :version
            FROM unnest(:ids ::integer[], :names ::text[]) AS m(id, name) WHERE e.id = m.id
        """),
        {"version": VERSION, "ids": list(made), "names": list(made.values())},
    )


def _relations(connection: Connection, schemas: Collection[str]) -> dict[str, set[str]]:
    """The names in each schema that a view cannot have: those of relations and of types."""
    names: dict[str, set[str]] = {schema: set() for schema in schemas}
    rows = connection.execute(
        sa.text("""
            SELECT n.nspname::text AS schema_name, t.typname::text AS name
            FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
            WHERE n.nspname = ANY(:schemas)
            UNION
            SELECT n.nspname::text, c.relname::text
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = ANY(:schemas)
        """),
        {"schemas": sorted(schemas)},
    )
    for row in rows:
        names[row.schema_name].add(row.name)
    return names


def _run(connection: Connection, statement: sql.Composed) -> None:
    psycopg_connection(connection).execute(statement)


# -- their SQL -----------------------------------------------------------------------------------------------------


def _statements(event: Any, name: str) -> sql.Composed:
    view = sql.Identifier(event.schema_name, name)
    shown = _columns(event.contract, [Column.from_json(one) for one in event.columns], _is_amount(event))
    select = sql.SQL(", ").join(sql.SQL("{} AS {}").format(one.expression, sql.Identifier(one.name)) for one in shown)
    joins = sql.SQL(_JOINS).format(table=sql.Identifier(event.schema_name, event.table_name))
    said = f"{event.schema_name}.{event.table_name} for people: event {event.signature}"
    statements = [
        sql.SQL("CREATE OR REPLACE VIEW {} AS SELECT {} {}").format(view, select, joins),
        sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(said)),
    ]
    statements += [
        sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(view, sql.Identifier(one.name), sql.Literal(one.comment))
        for one in shown
    ]
    return sql.SQL("; ").join(statements)


def _is_amount(event: Any) -> bool:
    """Whether the last of an event's arguments is an amount of the token that emits it."""
    if event.abi is None:
        return False
    columns = [Column.from_json(one) for one in event.columns]
    # An Approval has the arguments of a Transfer, and is told apart by the same.
    return token_standards.standard_of(TRANSFER, columns, event.abi, anonymous=event.anonymous) == "erc20"


def _columns(contract: str, arguments: Sequence[Column], is_amount: bool) -> list[_Shown]:
    """All columns: those that all tables have, the arguments, and in the end what is searched by an index."""
    taken = {name for name, _, _ in _FIXED} | {column.name for column in arguments}
    shown = [_Shown(name, sql.SQL(text), comment) for name, text, comment in _FIXED]

    def add(name: str, expression: sql.Composable, comment: str) -> None:
        chosen = unique(name, taken)
        taken.add(chosen)
        shown.append(_Shown(chosen, expression, comment))

    add("contract", sql.Literal(contract) + sql.SQL("::text"), "name of the contract in the manifest")
    add("contract_label", _label("contract_address"), "name of the contract's address (gapless.labels); null: none")
    add("symbol", sql.SQL("t.symbol::text"), "what the contract calls itself, if it is a token; null: unknown")
    # Of an event of hundreds of arguments, only what there is room for.
    is_roomy = len(arguments) * 3 + len(shown) + 2 <= MOST_COLUMNS
    for position, column in enumerate(arguments):
        of = sql.Identifier("r", column.name)
        shown.append(_Shown(column.name, _readable(column, of), column.comment))
        if _is_address(column) and is_roomy:
            comment = f"name of that address, {column.name} (gapless.labels); null: none"
            add(fit(column.name, "_label"), _label(column.name), comment)
        if is_amount and position == len(arguments) - 1:
            comment = f"{column.name} in units of the token, exact; null: its decimals are unknown"
            add(fit(column.name, "_units"), sql.SQL("gapless.units({}, t.decimals::integer)").format(of), comment)
    searched = ["tx_hash", "contract_address", *(c.name for c in arguments if c.rendering == "hex" and is_roomy)]
    for name in searched:
        add(fit(name, "_bytes"), sql.Identifier("r", name), f"{name} as the table has it: search by this one")
    return shown[:MOST_COLUMNS]


def _is_address(column: Column) -> bool:
    return column.abi_type == "address" and not column.hashed


def _label(column: str) -> sql.Composed:
    return sql.SQL("gapless.label(r.chain_id, {})").format(sql.Identifier("r", column))


def _readable(column: Column, of: sql.Composable) -> sql.Composable:
    match column.rendering:
        case "hex":
            return sql.SQL("gapless.hex({})").format(of)
        case "hex[]":
            return sql.SQL("gapless.hexes({})").format(of)
        case "integer" | "string_integer" | "string_decimal" | "bool" | "text" | "json":
            return of
        case "integer[]" | "string_integer[]" | "string_decimal[]" | "bool[]" | "text[]":
            return of
