"""Transfers of tokens, whatever their standard and table, in the chain's order.

Each table is read by the index that the request's conditions have there, and no further than a page needs; what is
read is merged. "From or to an address" is two such readings of each table: an OR would read all of one side and sort
it (200 ms on a busy address, against 0.05 ms).

A position has a third part after block and log, the item: the place in an ERC-1155 batch.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from psycopg import sql

from api.catalog import Event
from api.schemas import ADDRESS, DIGITS, nullable
from api.sql import members, scope
from api.sql.events import BLOCK_NUMBER, BLOCK_TIME, LOG_INDEX, ROW_FINALITY, TX_HASH, Condition
from api.sql.query_shape import BY_BATCH_ITEM, QueryShape
from api.sql.source import CoveredSource, Cut
from api.sql.statement import Binder, integers
from indexer.abi import token_standards
from indexer.abi.token_standards import CONSECUTIVE_TRANSFER, TRANSFER, TRANSFER_BATCH, TRANSFER_SINGLE
from indexer.store.catalog import transfer_standards

STANDARDS: Final = ("erc20", "erc721", "erc1155")
KIND: Final = members.plain("kind", "t.kind", {"type": "string", "enum": list(STANDARDS)})
TOKEN: Final = members.hexadecimal("token", "t.token", ADDRESS)
TOKEN_ID: Final = members.plain(
    "token_id",
    "CASE WHEN t.kind <> 'erc20' THEN t.token_id::text END",
    nullable({**DIGITS, "description": "Null for ERC-20."}),
    null=True,
)
MEMBERS: Final = (
    members.plain("id", BY_BATCH_ITEM.position, {"type": "string"}),
    BLOCK_NUMBER,
    BLOCK_TIME,
    TX_HASH,
    LOG_INDEX,
    KIND,
    TOKEN,
    members.hexadecimal("from", "t.from_address", {**ADDRESS, "description": "The zero address: minted."}),
    members.hexadecimal("to", "t.to_address", {**ADDRESS, "description": "The zero address: burned."}),
    members.hexadecimal(
        "operator", "t.operator", nullable({**ADDRESS, "description": "ERC-1155 alone says it."}), null=True
    ),
    TOKEN_ID,
    members.plain("value", "t.amount::text", {**DIGITS, "description": "In the token's smallest unit; 1 for ERC-721."}),
    ROW_FINALITY,
)


@dataclass(frozen=True, slots=True)
class TransferTable:
    """The table of one event, as a request concerns it.

    Attributes:
        event: the event; its ``standard`` is known.
        tokens: which of its rows the request's tokens leave: all, those of one token, or those of some.
        twins: events whose tables may hold the same logs, and come first.
    """

    event: Event
    tokens: Literal["all", "one", "some"]
    twins: tuple[Event, ...] = ()

    @property
    def key(self) -> Hashable:
        """What decides the texts of its readings."""
        return (self.event.event_id, self.tokens, *(twin.event_id for twin in self.twins))


@dataclass(frozen=True, slots=True)
class Leg:
    """One reading of one table.

    Attributes:
        table: the table.
        conditions: on its transfers.
        gated: no index serves them, so only a window of blocks may be looked through.
    """

    table: TransferTable
    conditions: tuple[str, ...]
    gated: bool


class TransferSource(CoveredSource):
    """Transfers.

    Args:
        tables: where they are.
        direction: of transfers of the address ``participant``; None: of any address.
    """

    order = BY_BATCH_ITEM
    members = MEMBERS
    address_column: ClassVar = "token"

    def __init__(self, tables: Sequence[TransferTable], direction: Literal["in", "out", "any"] | None = None) -> None:
        self._tables = tables
        self._direction = direction
        self.event_ids = tuple(table.event.event_id for table in tables)

    @property
    def key(self) -> Hashable:
        """The tables and the direction."""
        return ("transfers", self._direction, tuple(table.key for table in self._tables))

    def facts(self, shape: QueryShape) -> Sequence[tuple[str, str]]:
        """The events of which the manifest wants but a part."""
        filtered = f"""(SELECT json_agg(DISTINCT c.name || '.' || e.api_name)
        FROM gapless.sources s
        JOIN gapless.events e ON e.id = s.event_id JOIN gapless.contracts c ON c.id = e.contract_id
        WHERE s.active AND s.chain_id = {shape.chain_id} AND s.event_id IN {integers(self.event_ids)}
          AND s.place->'filters' IS NOT NULL)"""
        return [("filtered", filtered)]

    def unserved(self, shape: QueryShape) -> str | None:
        """The events in whose tables no index serves the conditions, or None."""
        gated = [leg.table.event for leg in self._legs(shape, Binder()) if leg.gated]
        names = dict.fromkeys(f"{event.contract}.{event.api_name}" for event in gated)
        return f"these filters in {', '.join(names)}" if names else None

    def readings(self, shape: QueryShape, bind: Binder, cut: Cut) -> list[str]:
        """A query of each table, or two of each: what the address gave, what it received."""
        return [self._reading(leg, shape, bind, cut) for leg in self._legs(shape, bind)]

    def _legs(self, shape: QueryShape, bind: Binder) -> list[Leg]:
        found = []
        for table in self._tables:
            giver, receiver = token_standards.parties(table.event.signature, table.event.columns)
            conditions = _conditions(table, shape, bind)
            sides: tuple[tuple[Condition, ...], ...] = ((),)
            if self._direction is not None:
                participant = bind("participant", "bytea")
                out = Condition(f"t.from_address = {participant}", giver.name)
                into = Condition(f"t.to_address = {participant}", receiver.name)
                # What an address sends to itself is one transfer.
                others = Condition(f"t.from_address <> {participant}")
                sides = {"out": ((out,),), "in": ((into,),), "any": ((out,), (into, others))}[self._direction]
            for side in sides:
                every = (*side, *conditions)
                served = not every or any(one.column in table.event.ordered_by for one in every)
                found.append(Leg(table, tuple(one.text for one in every), gated=not served))
        return found

    def _reading(self, leg: Leg, shape: QueryShape, bind: Binder, cut: Cut) -> str:
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
            where.append(self.order.beyond(bind, forward=shape.forward))
        if leg.gated:
            where.append(scope.within_window(bind))
        batch = "true" if event.signature in (TRANSFER_BATCH, CONSECUTIVE_TRANSFER) else "false"
        query = f"SELECT t.*, {batch} AS batch FROM ({select.as_string()}) t WHERE {' AND '.join(where)}"
        return cut.of(query, self.order, bind, forward=shape.forward)


def _conditions(table: TransferTable, shape: QueryShape, bind: Binder) -> list[Condition]:
    columns = table.event.columns
    giver, receiver = token_standards.parties(table.event.signature, columns)
    found = []
    if "tx_hash" in shape.given:
        found.append(Condition(f"t.tx_hash = {bind('tx_hash', 'bytea')}", "tx_hash"))
    if "from" in shape.given:
        found.append(Condition(f"t.from_address = {bind('from', 'bytea')}", giver.name))
    if "to" in shape.given:
        found.append(Condition(f"t.to_address = {bind('to', 'bytea')}", receiver.name))
    if "token_id" in shape.given:
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


def _name(event: Event) -> sql.Identifier:
    return sql.Identifier(event.schema_name, event.table_name)
