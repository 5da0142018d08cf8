"""The merged feed: rows of many events of a chain, in the chain's order.

One log can be in two tables (two contracts may share an address), so a position here has a third part, the item:
the event's id. A page is made in two steps: positions from all tables first, then the JSON of those that are sent.
"""

from collections.abc import Hashable, Sequence
from typing import Final

from api.sql.events import ANY_EVENT, EventSource, unserved_names
from api.sql.query_shape import QueryShape
from api.sql.row_order import BY_ITEM
from api.sql.source import PAGE, CoveredSource, Cut
from api.sql.statement import Binder

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

    order = BY_ITEM
    members = ANY_EVENT

    def __init__(self, events: Sequence[EventSource]) -> None:
        self.event_ids = tuple(one.event.event_id for one in events)
        self._events = [one for one in events if one.addresses != "none"]
        self._keys = tuple(one.key for one in events)

    @property
    def key(self) -> Hashable:
        """Those of the events."""
        return ("feed", *self._keys)

    def unserved(self, shape: QueryShape) -> str | None:
        """The filters that no index serves in one of the tables, or None."""
        return unserved_names((), shape) if self.is_gated(shape) else None

    def is_gated(self, shape: QueryShape) -> bool:
        """Whether no index serves the conditions in one of the tables."""
        return any(one.is_gated(shape) for one in self._events)

    def readings(self, shape: QueryShape, bind: Binder, cut: Cut) -> list[str]:
        """A query of each table: its rows' positions."""
        return [f"SELECT {_KEYS} FROM ({self._reading(one, shape, bind, cut)}) t" for one in self._events]

    def rows(self, shape: QueryShape, bind: Binder, cut: Cut) -> str:
        """The query of the positions in the order of reading, with ``row``, the JSON."""
        if cut is PAGE:
            each = self.readings(shape, bind, cut) or [f"{_NO_KEYS} WHERE false"]
            positions = cut.of(f"SELECT t.* FROM ({_union(each)}) t", self.order, bind, forward=shape.forward)
            return f"SELECT k.*, {self._row_of_position(shape)} AS row FROM ({positions}) k"
        # Of an export all rows are sent: a look-up of each would cost more.
        each = [
            f"SELECT {_KEYS}, {one.row(shape)} AS row FROM ({self._reading(one, shape, bind, cut)}) t"
            for one in self._events
        ]
        merged = f"SELECT t.* FROM ({_union(each or [f'{_NO_KEYS}, NULL::text AS row WHERE false'])}) t"
        return cut.of(merged, self.order, bind, forward=shape.forward)

    def row(self, shape: QueryShape) -> str:
        """The JSON that :meth:`rows` has made."""
        return "t.row"

    def _reading(self, one: EventSource, shape: QueryShape, bind: Binder, cut: Cut) -> str:
        found = one.reading(shape, bind, cut, item=one.event.event_id)
        return f"SELECT t.*, {one.event.event_id} AS item FROM ({found}) t"

    def _row_of_position(self, shape: QueryShape) -> str:
        """An expression for the JSON of a position ``k``."""
        texts = [
            f"WHEN {one.event.event_id} THEN (SELECT {one.row(shape)} FROM {one.table} t "
            f"WHERE t.chain_id = {shape.chain_id} AND t.block_number = k.block_number AND t.log_index = k.log_index)"
            for one in self._events
        ]
        return f"CASE k.item {' '.join(texts)} END" if texts else "NULL"


def _union(each: Sequence[str]) -> str:
    return " UNION ALL ".join(f"({one})" for one in each)
