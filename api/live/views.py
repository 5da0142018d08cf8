"""What else can be streamed: points of snapshot series, and the balances of an address.

Both ask the same collections as pages do, so what a stream tells is what a page would.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final

from api.cursors import CursorError
from api.database import Database
from api.errors import ApiError
from api.live.changes import ALL_BLOCKS, Changes, Row, Signals
from api.resources.collection import Collection
from api.resources.row_page import Page, Query
from api.state import State

#: Rows of one look: points are read on from there, of balances there are no more.
POINT_ROWS: Final = 200
MOST_BALANCES: Final = 1000

_POINT: Final = re.compile(r"(0|[1-9][0-9]{0,18})-0x[0-9a-f]{40}-(0|[1-9][0-9]{0,8})(\.[0-9a-f]{12})?")
_TOLD: Final = re.compile(r"(0|[1-9][0-9]{0,18})-([0-9a-f]{24})")
#: A member of a balance.
_AT_BLOCK: Final = re.compile(rb'"at_block":[0-9]+,?')
#: Before every point.
_BEGINNING: Final = f"0-0x{'00' * 20}-0"


@dataclass(frozen=True, slots=True)
class PointPlace:
    """A place among the points of a series.

    Attributes:
        text: a cursor, as pages have it.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> "PointPlace":
        """Read one.

        Raises:
            CursorError: it is none.
        """
        if not _POINT.fullmatch(text):
            raise CursorError("must be the id of a row of this series, or a cursor of its pages")
        return cls(text)

    @property
    def block(self) -> int:
        """The point's block."""
        return int(self.text.partition("-")[0])

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class BalancesPlace:
    """What a client was told of balances.

    Attributes:
        block: as of which.
        digest: of them.
    """

    block: int
    digest: str

    @classmethod
    def parse(cls, text: str) -> "BalancesPlace":
        """Read one.

        Raises:
            CursorError: it is none.
        """
        if not (match := _TOLD.fullmatch(text)):
            raise CursorError("must be the id of an event of this stream")
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.block}-{self.digest}"


@dataclass(frozen=True)
class CollectionStream(ABC):
    """A collection that is streamed.

    Attributes:
        chain_id: the chain.
        collection: whose pages are read.
        ask: makes the request for a page that has these parameters besides.
    """

    chain_id: int
    collection: Collection
    ask: Callable[[Mapping[str, str]], Query]
    span: int = ALL_BLOCKS

    @abstractmethod
    def depends_on(self, signals: Signals) -> tuple[Hashable, Hashable]:
        """What must differ for there to be something new."""

    @abstractmethod
    def read(self, database: Database, position: Any, *, span: int | None = None) -> Changes:
        """What has happened behind a position; None: from now on. The collection has a database of its own."""

    def page(self, **parameters: str) -> tuple[State, Page]:
        """A page of the collection, and the state that it is of."""
        state, page, _, _ = self.collection.page(self.ask(parameters))
        assert state is not None
        return state, page

    def changes(self, position: Any, rows: Sequence[Row], state: State, *, more: bool = False) -> Changes:
        """An answer."""
        through = state.last
        if through is not None and state.held is not None:
            through = None if state.held.through is None else min(through, state.held.through)
        if more or (through is not None and through < 0):
            through = None
        # Whatever changes is told anew: a client need not read again what was rewritten.
        state = replace(state, versions=(state.versions[0], 0))
        return Changes(position, None, rows, more, through, None, state, None, self.collection.unsaid)


@dataclass(frozen=True)
class Points(CollectionStream):
    """Points of a series in their order, as they are taken.

    Attributes:
        series_id: the series.
    """

    series_id: int = 0

    def depends_on(self, signals: Signals) -> tuple[Hashable, Hashable]:
        """New points, and new blocks, up to which there is none."""
        latest = signals.chains.get(self.chain_id, {}).get("latest")
        return (signals.series.get(self.series_id), latest), None

    def read(self, database: Database, position: PointPlace | None, *, span: int | None = None) -> Changes:
        """The points behind a position; None: those to come."""
        if position is None:
            state, page = self.page(order="desc", limit="1")
            return self.changes(PointPlace(page.last or _BEGINNING), (), state)
        try:
            state, page = self.page(order="asc", limit=str(POINT_ROWS), after=str(position))
        except ApiError as error:
            if error.code != "REORGED":
                raise
            common = int(str(error.extra["common_block"]))
            state, _ = self.page(order="asc", limit="1")
            place = PointPlace(f"{common}-0x{'ff' * 20}-999999999")
            return replace(self.changes(place, (), state, more=True), common_block=common)
        rows = [Row(PointPlace(place), data) for place, data in page.each()]
        return self.changes(rows[-1].position if rows else position, rows, state, more=page.next is not None)


@dataclass(frozen=True)
class AddressBalances(CollectionStream):
    """All balances of an address, whenever one of them has changed."""

    def depends_on(self, signals: Signals) -> tuple[Hashable, Hashable]:
        """What was counted, and new blocks."""
        chain = signals.chains.get(self.chain_id, {})
        return (chain.get("counted"), chain.get("latest")), None

    def read(self, database: Database, position: BalancesPlace | None, *, span: int | None = None) -> Changes:
        """The balances as they are now, unless they are those that the client knows; None: it knows none."""
        state, page = self.page(limit=str(MOST_BALANCES))
        # Their block goes on with every block of the chain.
        told = b",\n".join(data for _, data in page.each())
        digest = blake2b(_AT_BLOCK.sub(b"", told), digest_size=12).hexdigest()
        assert state.held is not None
        place = BalancesPlace(max(state.held.through or 0, 0), digest)
        if position is not None and position.digest == digest:
            return self.changes(place, (), state)
        is_all = b"true" if page.next is None else b"false"
        data = b'{"all":%s,"data":[%s]}' % (is_all, told.replace(b"\n", b""))
        return self.changes(place, [Row(place, data, "balances")], state)
