"""Streams of derived rows: the rows of one page, told whole at first, and then what has changed of them.

A derived table keeps no record of which of its rows a block, a step of history or a reorganisation changed: that would
cost every writer. A version tells that something did (:class:`~api.live.changes.Signals`); the page is read again then,
once for all clients that listen to it, and compared with what they were told.

What was told is kept as long as there is room (:data:`KEPT`). Where it is not, because a client comes back after long
or to another process, everything is told again: keeping less makes an answer longer, and never wrong.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from re import compile as pattern
from typing import Any, Final

import orjson

from api.bounded_cache import BoundedCache
from api.cursors import CursorError
from api.database import Database
from api.live.changes import Changes, Row, Signals
from api.live.views import CollectionStream
from api.sql.source import MAX_LIMIT
from api.state import State

#: Bytes of what clients of one process were told last; a row takes some 250.
KEPT: Final = 64 * 2**20

_PLACE: Final = pattern(r"(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})-([0-9a-f]{24})")

#: By the key of a row, as JSON, the digest of the row.
Told = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class DerivedPlace:
    """What a client was told of a derived table.

    Attributes:
        build: the build that was served.
        block: as of which.
        digest: of the rows.
    """

    build: int
    block: int
    digest: str

    @classmethod
    def parse(cls, text: str) -> "DerivedPlace":
        """Read one.

        Raises:
            CursorError: it is none.
        """
        if not (match := _PLACE.fullmatch(text)):
            raise CursorError("must be the id of an event of this stream")
        return cls(int(match[1]), int(match[2]), match[3])

    def __str__(self) -> str:
        return f"{self.build}-{self.block}-{self.digest}"


@dataclass(frozen=True)
class DerivedRowsStream(CollectionStream):
    """The rows that one page of a derived table has.

    Attributes:
        table: its name.
        limit: rows of the page.
        about: names the page among those of this process.
        told: what clients were told, by page and digest.
    """

    table: str = ""
    limit: int = MAX_LIMIT
    about: Hashable = ()
    told: BoundedCache[Hashable, Told] = field(default_factory=lambda: BoundedCache(KEPT), compare=False, repr=False)

    def depends_on(self, signals: Signals) -> tuple[Hashable, Hashable]:
        """What was counted, and new blocks."""
        latest = signals.chains.get(self.chain_id, {}).get("latest")
        return (signals.derived.get(f"{self.table}/{self.chain_id}"), latest), None

    def read(self, database: Database, position: DerivedPlace | None, *, span: int | None = None) -> Changes:
        """What has changed since the client was told; None: it was told nothing."""
        query = self.ask({"limit": str(self.limit)})
        # The key is that of the catalog which the rows are read by: another build may have another one.
        row_key = query.catalog.derived[self.table].order_key
        state, page, _, _ = self.collection.page(query)
        assert state is not None
        is_all = page.next is None
        build = state.versions[1]
        rows = {_key(data, row_key): data for _, data in page.each()}
        now = {key: _digest([data]) for key, data in rows.items()}
        place = DerivedPlace(build, max(_through(state) or 0, 0), _digest([*now.values(), b"%d" % is_all]).hex())
        self.told.put((self.about, row_key, place.digest), now)
        if position is not None and (position.build, position.digest) == (build, place.digest):
            return self._answer(place, (), state)
        before: Told | None = None
        if position is not None and position.build == build:
            before = self.told.get((self.about, row_key, position.digest))
        gone = [] if before is None else [key for key in before if key not in now]
        new = [data for key, data in rows.items() if before is None or before.get(key) != now[key]]
        told = b'{"reset":%s,"all":%s,"data":[%s],"gone":[%s]}' % (
            _truth(before is None), _truth(is_all), b",".join(new), b",".join(gone),
        )  # fmt: skip
        return self._answer(place, [Row(place, told.replace(b"\n", b""), "derived")], state)

    def _answer(self, place: DerivedPlace, rows: list[Row] | tuple[()], state: State) -> Changes:
        """An answer; its ``rewrites`` are the number of the build."""
        found = self.changes(place, rows, state)
        through = _through(state)
        through = None if through is None or through < 0 else through
        return replace(found, state=state, through=through)


def _key(data: bytes, row_key: Iterable[str]) -> bytes:
    row: dict[str, Any] = orjson.loads(data)
    return orjson.dumps({name: row[name] for name in row_key})


def _through(state: State) -> int | None:
    """The last block up to which nothing is missing at the end: of blocks behind it nothing is counted yet."""
    last = state.last
    for first, end in reversed(state.missing or ()):
        if last is None or end < last:
            break
        last = first - 1
    return last


def _digest(parts: Iterable[bytes]) -> bytes:
    return blake2b(b"\n".join(parts), digest_size=12).digest()


def _truth(value: bool) -> bytes:
    return b"true" if value else b"false"
