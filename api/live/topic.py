"""Topics: clients that ask for the same share what is read for them.

A hundred pages that watch one event stand at the same position, and one query answers all of them. Nobody queries by
the clock: a topic is *stirred* when something that it depends on has changed (:mod:`api.live.hub`), and only then do
its clients look.
"""

import asyncio
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from psycopg import errors as pg_errors

from api.catalog import Catalog
from api.database import Database
from api.errors import ApiError
from api.live import sse
from api.live.changes import Changes, Signals, StreamPosition, Watched

#: Answers that a topic keeps until it is stirred.
_MOST_KEPT: Final = 4
#: Most blocks to look through after a query that took too long.
_FEWER: Final = 100_000


@dataclass(frozen=True, slots=True)
class Known:
    """A catalog, and the indexer's number for it; the catalog is at least as new as the number."""

    number: int
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class RenderedChanges:
    """Changes, and their rows as they go over the wire."""

    changes: Changes
    rows: bytes


class Topic:
    """What some clients ask for.

    Args:
        key: equal for equal requests.
        compiled: makes the scope for a catalog; raises ApiError where what is asked for is not there any more.
        database: where from.
        known: the catalog as it is known now; with a number, one that is not older than that.

    Attributes:
        users: clients that listen to it.
        signal: counts what may have changed; who has looked since then has nothing to look for.
        waiting: resolved at the next change of ``signal``.
    """

    def __init__(
        self,
        key: Hashable,
        compiled: Callable[[Catalog], Watched],
        database: Database,
        known: Callable[[int | None], Known],
    ) -> None:
        self.key = key
        self.users = 0
        self.signal = 0
        self.waiting: set[asyncio.Future[None]] = set()
        self._compiled = compiled
        self._database = database
        self._known = known
        now = known(None)
        self._scope = (compiled(now.catalog), now)
        self._span = self.scope.span
        self._kept: dict[StreamPosition | None, asyncio.Task[RenderedChanges]] = {}
        # What it depended on when it was stirred last, and whether the progress of history concerns it.
        self._seen: tuple[Hashable, Hashable] = (None, None)
        self._waits = True

    @property
    def scope(self) -> Watched:
        """What is asked for, compiled for the newest catalog that is known."""
        return self._scope[0]

    def compare(self, signals: Signals) -> None:
        """Stir it if something has changed that it depends on."""
        now = self.scope.depends_on(signals)
        if now[0] != self._seen[0] or (self._waits and now != self._seen):
            self._seen = now
            self._waits = False
            self.stir()

    def stir(self) -> None:
        """Let every client look."""
        self.signal += 1
        self._kept.clear()
        for waiter in self.waiting:
            wake(waiter)
        self.waiting.clear()

    async def read(self, position: StreamPosition | None, executor: Executor) -> RenderedChanges:
        """What follows a position; one query for all clients that stand there.

        Raises:
            ApiError: as :func:`api.live.changes.read`, or if what is asked for is not there any more.
        """
        task = self._kept.get(position)
        if task is None:
            if len(self._kept) >= _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            task = self._kept[position] = asyncio.create_task(self._rendered(position, executor))
            task.add_done_callback(_heard)
        try:
            # A client that leaves must not take the answer away from the others.
            return task.result() if task.done() else await asyncio.shield(task)
        except Exception:
            if self._kept.get(position) is task:
                del self._kept[position]
            raise

    async def _rendered(self, position: StreamPosition | None, executor: Executor) -> RenderedChanges:
        found = await asyncio.get_running_loop().run_in_executor(executor, self.look, position)
        # Whom a gap holds up, or who does not know where "now" is, is concerned by all that is added.
        self._waits = self._waits or found.changes.waiting_for is not None or found.changes.position is None
        return found

    def look(self, position: StreamPosition | None) -> RenderedChanges:
        """As :meth:`read`, in this thread."""
        for _ in range(10):
            scope, known = self._newest(None)
            span = min(self._span, scope.span)
            try:
                changes = scope.read(self._database, position, span=span)
            except ApiError as error:
                if error.code != "QUERY_TOO_EXPENSIVE" or span <= 1:
                    raise
                self._span = max(1, min(_FEWER, span // 10))
                continue
            except (pg_errors.UndefinedTable, pg_errors.UndefinedColumn):
                self._newest(known.number + 1)
                continue
            if changes.catalog is None or changes.catalog == known.number:
                self._span = min(scope.span, span * 4)
                return RenderedChanges(changes, b"".join(map(sse.row, changes.rows)))
            # What is indexed has changed: rows of a new event must not be passed over.
            self._newest(changes.catalog)
        raise ApiError("OVERLOADED", "this takes too long at the moment: try again", retry_after=5)

    def _newest(self, number: int | None) -> tuple[Watched, Known]:
        known = self._known(number)
        scope, before = self._scope
        if known is not before:
            scope = self._compiled(known.catalog)
            self._scope = (scope, known)
        return scope, known


def wake(waiter: "asyncio.Future[None]") -> None:
    """Let go on who waits for this, unless that was done before."""
    if not waiter.done():
        waiter.set_result(None)


def _heard(task: asyncio.Task[RenderedChanges]) -> None:
    """Take note of a failure, which asyncio would report if every client had left meanwhile."""
    if not task.cancelled():
        task.exception()
