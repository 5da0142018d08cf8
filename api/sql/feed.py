"""The merged feed: rows of many events of a chain, in the chain's order.

A page is made in two steps: positions from all tables first, then the JSON of those that are sent. One log can be in
several tables, since contracts may share an address: it is one row, of the event with the lowest id (``item``), which
names all of them.
"""

from collections.abc import Callable, Hashable, Sequence
from copy import copy
from itertools import combinations
from typing import Final

import orjson

from api.catalog import Event
from api.sql.events import ANY_EVENT, CONTRACTS_PLACE, EventSource, unserved_names
from api.sql.query_shape import BY_LOG, QueryShape
from api.sql.source import PAGE, CoveredSource, Cut
from api.sql.statement import Binder, Statement, identifier, literal

_KEYS: Final = "block_number, log_index, item, contract_address, tx_hash"
_NO_KEYS: Final = (
    "SELECT NULL::bigint AS block_number, NULL::bigint AS log_index, NULL::integer AS item, "
    "NULL::bytea AS contract_address, NULL::bytea AS tx_hash"
)


class FeedSource(CoveredSource):
    """The rows of many events.

    Args:
        events: those that the request is about, each as the request concerns it.
    """

    order = BY_LOG
    members = ANY_EVENT

    def __init__(self, events: Sequence[EventSource]) -> None:
        self.event_ids = tuple(one.event.event_id for one in events)
        self._events = [one for one in events if one.addresses != "none"]
        self._keys = tuple(one.key for one in events)
        self._shared_events: frozenset[int] | None = None

    @property
    def key(self) -> Hashable:
        """Those of the events."""
        return ("feed", *self._keys)

    def unserved(self, shape: QueryShape) -> str | None:
        """The filters that no index serves in one of the tables, or None."""
        gated = [one for one in self._events if one.is_gated(shape)]
        # The names of values begin with the number of their selection.
        names = dict.fromkeys(f.name.rpartition("/")[2] for one in gated for f in one.filters)
        return unserved_names(list(names), shape) if gated else None

    def is_gated(self, shape: QueryShape) -> bool:
        """Whether no index serves the conditions in one of the tables."""
        return any(one.is_gated(shape) for one in self._events)

    def readings(self, shape: QueryShape, bind: Binder, cut: Cut) -> list[str]:
        """A query of each table: its rows' positions; of all together where they may share logs."""
        each = [f"SELECT {_KEYS} FROM ({self._reading(one, shape, bind, cut)}) t" for one in self._events]
        if not self._shared(shape.chain_id):
            return each
        return [f"SELECT DISTINCT t.block_number, t.log_index FROM ({_union(each)}) t"]

    def rows(self, shape: QueryShape, bind: Binder, cut: Cut) -> str:
        """The query of the positions in the order of reading, with ``row``, the JSON."""
        shared = self._shared(shape.chain_id)
        kept = f"{_KEYS}, contract" if shared else _KEYS
        if cut is PAGE:
            each = [f"SELECT {kept} FROM ({self._reading(one, shape, bind, cut)}) t" for one in self._events]
            positions = self._merged(each or [f"{_NO_KEYS} WHERE false"], shape, bind, cut, shared=bool(shared))
            row = self._row_of_position(shape, shared)
            tokens = f", {self._tokens_of_position(shape)} AS token_addresses" if shape.tokens else ""
            return f"SELECT k.*, {_with_names(row, 'k') if shared else row} AS row{tokens} FROM ({positions}) k"
        # Of an export all rows are sent: a look-up of each would cost more.
        each = [
            f"SELECT {kept}, {self._marked(one, shared).row(shape)} AS row "
            f"FROM ({self._reading(one, shape, bind, cut)}) t"
            for one in self._events
        ]
        nothing = f"{_NO_KEYS}, NULL::text AS row WHERE false"
        merged = self._merged(each or [nothing], shape, bind, cut, shared=bool(shared))
        return f"SELECT {_KEYS}, {_with_names('k.row', 'k')} AS row FROM ({merged}) k" if shared else merged

    def token_addresses(self) -> str:
        """Those that :meth:`rows` has found."""
        return "t.token_addresses"

    def row(self, shape: QueryShape) -> str:
        """The JSON that :meth:`rows` has made."""
        return "t.row"

    def _merged(self, each: Sequence[str], shape: QueryShape, bind: Binder, cut: Cut, *, shared: bool) -> str:
        """The rows of several queries, each log once, in the order of reading."""
        if not shared:
            return cut.of(f"SELECT t.* FROM ({_union(each)}) t", self.order, bind, forward=shape.forward)
        # A log among the first so many is among the first so many of each table that has it.
        log = "t.block_number, t.log_index"
        names = f"array_agg(t.contract) OVER (PARTITION BY {log}) AS contracts"
        once = (
            f"SELECT DISTINCT ON ({log}) t.*, {names} FROM ({_union(each)}) t "
            f"{self.order.by(ascending=shape.forward)}, t.item"
        )
        return cut.of(f"SELECT t.* FROM ({once}) t", self.order, bind, forward=shape.forward)

    def _reading(self, one: EventSource, shape: QueryShape, bind: Binder, cut: Cut) -> str:
        found = one.reading(shape, bind, cut)
        contract = literal(orjson.dumps(one.event.contract).decode())
        return f"SELECT t.*, {one.event.event_id} AS item, {contract}::text AS contract FROM ({found}) t"

    def _row_of_position(self, shape: QueryShape, shared: frozenset[int]) -> str:
        """An expression for the JSON of a position ``k``."""
        return self._of_position(shape, lambda one: self._marked(one, shared).row(shape))

    def _tokens_of_position(self, shape: QueryShape) -> str:
        """An expression for the addresses in the row of a position ``k`` that may be tokens'."""
        return f"({self._of_position(shape, EventSource.token_addresses)})::bytea[]"

    def _of_position(self, shape: QueryShape, expression: Callable[[EventSource], str]) -> str:
        """An expression over the row of a position ``k``, by its event."""
        texts = [
            f"WHEN {one.event.event_id} THEN (SELECT {expression(one)} FROM {one.table} t "
            f"WHERE t.chain_id = {shape.chain_id} AND t.block_number = k.block_number AND t.log_index = k.log_index)"
            for one in self._events
        ]
        return f"CASE k.item {' '.join(texts)} END" if texts else "NULL"

    def _marked(self, one: EventSource, shared: frozenset[int]) -> EventSource:
        if one.event.event_id not in shared:
            return one
        marked = copy(one)
        marked.shared = True
        return marked

    def _shared(self, chain_id: int) -> frozenset[int]:
        """The events of which other tables of the request may have the same logs."""
        if self._shared_events is None:  # a request has one chain
            self._shared_events = self._find_shared(chain_id)
        return self._shared_events

    def _find_shared(self, chain_id: int) -> frozenset[int]:
        found: set[int] = set()
        for one, other in combinations([source.event for source in self._events], 2):
            if one.may_share_logs(other, chain_id):
                found |= {one.event_id, other.event_id}
        return frozenset(found)


def block_of_transaction(events: Sequence[Event], chain_id: int) -> Statement:
    """A block that bears the transaction ``tx_hash``, by what is kept of transactions and by the rows of events.

    Args:
        events: of the chain; those of which no index finds a transaction are left out.
        chain_id: the chain.
    """
    bind = Binder()
    tables = ["gapless.transactions"]
    tables += [identifier(e.schema_name, e.table_name) for e in events if "tx_hash" in e.ordered_by]
    where = f"t.chain_id = {chain_id} AND t.tx_hash = {bind('tx_hash', 'bytea')}"
    each = [f"SELECT t.block_number FROM {table} t WHERE {where}" for table in tables]
    return Statement.of(f"SELECT u.block_number FROM ({_union(each)}) u LIMIT 1", bind)


def _union(each: Sequence[str]) -> str:
    return " UNION ALL ".join(f"({one})" for one in each)


def _with_names(row: str, alias: str) -> str:
    """The JSON of a row in which the names of its contracts are put in."""
    names = f"(SELECT string_agg(DISTINCT n, ',' ORDER BY n) FROM unnest({alias}.contracts) n)"
    return f"replace({row}, {CONTRACTS_PLACE}, '[' || {names} || ']')"
