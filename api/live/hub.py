"""The hub: all topics and waiting requests of a process, and the one query that tells which of them to stir.

The query runs a few times a second, whatever the number of clients, and not at all while there are none. It costs
less than a millisecond: the chains' tips, the versions of events and derived tables, and how far balances are counted.
While a request waits for a block that is due, the chains' tips alone are looked at between, so that it is answered
some ten milliseconds after the block is there.

Postgres' LISTEN and NOTIFY would save these looks, but a notification would have to be part of every writing
transaction, whose commits Postgres then takes one after the other; and a connection would be held for listening.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import orjson

from api.catalog import Catalog
from api.catalog_watch import CatalogWatch
from api.context import Slots
from api.database import Database
from api.errors import ApiError
from api.live.changes import Signals, StreamPosition, Watched
from api.live.topic import Known, RenderedChanges, Topic
from api.live.waits import Waits

log = logging.getLogger(__name__)

#: Seconds between two looks at what has changed.
POLL: Final = 0.15
#: The same, of the chains' tips, while a request waits for a block that is due.
NEAR: Final = 0.015
#: Threads that read for clients; a page of rows each.
READERS: Final = 4

TIPS: Final = "SELECT coalesce(json_agg(tip_number ORDER BY chain_id), '[]')::text FROM gapless.chains"
_NUMBER: Final = "SELECT version FROM gapless.catalog"

#: What changes with a chain's newest block, newest safe block, newest finalized block; and with rows and coverage. A
#: branch can be swapped below the safe block too. Where nobody follows, backfill makes the newest block.
_SIGNALS: Final = (
    f"SELECT json_build_object('tips', ({TIPS}),"
    """
    'chains', (SELECT coalesce(json_object_agg(chain_id, json_build_object(
        'latest', concat_ws('/', tip_number, encode(tip_hash, 'hex'), filled),
        'safe', concat_ws('/', safe_number, tip_number, encode(tip_hash, 'hex'), filled),
        'finalized', concat_ws('/', least(tip_number, finalized_number), filled),
        'tip', CASE WHEN filled IS NULL THEN tip_number END,
        'counted', (SELECT sum(version) FROM gapless.ledgers l WHERE l.chain_id = c.chain_id))), '{}')
        FROM gapless.chains c, LATERAL (SELECT CASE WHEN tip_number >= finalized_number THEN NULL
                                                    ELSE (SELECT sum(version) FROM gapless.events) END AS filled) f),
    'events', (SELECT coalesce(json_object_agg(id, version), '{}') FROM gapless.events),
    'series', (SELECT coalesce(json_object_agg(id, version), '{}') FROM gapless.series),
    'derived', (SELECT coalesce(json_object_agg(name || '/' || chain_id, build || '/' || version), '{}') FROM (
        SELECT d.name, p.chain_id, d.id AS build, p.version
        FROM gapless.derived d JOIN gapless.derived_progress p ON p.derived_id = d.id WHERE d.served
        UNION ALL
        SELECT t->>'name', p.chain_id, p.id, p.version
        FROM gapless.programs p, jsonb_array_elements(p.tables) t WHERE p.served) kept),
    'catalog', (SELECT version FROM gapless.catalog))
"""
)


@dataclass(frozen=True)
class StreamRequest:
    """A client's request.

    Attributes:
        key: equal for requests of the same.
        compiled: makes the scope for a catalog.
        position: where the client stands; None: now.
        path: for the log.
        client: whose slot it takes.
        private: whether a key or token was needed, whose end must not be outlived for long.
    """

    key: Hashable
    compiled: Callable[[Catalog], Watched]
    position: StreamPosition | None
    path: str
    client: str | None = None
    private: bool = False


class Stream:
    """A client's stream before it runs.

    Attributes:
        first: what the first look brought; to be taken away by who tells it.
    """

    def __init__(self, request: StreamRequest, topic: Topic, first: RenderedChanges, slots: Slots) -> None:
        self.request = request
        self.topic = topic
        self.first: RenderedChanges | None = first
        self._slots = slots
        self._open = True

    def close(self) -> None:
        """Give the slot back; once."""
        if self._open:
            self._open = False
            self._slots.give_back(self.request.client)


class Hub:
    """All topics and waiting requests of this process.

    Args:
        database: for reading; a pool of its own, so that streams and pages cannot starve each other.
        catalog: what is indexed.
        slots: how many streams there may be.

    Attributes:
        waits: the requests that wait for a block.
    """

    def __init__(self, database: Database, catalog: CatalogWatch, slots: Slots) -> None:
        self._database = database
        self._catalog = catalog
        self._slots = slots
        self._topics: dict[Hashable, Topic] = {}
        self._now: Known | None = None
        self._lock = threading.Lock()
        self._away = False
        self._ends: set[Callable[[], None]] = set()
        self._is_over = False
        self._tips: bytes | None = None
        self.waits = Waits()
        self.readers = ThreadPoolExecutor(READERS, "stream-reader")
        self._watcher = ThreadPoolExecutor(1, "stream-watcher")

    def open(self, request: StreamRequest) -> Stream:
        """Take a slot and a first look; called in any thread.

        Raises:
            ApiError: STREAMS_FULL, INVALID_CURSOR, and what else reading raises.
        """
        self._slots.take(request.client)
        try:
            # Another topic with this key may be there; a scope is cheap to compile a second time.
            topic = Topic(request.key, request.compiled, self._database, self.known)
            return Stream(request, topic, topic.look(request.position), self._slots)
        except BaseException:
            self._slots.give_back(request.client)
            raise

    def join(self, stream: Stream) -> Topic:
        """The topic of a stream, shared with others; called in the loop's thread, as all that follows."""
        topic = self._topics.setdefault(stream.request.key, stream.topic)
        topic.users += 1
        return topic

    def begin(self, end: Callable[[], None]) -> None:
        """Say that a stream runs.

        Args:
            end: ends it.
        """
        self._ends.add(end)
        if self._is_over:
            end()

    def end(self) -> None:
        """End all streams, also those that begin from now on."""
        self._is_over = True
        for end in self._ends:
            end()

    def leave(self, topic: Topic, end: Callable[[], None]) -> None:
        """Say that a client does not listen any more."""
        self._ends.discard(end)
        topic.users -= 1
        if not topic.users:
            del self._topics[topic.key]

    def known(self, number: int | None) -> Known:
        """The catalog as it was read last, or, with a number, one that is not older than that.

        Raises:
            ApiError: as :meth:`Database.query`.
        """
        now = self._now
        if now is not None and (number is None or number == now.number):
            return now
        with self._lock:
            now = self._now
            if now is not None and (number is None or number == now.number):
                return now
            # The number first: so the catalog is not older than it.
            number = int(self._database.query(_NUMBER)[0][0] or 0)
            self._now = Known(number, self._catalog.renewed())
            return self._now

    async def watch(self) -> None:
        """Stir topics and wake waiting requests when something changes; for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await self._pause(loop)
            if not self._topics and not self.waits.count:
                continue
            try:
                signals = await loop.run_in_executor(self._watcher, self._look)
            except ApiError as error:
                if not self._away:
                    log.warning("streams and waiting requests stand still until the database answers: %s", error)
                self._away = True
                continue
            self._away = False
            for topic in list(self._topics.values()):
                topic.compare(signals)
            self.waits.compare(signals.chains, loop.time())

    async def _pause(self, loop: asyncio.AbstractEventLoop) -> None:
        """Until the next look: a beat, or until a block has come where a request waits for one that is due."""
        end = loop.time() + POLL
        while (left := end - loop.time()) > 0:
            due = self.waits.due_in(loop.time())
            if due is None or due >= left:
                await asyncio.sleep(left)
                return
            await asyncio.sleep(max(due, NEAR))
            try:
                rows = await loop.run_in_executor(self._watcher, self._database.query, TIPS)
            except ApiError:
                return  # the look itself says it
            if rows[0][0] != self._tips:
                return

    def _look(self) -> Signals:
        body: dict[str, Any] = orjson.loads(self._database.query(_SIGNALS)[0][0] or b"{}")
        self._tips = body["tips"].encode()
        number = body["catalog"] or 0
        now = self.known(number)
        # Indexes come and go without a new number; the watch itself asks every other second at most.
        catalog = self._catalog.current()
        if now.number == number and catalog.version != now.catalog.version:
            self._now = Known(number, catalog)
        chains, events, series = (
            {int(key): value for key, value in body[of].items()} for of in ("chains", "events", "series")
        )
        return Signals(chains, events, series, body["derived"])

    def close(self) -> None:
        """End its threads; queries under way end with the pool."""
        self.readers.shutdown(wait=False, cancel_futures=True)
        self._watcher.shutdown(wait=False, cancel_futures=True)
