"""Transfers of tokens, whatever their standard and table, in the chain's order.

Each table is read by the index that the request's conditions have there, and no further than a page needs; what is
read is merged. "From or to somebody" is two such readings of each table: an OR would read all of one side and sort it
(200 ms on a busy address, against 0.05 ms).

A position has an item beside block and log: the place in an ERC-1155 batch.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from psycopg import sql

from api.catalog import Event
from api.sql import counting, json_text, scope
from api.sql import events as rows
from api.sql.events import Condition
from api.sql.statement import Binder, Statement, integers
from indexer.abi import token_standards
from indexer.abi.token_standards import CONSECUTIVE_TRANSFER, TRANSFER, TRANSFER_BATCH, TRANSFER_SINGLE
from indexer.store.catalog import transfer_standards

FIELDS: Final = (
    "id",
    "block_number",
    "block_time",
    "tx_hash",
    "log_index",
    "kind",
    "token",
    "from",
    "to",
    "operator",
    "token_id",
    "value",
    "finality",
)


@dataclass(frozen=True, slots=True)
class Table:
    """The table of one event, as a request concerns it.

    Attributes:
        event: the event; its ``standard`` is known.
        tokens: which of its rows the request's tokens leave: all, those of one token, or those of some.
        twins: events whose tables may hold the same logs, and come first.
    """

    event: Event
    tokens: Literal["all", "one", "some"]
    twins: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """All of a request, beside its shape, that decides the text of its statement.

    Attributes:
        tables: where transfers are.
        direction: of transfers of the address ``participant``; None: nobody's in particular.
        given: names of the filters ``from``, ``to`` and ``token_id``, where the request has them.
    """

    tables: tuple[Table, ...]
    direction: Literal["in", "out", "any"] | None = None
    given: frozenset[str] = frozenset()

    @property
    def event_ids(self) -> tuple[int, ...]:
        """The events."""
        return tuple(table.event.event_id for table in self.tables)


@dataclass(frozen=True, slots=True)
class Leg:
    """One reading of one table.

    Attributes:
        table: the table.
        conditions: on its transfers.
        gated: no index serves them, so only a window of blocks may be looked through.
    """

    table: Table
    conditions: tuple[str, ...]
    gated: bool


def legs(asked: Asked, shape: rows.Shape, bind: Binder) -> list[Leg]:
    """All readings of a request; together they find each transfer once."""
    found = []
    for table in asked.tables:
        giver, receiver = token_standards.parties(table.event.signature, table.event.columns)
        conditions = _conditions(asked, table, shape, bind)
        sides: tuple[tuple[Condition, ...], ...] = ((),)
        if asked.direction is not None:
            participant = bind("participant", "bytea")
            out = Condition(f"t.from_address = {participant}", giver.name)
            into = Condition(f"t.to_address = {participant}", receiver.name)
            # What somebody sends to himself is one transfer.
            others = Condition(f"t.from_address <> {participant}")
            sides = {"out": ((out,),), "in": ((into,),), "any": ((out,), (into, others))}[asked.direction]
        for side in sides:
            every = (*side, *conditions)
            served = not every or any(one.column in table.event.ordered_by for one in every)
            found.append(Leg(table, tuple(one.text for one in every), gated=not served))
    return found


def _conditions(asked: Asked, table: Table, shape: rows.Shape, bind: Binder) -> list[Condition]:
    columns = table.event.columns
    giver, receiver = token_standards.parties(table.event.signature, columns)
    found = []
    if "tx_hash" in shape.given:
        found.append(Condition(f"t.tx_hash = {bind('tx_hash', 'bytea')}", "tx_hash"))
    if "from" in asked.given:
        found.append(Condition(f"t.from_address = {bind('from', 'bytea')}", giver.name))
    if "to" in asked.given:
        found.append(Condition(f"t.to_address = {bind('to', 'bytea')}", receiver.name))
    if "token_id" in asked.given:
        # An index on a column knows nothing of the places in its arrays.
        number = {TRANSFER: columns[2], TRANSFER_SINGLE: columns[-2]}.get(table.event.signature)
        name = number.name if number is not None else None
        found.append(Condition(f"t.token_id = {bind('token_id', 'numeric')}", name))
        if table.event.standard == "erc20":
            found.append(Condition("false"))
    if table.tokens == "one":
        found.append(Condition(f"t.token = {bind('token', 'bytea')}", "contract_address"))
    if table.tokens == "some":
        found.append(Condition(f"t.token = ANY ({bind('address', 'bytea[]')})", "contract_address"))
    return found


def _found(leg: Leg, shape: rows.Shape, bind: Binder, window: int, *, limit: int | None, ordered: bool = True) -> str:
    """The query of one reading."""
    event = leg.table.event
    assert event.standard is not None
    twins = transfer_standards.but_for([_name(twin) for twin in leg.table.twins])
    select = transfer_standards.select(_name(event), event.signature, event.standard, event.columns, twins)
    where = [
        f"t.chain_id = {shape.chain_id}",
        scope.between(bind, cursor=shape.cursor is not None, forward=shape.forward),
        *leg.conditions,
    ]
    if shape.cursor:
        cursor = ", ".join(
            bind(f"cursor_{name}", pg_type) for name, pg_type in (("block", "bigint"), ("log", "int"), ("item", "int"))
        )
        where.append(f"(t.block_number, t.log_index, t.item) {'>' if shape.forward else '<'} ({cursor})")
    if leg.gated:
        where.append(f"(SELECT {scope.SPAN} <= {window} FROM scope)")
    end = _order(shape.forward) if ordered else ""
    if limit:
        end += f" LIMIT {limit}"
    batch = "true" if event.signature in (TRANSFER_BATCH, CONSECUTIVE_TRANSFER) else "false"
    return f"SELECT t.*, {batch} AS batch FROM ({select.as_string()}) t WHERE {' AND '.join(where)} {end}"


def _name(event: Event) -> sql.Identifier:
    return sql.Identifier(event.schema_name, event.table_name)


def _order(forward: bool, alias: str = "t.") -> str:
    direction = "ASC" if forward else "DESC"
    return "ORDER BY " + ", ".join(f"{alias}{key} {direction}" for key in ("block_number", "log_index", "item"))


def _merged(asked: Asked, shape: rows.Shape, bind: Binder, window: int, *, limit: int | None) -> str:
    """The query of all rows in the order of reading."""
    each = [f"({_found(leg, shape, bind, window, limit=limit)})" for leg in legs(asked, shape, bind)]
    end = f" LIMIT {limit}" if limit else ""
    return f"SELECT t.* FROM ({' UNION ALL '.join(each)}) t {_order(shape.forward)}{end}"


#: As in the chain's order of events, but for batches, whose items are told apart.
_ID: Final = "t.block_number || '-' || t.log_index || CASE WHEN t.batch THEN '-' || t.item ELSE '' END"


def _expressions() -> Mapping[str, tuple[str, bool]]:
    """The members of a row: text, and whether it is a string in JSON."""
    return {
        "id": (_ID, True),
        "block_number": ("t.block_number", False),
        "block_time": (json_text.time("t.block_time"), True),
        "tx_hash": (json_text.hexadecimal("t.tx_hash"), True),
        "log_index": ("t.log_index", False),
        "kind": ("t.kind", True),
        "token": (json_text.hexadecimal("t.token"), True),
        "from": (json_text.hexadecimal("t.from_address"), True),
        "to": (json_text.hexadecimal("t.to_address"), True),
        "operator": (json_text.hexadecimal("t.operator"), True),
        "token_id": ("CASE WHEN t.kind <> 'erc20' THEN t.token_id::text END", True),
        "value": ("t.amount::text", True),
        "finality": (json_text.FINALITY, True),
    }


def row_text(fields: Collection[str]) -> str:
    """The expression for one row's JSON; no fields: all."""
    members = [
        (name, f"coalesce({json_text.quoted(text) if is_text else f'{text}::text'}, 'null')")
        for name, (text, is_text) in _expressions().items()
        if not fields or name in fields
    ]
    return json_text.object_text(members)


def csv_columns(fields: Collection[str]) -> dict[str, str]:
    """The columns of a CSV: names, and expressions."""
    return {name: text for name, (text, _) in _expressions().items() if not fields or name in fields}


def _ctes(asked: Asked, shape: rows.Shape, bind: Binder) -> list[str]:
    return scope.ctes(shape.chain_id, asked.event_ids, bind, given=shape.given, finality=shape.finality, together=True)


def _state(asked: Asked, shape: rows.Shape, bind: Binder) -> str:
    extra = [("filtered", _filtered(asked, shape))]
    if shape.branch:
        extra.append(("cursor", scope.cursor_check(shape.chain_id, bind)))
    return scope.state(scope.event_versions(asked.event_ids), extra)


def _filtered(asked: Asked, shape: rows.Shape) -> str:
    """SQL of the events of which the manifest wants but a part."""
    return f"""(SELECT json_agg(DISTINCT c.name || '.' || e.api_name)
        FROM gapless.sources s
        JOIN gapless.events e ON e.id = s.event_id JOIN gapless.contracts c ON c.id = e.contract_id
        WHERE s.active AND s.chain_id = {shape.chain_id} AND s.event_id IN {integers(asked.event_ids)}
          AND s.place->'filters' IS NOT NULL)"""


def page(asked: Asked, shape: rows.Shape, window: int) -> Statement:
    """One page: state, rows, branches, tokens, count, transactions; as :func:`api.sql.events.page`."""
    bind = Binder()
    parts = _ctes(asked, shape, bind)
    parts.append(f"""page AS MATERIALIZED (
    SELECT t.block_number, t.log_index, t.item, t.token AS contract_address, t.tx_hash,
           {_ID} || chr(9) || {row_text(shape.fields)} AS row
    FROM ({_merged(asked, shape, bind, window, limit=shape.limit + 1)}) t)""")
    text = f"""WITH {", ".join(parts)}
SELECT {_state(asked, shape, bind)},
    (SELECT string_agg(row, chr(10) {_order(shape.order == "asc", "")}) FROM page),
    {scope.branches(shape.chain_id, "page")},
    {rows.tokens_of_page(shape)},
    {_counted(asked, shape, bind, window)},
    {rows.transactions_of_page(shape)}"""
    return Statement.of(text, bind)


def _counted(asked: Asked, shape: rows.Shape, bind: Binder, window: int) -> str:
    whole = rows.uncut(shape)
    return counting.counted(
        shape.count,
        lambda most: [_found(leg, whole, bind, window, limit=most, ordered=False) for leg in legs(asked, whole, bind)],
    )


def state_only(asked: Asked, shape: rows.Shape) -> Statement:
    """The state of a request without its rows."""
    bind = Binder()
    parts = _ctes(asked, shape, bind)
    return Statement.of(f"WITH {', '.join(parts)} SELECT {_state(asked, shape, bind)}", bind)


def estimate(asked: Asked, shape: rows.Shape) -> Statement:
    """What the planner believes how many rows a request has."""
    bind = Binder()
    whole = rows.uncut(shape)
    parts = _ctes(asked, shape, bind)
    each = [_found(leg, whole, bind, 2**62, limit=None, ordered=False) for leg in legs(asked, whole, bind)]
    return counting.estimate(parts, each, bind)


def unserved(asked: Asked, shape: rows.Shape) -> Sequence[str]:
    """The events in whose tables no index serves the conditions of a request."""
    gated = [leg.table.event for leg in legs(asked, shape, Binder()) if leg.gated]
    return list(dict.fromkeys(f"{event.contract}.{event.api_name}" for event in gated))


def export(asked: Asked, shape: rows.Shape, bind: Binder, *, limit: int | None, as_csv: bool) -> str:
    """All rows of a request: CSV's columns, or one of JSON. The window must have been checked before."""
    parts = _ctes(asked, shape, bind)
    shown = ", ".join(csv_columns(shape.fields).values()) if as_csv else row_text(shape.fields)
    merged = _merged(asked, shape, bind, 2**62, limit=limit)
    return f"WITH {', '.join(parts)} SELECT {shown} FROM ({merged}) t {_order(shape.forward)}"
