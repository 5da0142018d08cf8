"""Rows of event tables: the rows of one event, and one row alone."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, TypeAlias

import orjson

from api.arguments import Filter, filters
from api.catalog import Catalog, Event
from api.schemas import ADDRESS, BLOCK, FINALITY, HASH, TIME, Schema
from api.sql import members, scope, statement
from api.sql.members import Member
from api.sql.query_shape import BY_LOG, QueryShape
from api.sql.source import CoveredSource, Cut
from api.sql.statement import Binder, identifier, literal
from indexer.abi.columns import Column

#: Which rows a filter on addresses leaves, as far as that is known without looking.
AddressRule: TypeAlias = Literal["all", "some", "none"]
_INDEX: Final[Schema] = {"type": "integer", "minimum": 0}
_NAME: Final[Schema] = {"type": "string"}
_NAMES: Final[Schema] = {
    "type": "array",
    "items": _NAME,
    "description": "All contracts whose log it is: several where they share an address.",
}
#: Addresses of one list that are looked up as tokens.
MOST_LISTED: Final = 20
#: What stands for the names of contracts until they are known: no JSON has this character.
CONTRACTS_PLACE: Final = "chr(1)"

ID: Final = members.plain("id", "t.block_number || '-' || t.log_index", {"type": "string"})
BLOCK_NUMBER: Final = members.value("block_number", "t.block_number", BLOCK)
BLOCK_TIME: Final = members.plain("block_time", statement.time("t.block_time"), TIME)
CONTRACT_ADDRESS: Final = members.hexadecimal("address", "t.contract_address", ADDRESS)
ROW_FINALITY: Final = members.plain("finality", statement.FINALITY, FINALITY)
TX_HASH: Final = members.hexadecimal("tx_hash", "t.tx_hash", HASH)
LOG_INDEX: Final = members.value("log_index", "t.log_index", _INDEX)
FIXED: Final = (
    BLOCK_NUMBER,
    BLOCK_TIME,
    TX_HASH,
    members.value("tx_index", "t.tx_index", _INDEX, usual=False),
    LOG_INDEX,
    CONTRACT_ADDRESS,
    ROW_FINALITY,
)
#: What the rows of every event have.
ANY_ARGUMENTS: Final = (ID, *FIXED)
#: What rows of many events have; which event a row is of decides their arguments.
ANY_EVENT: Final = (
    ID,
    members.text("contract", "''", _NAME),
    members.text("event", "''", _NAME),
    Member("contracts", "", "", _NAMES),
    *FIXED,
    Member("args", "", "", {"type": "object", "description": "By name; each event has a schema, see `x-gapless`."}),
)


def row_members(columns: Sequence[Column]) -> list[Member]:
    """The members of the rows of an event with such arguments."""
    return [*ANY_ARGUMENTS, members.group("args", map(members.of_column, columns))]


def event_members(event: Event, *, named: bool = False, shared: bool = False) -> list[Member]:
    """The members of an event's rows.

    Args:
        event: the event.
        named: whether they name the contract and the event.
        shared: whether other contracts may have the same logs: their names are put in when they are known.
    """
    first, *others = row_members(event.columns)
    names = {"contract": event.contract, "event": event.api_name} if named else {}
    constants = [Member(key, literal(orjson.dumps(name).decode()), literal(name), _NAME) for key, name in names.items()]
    if named:
        alone = literal(orjson.dumps([event.contract]).decode())
        constants.append(Member("contracts", CONTRACTS_PLACE if shared else alone, "", _NAMES))
    return [first, *constants, *others]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on rows.

    Attributes:
        text: its SQL.
        column: the column that must equal the value, or one of the values; None for every other condition.
        placeholder: of the value or values.
        is_list: whether there are several.
    """

    text: str
    column: str | None = None
    placeholder: str = ""
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How a request's rows are found.

    Attributes:
        driver: the condition whose index gives rows in order, or None.
        rest: all other conditions.
        gated: no index serves the conditions, so only a window of blocks may be looked through.
    """

    driver: Condition | None
    rest: tuple[Condition, ...]
    gated: bool


class EventSource(CoveredSource):
    """The rows of one event.

    Args:
        event: the event.
        addresses: which rows the filter ``address`` leaves: all (as without it), some, or none.
        filters: conditions on arguments.
        named: whether rows name their contract and event.

    Attributes:
        shared: as of :func:`event_members`.
    """

    order = BY_LOG
    together: ClassVar = False
    shared = False

    def __init__(
        self, event: Event, addresses: AddressRule = "all", filters: Sequence[Filter] = (), *, named: bool = False
    ) -> None:
        self.event = event
        self.event_ids = (event.event_id,)
        self.addresses = addresses
        self.filters = tuple(filters)
        self.named = named

    @property
    def key(self) -> Hashable:
        """The event, and how its rows are filtered."""
        names = tuple(sorted(f.name for f in self.filters))
        return ("event", self.event.event_id, self.addresses, names, self.named)

    @property
    def table(self) -> str:
        """The event's table in SQL."""
        return identifier(self.event.schema_name, self.event.table_name)

    def token_addresses(self) -> str:
        """The address of the contract, and those in arguments: pairs and pools name what they trade there."""
        columns = self.event.columns
        single = [f"t.{identifier(c.name)}" for c in columns if c.abi_type == "address" and not c.hashed]
        lists = [f"t.{identifier(c.name)}[:{MOST_LISTED}]" for c in columns if _is_address_list(c)]
        return " || ".join([f"ARRAY[{', '.join(['t.contract_address', *single])}]", *lists])

    @property
    def members(self) -> Sequence[Member]:  # type: ignore[override]  # made when they are needed
        """The members of a row."""
        return event_members(self.event, named=self.named, shared=self.shared)

    def plan(self, shape: QueryShape, bind: Binder) -> Plan:
        """Decide which index serves a request."""
        if self.addresses == "none":
            return Plan(None, (Condition("false"),), gated=False)
        conditions = []
        # One value before lists of them, and arguments before addresses: what leaves the fewest rows.
        for item in sorted(self.filters, key=lambda f: (f.operator == "in", f.name)):
            is_list = item.operator == "in"
            placeholder = bind(item.name, item.pg_type + ("[]" if is_list else ""))
            column = item.column.name if item.operator in ("eq", "in") else None
            conditions.append(Condition(item.condition(placeholder), column, placeholder, is_list))
        if "tx_hash" in shape.given:
            placeholder = bind("tx_hash", "bytea")
            conditions.append(Condition(f"t.tx_hash = {placeholder}", "tx_hash", placeholder))
        if self.addresses == "some":
            placeholder = bind("address", "bytea[]")
            conditions.append(
                Condition(f"t.contract_address = ANY ({placeholder})", "contract_address", placeholder, is_list=True)
            )
        driver = next((c for c in conditions if c.column in self.event.ordered_by), None)
        rest = tuple(c for c in conditions if c is not driver)
        return Plan(driver, rest, gated=driver is None and bool(rest))

    def is_gated(self, shape: QueryShape) -> bool:
        """Whether no index serves the conditions of a request."""
        return self.plan(shape, Binder()).gated

    def unserved(self, shape: QueryShape) -> str | None:
        """The filters that no index serves, or None."""
        return unserved_names([f.name for f in self.filters], shape) if self.is_gated(shape) else None

    def readings(self, shape: QueryShape, bind: Binder, cut: Cut) -> list[str]:
        """The one query of the table."""
        return [self.reading(shape, bind, cut)]

    def reading(self, shape: QueryShape, bind: Binder, cut: Cut) -> str:
        """The query of the rows, all columns, in the order of reading.

        A list of values is read value by value, each in the order of its index and no further than needed: one index
        condition with the list would have to sort all of their rows.

        Args:
            shape: of the request.
            bind: numbers the values.
            cut: how many rows.
        """
        how = self.plan(shape, bind)
        where = [
            f"t.chain_id = {shape.chain_id}",
            scope.between(bind, cursor=shape.cursor is not None, forward=shape.forward),
            *(condition.text for condition in how.rest),
        ]
        if shape.cursor:
            where.append(self.order.beyond(bind, forward=shape.forward))
        if how.gated:
            # A range of more blocks has no rows.
            where.append(scope.within_window(bind))
        forward, table = shape.forward, self.table
        if how.driver is None:
            return cut.of(f"SELECT t.* FROM {table} t WHERE {' AND '.join(where)}", self.order, bind, forward=forward)
        if not how.driver.is_list:
            where.insert(1, how.driver.text)
            return cut.of(f"SELECT t.* FROM {table} t WHERE {' AND '.join(where)}", self.order, bind, forward=forward)
        where.insert(1, f"t.{identifier(how.driver.column or '')} = v.value")
        each = cut.of(f"SELECT t.* FROM {table} t WHERE {' AND '.join(where)}", self.order, bind, forward=forward)
        every = f"SELECT t.* FROM unnest({how.driver.placeholder}) v(value) CROSS JOIN LATERAL ({each}) t"
        return cut.of(every, self.order, bind, forward=forward)


class AnyOf(EventSource):
    """The rows of one event that any of several sources has, each once.

    Args:
        parts: the sources.
    """

    def __init__(self, parts: Sequence[EventSource]) -> None:
        first = parts[0]
        every = [one for part in parts for one in part.filters]
        super().__init__(first.event, first.addresses, every, named=first.named)
        self._parts = parts

    @property
    def key(self) -> Hashable:
        """Those of the sources."""
        return ("any", *(part.key for part in self._parts))

    def is_gated(self, shape: QueryShape) -> bool:
        """Whether no index serves the conditions of one of the sources."""
        return any(part.is_gated(shape) for part in self._parts)

    def reading(self, shape: QueryShape, bind: Binder, cut: Cut) -> str:
        """The rows of all of them: one that several have is among the first so many of each."""
        each = " UNION ALL ".join(f"({part.reading(shape, bind, cut)})" for part in self._parts)
        order = self.order.by(ascending=shape.forward)
        once = f"SELECT DISTINCT ON (t.block_number, t.log_index) t.* FROM ({each}) t {order}"
        return cut.of(f"SELECT t.* FROM ({once}) t", self.order, bind, forward=shape.forward)


def _is_address_list(column: Column) -> bool:
    return column.abi_type.startswith("address[") and column.pg_type == "bytea[]" and not column.hashed


def unserved_names(filters: Sequence[str], shape: QueryShape) -> str:
    """The names of a request's filters, for people."""
    return " with ".join([*filters, *(name for name in ("tx_hash", "address") if name in shape.given)])


def filters_of(catalog: Catalog, event: Event) -> Mapping[str, Filter]:
    """All filters that an event's arguments allow, by the name of their parameter."""
    return catalog.once(("filters", event.event_id), lambda: filters(event.columns))


def event_source(
    catalog: Catalog,
    event: Event,
    chain_id: int,
    values: Mapping[str, Any],
    *,
    named: bool = False,
    chosen: Sequence[Filter] | None = None,
) -> EventSource:
    """The rows of an event that a request's filters leave.

    Args:
        catalog: what is indexed.
        event: the event.
        chain_id: the chain.
        values: those of the request's parameters.
        named: whether rows name their contract and event.
        chosen: the filters on arguments; left out, those that the values name.
    """
    if chosen is None:
        known = filters_of(catalog, event)
        chosen = [known[name] for name in values if name in known]
    return EventSource(event, _address_rule(event, chain_id, values.get("address")), chosen, named=named)


def _address_rule(event: Event, chain_id: int, addresses: Sequence[bytes] | None) -> AddressRule:
    known = event.addresses.get(chain_id)
    if addresses is None or (known and known.issubset(addresses)):
        return "all"
    if not addresses or (known is not None and known.isdisjoint(addresses)):
        return "none"
    return "some"
