"""Following the head of one chain: its newest blocks, and their reorganisations.

:meth:`Follower.tick` *is* the algorithm: ask for the head; append what is new if it grows from our tip; otherwise find
where the branches part, fetch the new one whole, and swap. What the node says is believed only where it fits together
(``chain.branch``); what is at or below ``finalized`` is never changed here.
"""

import enum
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from indexer.chain.client import ChainClient
from indexer.chain.errors import BranchMovedError, RangeError
from indexer.chain.wire import Header
from indexer.errors import GaplessError
from indexer.intervals import RangeSet, intersect
from indexer.manifest.model import Finality
from indexer.store import catalog, head
from indexer.store.catalog import Birth, CatalogChangedError, CatalogEvent, Series, Source
from indexer.store.head import FollowerLostError, HeadState
from indexer.store.writer import Block, Rows
from indexer.sync import anchor
from indexer.sync.anchor import ChainHaltedError
from indexer.sync.filters import NOTHING, log_filters
from indexer.sync.forks import last_common
from indexer.sync.plan import known_until
from indexer.sync.rows import Children, Router

__all__ = ["ChainHaltedError", "Follower", "Tick"]

log = logging.getLogger(__name__)

MAX_BLOCKS = 256
"""The most blocks that are appended in one transaction."""

FURTHEST_BEHIND = 1024
"""A tip that is further behind the head jumps to ``finalized`` and leaves what it skips to backfill."""


FINALITY_EVERY = 4.0
"""Seconds between two questions for the finalized block: it moves by whole epochs, the head by blocks."""


class Tick(enum.Enum):
    """What a look at the head led to."""

    NOTHING_NEW = "nothing new"
    EXTENDED = "extended"
    REORGANISED = "reorganised"
    LAGGING = "lagging"
    """The node is behind what it, or another, said before; it will catch up."""
    MOVED = "moved"
    """The node changed its mind while it was asked; the next look will tell."""
    STANDING_BY = "standing by"
    """Another process follows this chain."""


@dataclass(slots=True)
class _View:
    """What is followed, by one look at the catalog.

    Attributes:
        version: of the catalog.
        sources: all active ones of the chain.
        followed: those whose unfinalised blocks are in the tables up to the tip.
        children: of all factories.
    """

    version: int
    sources: list[Source]
    events: list[CatalogEvent]
    series: list[Series]
    children: Children
    followed: list[Source] = field(default_factory=list)


class Follower:
    """Follows one chain. Not thread-safe: one job calls :meth:`tick`, and never two at once."""

    def __init__(
        self,
        engine: Engine,
        client: ChainClient,
        chain_id: int,
        *,
        name: str,
        finality: Finality,
        blooms: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares; asks and writes nothing yet.

        Args:
            engine: the database.
            client: the chain's nodes.
            chain_id: the chain.
            name: the chain's name, for the log.
            finality: when a block can no longer be reorganised.
            blooms: whether the chain's blooms can be trusted.
            clock: seconds that only grow.
        """
        self._engine = engine
        self._client = client
        self._chain_id = chain_id
        self._name = name
        self._finality = finality
        self._blooms = blooms
        self._clock = clock
        self._finality_asked_at = -FINALITY_EVERY
        self._lock: Connection | None = None
        self._epoch = 0
        self._state = HeadState(None, None, None, None)
        self._view: _View | None = None
        self._reported: tuple[int, str] | None = None
        self._span = MAX_BLOCKS
        self._behind = False

    # -- leading -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Lets another process follow."""
        if self._lock is not None:
            # Given back to the pool, the session would keep the lock.
            self._lock.invalidate()
            self._lock.close()
            self._lock = None

    def _lead(self) -> bool:
        """Holds, or tries to get, the right to follow; a lock that Postgres lost with its session is taken anew."""
        if self._lock is not None and self._lock_is_alive():
            return True
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            if not head.try_lock(connection, self._chain_id):
                connection.close()
                return False
            self._epoch = head.become_follower(connection, self._chain_id, f"{socket.gethostname()}:{os.getpid()}")
            self._state = head.load_state(connection, self._chain_id)
        except BaseException:
            connection.invalidate()
            connection.close()
            raise
        self._lock = connection
        self._view = None
        log.info("following %s from block %s", self._name, self._state.tip.number if self._state.tip else "(none yet)")
        return True

    def _lock_is_alive(self) -> bool:
        assert self._lock is not None
        try:
            self._lock.exec_driver_sql("SELECT 1")
        except sa.exc.DBAPIError:
            self._lock.close()
            self._lock = None
            return False
        return True

    # -- one look at the head ------------------------------------------------------------------------------------

    def tick(self) -> Tick:
        """Takes one step towards the head.

        Raises:
            ChainHaltedError: a person must look; calling again asks again.
            ProviderError: no node could be asked.
            sqlalchemy.exc.DBAPIError: Postgres could not be used; nothing was written.
        """
        if not self._lead():
            return Tick.STANDING_BY
        done = False
        try:
            outcome = self._step(self._client.head())
            done = True
        except BranchMovedError as error:
            log.info("%s: %s", self._name, error)
            return Tick.MOVED
        except CatalogChangedError:
            return Tick.MOVED
        except FollowerLostError as error:
            log.warning("%s: %s", self._name, error)
            self.close()
            return Tick.STANDING_BY
        except RangeError:
            self._span = max(1, self._span // 2)
            raise
        finally:
            if not done:
                # Whatever was begun did not happen, or did without our being told: what is known is read anew.
                self._view = self._reported = None
        return outcome

    def prepare(self) -> bool:
        """Makes sure that it is known where history ends, for a backfill that runs on its own.

        Returns:
            False if another process follows, which knows.

        Raises:
            ChainHaltedError, ProviderError: as :meth:`tick`.
        """
        if not self._lead():
            return False
        newest = self._client.head()
        self._current_view()
        if self._state.tip is None:
            self._start(newest)
        anchor.check(self._client, self._name, self._state)
        if newest.number > self._tip.number + FURTHEST_BEHIND:
            self._jump(newest)
        return True

    def _step(self, newest: Header) -> Tick:
        self._current_view()
        if self._state.tip is None:
            self._start(newest)
        tip = self._tip
        if newest.number > tip.number + FURTHEST_BEHIND:
            self._jump(newest)
            tip = self._tip
        outcome = self._approach(newest, tip)
        if self._clock() >= self._finality_asked_at + FINALITY_EVERY:
            self._finality_asked_at = self._clock()
            self._finalize(newest)
        self._report(newest, outcome)
        return outcome

    def _approach(self, newest: Header, tip: Block) -> Tick:
        if newest.number <= tip.number:
            return self._compare(newest, tip)
        try:
            self._join()
            self._extend(min(newest.number, tip.number + self._span))
        except BranchMovedError:
            # With the view goes what was learnt from another branch than ours: children born there.
            self._view = None
            at_tip = self._client.header(tip.number)
            if at_tip is None:
                return Tick.LAGGING
            if at_tip.hash == tip.hash:
                raise
            return self._reorganise(newest)
        return Tick.EXTENDED

    def _compare(self, newest: Header, tip: Block) -> Tick:
        """A head that is not above our tip: the same, an older one, or another branch."""
        stored = self._stored(newest.number, newest.number).get(newest.number)
        if stored is None:
            return self._below_finalized(newest)
        if newest.hash != stored:
            return self._reorganise(newest)
        if newest.number < tip.number:
            return Tick.LAGGING
        self._join()
        return Tick.NOTHING_NEW

    @property
    def _tip(self) -> Block:
        assert self._state.tip is not None
        return self._state.tip

    @property
    def _floor(self) -> int:
        assert self._state.finalized is not None
        return self._state.finalized

    # -- beginning and finality ----------------------------------------------------------------------------------

    def _start(self, newest: Header) -> None:
        """The first look ever at this chain: what is finalized now is history."""
        genesis = self._client.header(0)
        if genesis is None:
            raise GaplessError(
                f"{self._name}: the node does not know block 0",
                hint="it may still be syncing; this is asked again at the next look",
            )
        finalized = self._finalized_header(newest) or genesis
        with self._engine.begin() as connection:
            head.start(connection, self._chain_id, self._epoch, genesis.hash, _block(finalized))
        self._reload()

    def _jump(self, newest: Header) -> None:
        """After a long pause: what became final meanwhile is history, and backfill's to fetch."""
        finalized = self._finalized_header(newest)
        if finalized is None or finalized.number <= self._tip.number:
            return
        at_tip = self._ancestor(self._tip.number, finalized)
        if at_tip is None:
            return
        if at_tip.hash != self._tip.hash:
            self._reorganise(newest)  # the next look jumps
            return
        with self._engine.begin() as connection:
            head.jump(connection, self._chain_id, self._epoch, _block(finalized))
        log.info(
            "%s: %d blocks behind; following goes on at %d, the history up to it is backfilled",
            self._name,
            newest.number - self._tip.number,
            finalized.number,
        )
        self._reload()

    def _finalize(self, newest: Header) -> None:
        finalized = self._finalized_header(newest)
        if finalized is None or finalized.number <= self._floor:
            return
        number = min(finalized.number, self._tip.number)
        there = self._ancestor(number, finalized)
        stored = self._stored(number, number).get(number)
        if number <= self._floor or there is None or stored != there.hash:
            return  # the branch that we hold is not the finalized one: the next look will see the reorganisation
        safe = self._client.tagged("safe") if self._finality.kind == "tag" else None
        with self._engine.begin() as connection:
            head.finalize(connection, self._chain_id, self._epoch, _block(there), None if safe is None else safe.number)
        self._reload_state()

    def _ancestor(self, number: int, finalized: Header) -> Header | None:
        """The block of a height at or below a finalized one, by one answer that knows both; None where none does."""
        if number == finalized.number:
            return finalized
        found = self._client.headers([number, finalized.number])
        same = finalized.number in found and found[finalized.number].hash == finalized.hash
        return found.get(number) if same else None

    def _finalized_header(self, newest: Header) -> Header | None:
        match self._finality.kind:
            case "tag":
                tagged = self._client.tagged("finalized")
                if tagged is None:
                    raise GaplessError(
                        f"{self._name}: the node does not know the block tag finalized",
                        hint=f"say in the manifest when blocks are final: chains.{self._name}.finality = 64 (blocks), "
                        "or {seconds = 900}",
                    )
                return tagged
            case "blocks":
                return self._client.header(max(0, newest.number - self._finality.amount))
            case "seconds":
                return self._older_than(newest, self._finality.amount)

    def _older_than(self, newest: Header, seconds: int) -> Header | None:
        """The newest block that is so much older than the head, by bisection."""
        low, high = self._state.finalized or 0, newest.number
        found: Header | None = None
        while low <= high:
            middle = (low + high) // 2
            header = self._client.header(middle)
            if header is None:
                return found
            if header.time <= newest.time - seconds:
                found, low = header, middle + 1
            else:
                high = middle - 1
        return found

    # -- growing -------------------------------------------------------------------------------------------------

    def _extend(self, last: int) -> None:
        view, tip = self._current_view(), self._tip
        headers, rows = self._fetch(view, view.followed, tip.number + 1, last, tip.hash)
        blocks = [_block(header) for header in headers]
        with self._engine.begin() as connection:
            head.extend(
                connection,
                self._chain_id,
                self._epoch,
                blocks=blocks,
                sources=view.followed,
                rows=rows,
                catalog_version=view.version,
            )
        self._moved(blocks[-1])
        self._behind = False
        self._span = min(MAX_BLOCKS, self._span * 2)

    def _fetch(
        self, view: _View, sources: Sequence[Source], first: int, last: int, parent_hash: bytes
    ) -> tuple[list[Header], Rows]:
        """Reads a branch for some sources; again, with their addresses, when children were born in it."""
        births: list[Birth] = []
        last_hash: bytes | None = None
        while True:
            router = Router(self._chain_id, sources, view.children, among=view.sources)
            filters = log_filters(sources, view.children)
            branch = self._client.branch(first, last, filters or NOTHING, parent_hash=parent_hash, blooms=self._blooms)
            if last_hash not in (None, branch.headers[-1].hash):
                raise BranchMovedError(f"{self._name}: the branch moved while its newborn children were asked for")
            last_hash = branch.headers[-1].hash
            rows = router.rows(branch.logs, {header.number: header.time for header in branch.headers})
            births += rows.births
            if not rows.births or log_filters(sources, view.children) == filters:
                rows.births = births
                return branch.headers, rows

    def _moved(self, tip: Block) -> None:
        self._state = replace(self._state, tip=tip)

    # -- reorganisation ------------------------------------------------------------------------------------------

    def _reorganise(self, newest: Header) -> Tick:
        view, tip, floor = self._current_view(), self._tip, self._floor
        # Just after a start nothing is followed yet; what is whole must be replaced, not merely dropped.
        self._join(fetch=False)
        top = min(tip.number, newest.number)
        common = last_common(self._stored, self._heard, floor, top)
        if common is None:
            return self._below_finalized(newest)
        if common == top:
            raise BranchMovedError(f"{self._name}: two answers differ about block {top}")
        with self._engine.connect() as connection:
            parent = head.load_block(connection, self._chain_id, common)
        last = min(newest.number, max(tip.number, common + self._span))
        view.children = {
            contract: {address: birth for address, birth in born.items() if birth <= common}
            for contract, born in view.children.items()
        }
        headers, rows = self._fetch(view, view.followed, common + 1, last, parent.hash)
        if headers[0].hash == self._stored(common + 1, common + 1).get(common + 1):
            raise BranchMovedError(f"{self._name}: two answers differ about block {common + 1}")
        blocks = [_block(header) for header in headers]
        new_tip = blocks[-1]
        with self._engine.begin() as connection:
            head.swap(
                connection,
                self._chain_id,
                self._epoch,
                common=parent,
                old_tip=tip,
                blocks=blocks,
                sources=view.followed,
                events=view.events,
                series=view.series,
                rows=rows,
                catalog_version=view.version,
            )
        log.warning(
            "%s: reorganisation of %d blocks: %d is the last common one, %d 0x%s was replaced by %d 0x%s",
            self._name,
            tip.number - common,
            common,
            tip.number,
            tip.hash.hex()[:8],
            new_tip.number,
            new_tip.hash.hex()[:8],
        )
        self._moved(new_tip)
        return Tick.REORGANISED

    def _below_finalized(self, newest: Header) -> Tick:
        """The node's chain does not join ours above ``finalized``: a node that is far behind, or another chain."""
        if not anchor.check(self._client, self._name, self._state) and not self._behind:
            self._behind = True
            log.warning(
                "%s: the node's head %d is below the finalized block %d; waiting for it to catch up",
                *(self._name, newest.number, self._floor),
            )
        return Tick.LAGGING

    def _stored(self, first: int, last: int) -> dict[int, bytes]:
        with self._engine.connect() as connection:
            return head.load_headers(connection, self._chain_id, (first, last))

    def _heard(self, first: int, last: int) -> dict[int, bytes]:
        headers = self._client.headers(range(first, last + 1))
        return {number: header.hash for number, header in headers.items()}

    # -- what is followed ----------------------------------------------------------------------------------------

    def _current_view(self) -> _View:
        if self._view is None:
            self._reload()
        assert self._view is not None
        return self._view

    def _reload(self) -> None:
        with self._engine.connect() as connection:
            version = catalog.load_version(connection)
            self._state = head.load_state(connection, self._chain_id)
            sources = catalog.load_sources(connection, self._chain_id)
            self._view = _View(
                version=version,
                sources=sources,
                events=list(catalog.load_events(connection).values()),
                series=catalog.load_series(connection, retired=True),
                children=catalog.load_children(connection, self._chain_id),
            )

    def _reload_state(self) -> None:
        with self._engine.connect() as connection:
            self._state = head.load_state(connection, self._chain_id)

    def _join(self, *, fetch: bool = True) -> None:
        """Lets more sources be followed, now that what they need is there.

        A factory's children join when its own events are followed and all of their history is there. A source that
        lacks unfinalised blocks (since it is new) gets them first.

        Args:
            fetch: False: only those that lack nothing.
        """
        with self._engine.connect() as connection:
            changed = self._view is None or catalog.load_version(connection) != self._view.version
        if changed:
            self._reload()
        view = self._current_view()
        if len(view.followed) == len(view.sources):
            return
        self._refresh_coverage(view)
        while newcomers := self._newcomers(view):
            lacking: dict[RangeSet, list[Source]] = {}
            for source in newcomers:
                lacking.setdefault(self._missing(source), []).append(source)
            complete = lacking.pop((), [])
            if not complete:
                if not fetch:
                    return
                for missing, sources in lacking.items():
                    self._fill(view, sources, missing)
                complete = newcomers
            joined = {source.source_id for source in (*view.followed, *complete)}
            view.followed = [source for source in view.sources if source.source_id in joined]

    def _newcomers(self, view: _View) -> list[Source]:
        followed = {source.source_id for source in view.followed}

        def announced(source: Source) -> bool:
            return all(
                other.source_id in followed
                for factory in source.place.factories
                for other in view.sources
                if factory.announced_by(other.event)
            )

        return [
            source
            for source in view.sources
            if source.source_id not in followed
            and announced(source)
            and known_until(source, view.sources) >= self._floor
        ]

    def _refresh_coverage(self, view: _View) -> None:
        with self._engine.connect() as connection:
            view.sources = catalog.load_sources(connection, self._chain_id)
            # After the sources: no child of what they cover can be missing.
            for contract_id, born in catalog.load_children(connection, self._chain_id).items():
                view.children.setdefault(contract_id, {}).update(born)
        followed = {source.source_id for source in view.followed}
        view.followed = [source for source in view.sources if source.source_id in followed]

    def _missing(self, source: Source) -> RangeSet:
        return intersect(source.gap(self._tip.number), ((self._floor + 1, self._tip.number),))

    def _fill(self, view: _View, sources: Sequence[Source], missing: RangeSet) -> None:
        tip, first = self._tip, missing[0][0]
        with self._engine.connect() as connection:
            parent = head.load_block(connection, self._chain_id, first - 1)
        headers, rows = self._fetch(view, sources, first, tip.number, parent.hash)
        if headers[-1].hash != tip.hash:
            raise BranchMovedError(f"{self._name}: the branch moved while {sources[0].event.label} was joining")
        with self._engine.begin() as connection:
            head.fill(
                connection,
                self._chain_id,
                self._epoch,
                sources=sources,
                ranges=missing,
                rows=rows.within(missing),
                catalog_version=view.version,
            )

    # -- telling -------------------------------------------------------------------------------------------------

    def _report(self, newest: Header, outcome: Tick) -> None:
        state = "waiting" if outcome is Tick.LAGGING else "following"
        if self._reported == (newest.number, state):
            return
        with self._engine.begin() as connection:
            head.report_head(connection, self._chain_id, self._epoch, _block(newest), state=state)
        self._reported = (newest.number, state)


def _block(header: Header) -> Block:
    return Block(header.number, header.hash, header.time, header.parent_hash)
