"""Looking for what a subscription is to be told next."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from api.catalog import Catalog
from api.catalog_watch import CatalogWatch
from api.cursors import Position
from api.database import Database
from api.errors import ApiError
from api.live import changes
from api.live.changes import Changes, Scope
from api.webhooks import subscription
from api.webhooks.store import Claim
from api.webhooks.subscription import Message, compile_scope

#: Answers without a row that are taken in one turn; each may have looked through many blocks.
_MOST_LOOKS: Final = 50
#: Blocks to look through when all at once took too long, and then fewer.
_SPANS: Final = (None, 100_000, 10_000, 1000, 100, 10, 1)
#: Seconds before a subscription is looked at again whose contract is not indexed.
_UNKNOWN_WAIT: Final = 60.0

_CATALOG_VERSION: Final = "SELECT version FROM gapless.catalog"


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to tell.

    Attributes:
        position: how far that is certain.
        finished: nothing more is there until the chain changes.
        reason: what keeps it from being told more, for its owner.
        wait: seconds before it is worth while to look again.
    """

    position: str
    finished: bool = True
    reason: str | None = None
    wait: float = 0


class BrokenPositionError(Exception):
    """A subscription stands at a block that this database never had."""


class Looker:
    """Finds messages.

    Args:
        database: where from.
        watch: what is indexed.
        window: most blocks to look through at once where no index serves the filters.
        wall: the time of day.
    """

    def __init__(self, database: Database, watch: CatalogWatch, window: int, wall: Callable[[], datetime]) -> None:
        self._database = database
        self._watch = watch
        self._window = window
        self._wall = wall
        self._lock = threading.Lock()
        self._seen: tuple[int, Catalog] | None = None

    def look(self, claim: Claim) -> Message | Nothing:
        """The next message of a subscription, or how far there is none.

        Raises:
            BrokenPositionError: only its owner can say where it goes on.
            ApiError: DATABASE_UNAVAILABLE and the like.
        """
        position = Position.parse(claim.position)
        for _ in range(_MOST_LOOKS):
            try:
                found = self._read(claim, position)
            except _UnknownError as error:
                return Nothing(str(position), reason=str(error), wait=_UNKNOWN_WAIT)
            if found.common_block is not None:
                position = found.position or position
                if claim.told_block is not None and claim.told_block > found.common_block:
                    return subscription.reverted(
                        claim.webhook,
                        claim.sequence + 1,
                        claim.chain_id,
                        found.common_block,
                        position=str(position),
                        why="reorg",
                        now=self._wall(),
                    )
                # Nothing of what is gone was ever told.
            elif found.rows:
                return self._rows(claim, found)
            else:
                position = found.position or position
                if not found.more:
                    return Nothing(str(position), reason=_waiting(found))
        return Nothing(str(position), finished=False)

    def _rows(self, claim: Claim, found: Changes) -> Message:
        count = subscription.fitting([len(row.data) for row in found.rows])
        rows = found.rows[:count]
        behind = found.position if count == len(found.rows) else None
        last = rows[-1].position.block
        return subscription.rows(
            claim.webhook,
            claim.sequence + 1,
            claim.chain_id,
            [row.data for row in rows],
            position=str(behind or rows[-1].position),
            told_block=max(last, claim.told_block or 0),
            now=self._wall(),
        )

    def _read(self, claim: Claim, position: Position) -> Changes:
        """What follows a position, by a catalog that is the database's at that very moment.

        By an older one, rows of an event that was just added would be passed by.
        """
        while True:
            version, catalog = self._exact()
            found = self._read_by(self._compiled(catalog, claim), position)
            if found.catalog == version:
                return found
            self._renew()

    def _read_by(self, scope: Scope, position: Position) -> Changes:
        for span in _SPANS:
            try:
                return changes.read(self._database, scope, position, span=span)
            except ApiError as error:
                if error.code == "INVALID_CURSOR":
                    raise BrokenPositionError(
                        f"it stands at {position}, a block that was never indexed here: replay it from a block"
                    ) from None
                if error.code != "QUERY_TOO_EXPENSIVE" or span == _SPANS[-1]:
                    raise
        raise AssertionError("the last span returns or raises")

    def _compiled(self, catalog: Catalog, claim: Claim) -> Scope:
        chain = catalog.chains.get(claim.chain_id)
        if chain is None:
            raise _UnknownError("its chain is not indexed any more")
        try:
            return compile_scope(
                catalog,
                chain,
                claim.contract,
                claim.event,
                claim.filters,
                claim.finality,
                limit=claim.batch,
                window=self._window,
            )
        except ApiError as error:
            raise _UnknownError(error.message) from None

    def _exact(self) -> tuple[int, Catalog]:
        """A catalog, and the version of the indexer's catalog that it is surely of."""
        seen = self._seen
        if seen is None or seen[1].version != self._watch.current().version:
            return self._renew()
        return seen

    def _renew(self) -> tuple[int, Catalog]:
        with self._lock:
            # The version first: where it is still the same when rows are read, the catalog is of it.
            version = int(self._database.query(_CATALOG_VERSION)[0][0] or 0)
            self._seen = seen = (version, self._watch.renewed())
        return seen


class _UnknownError(Exception):
    """What a subscription asks for is not indexed (any more)."""


def _waiting(found: Changes) -> str | None:
    if found.waiting_for is None:
        return None
    return f"block {found.waiting_for} is not indexed yet, and what follows it waits for it"
