"""Following the head of one chain: its newest blocks, and their reorganisations.

:meth:`Follower.tick` *is* the algorithm: ask for the head; append what is new if it grows from our tip; otherwise find
where the branches part, fetch the new one whole, and swap. What the node says is believed only where it fits together
(``chain.branch``); what is at or below ``finalized`` is never changed here.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from sqlalchemy.engine import Engine

from indexer.chain.client import ChainClient
from indexer.chain.disagreement import is_true_of_every_head
from indexer.chain.records.errors import BranchMovedError, LaggingError, ProviderError, RangeError, TransientError
from indexer.chain.records.messages import Header
from indexer.manifest.model import Finality
from indexer.store.catalog.version import CatalogChangedError
from indexer.store.head import branch as head
from indexer.store.head import state as head_state
from indexer.store.head.state import FollowerLostError, HeadReport
from indexer.store.leases import Lease
from indexer.store.rows.blocks import Block
from indexer.store.rows.writer import Rows
from indexer.sync.head import chain_identity, local_branch
from indexer.sync.head.chain_identity import ChainHaltedError
from indexer.sync.head.decisions import DEV_STANDS_FOR, STANDS_FOR, ShorterChain, Tick, last_common, linked
from indexer.sync.head.finality import FinalBlocks, HistoryBorder
from indexer.sync.head.followed_sources import View
from indexer.sync.head.leadership import HeadReporter, Leadership
from indexer.sync.head.local_branch import LocalBranch, block_of

__all__ = ["ChainHaltedError", "Follower", "Tick"]

log = logging.getLogger(__name__)

MAX_BLOCKS = 256
"""The most blocks that are appended in one transaction."""

FURTHEST_BEHIND = 1024
"""A tip that is further behind the head jumps to ``finalized`` and leaves what it skips to backfill."""


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
        dev: bool = False,
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
            dev: whether it is a development chain, whose node may be restarted or take back any block.
            clock: seconds that only grow.
        """
        self._engine = engine
        self._client = client
        self._chain_id = chain_id
        self._name = name
        self._clock = clock
        self._leadership = Leadership(engine, chain_id)
        self._local = LocalBranch(engine, client, self._leadership, chain_id, name=name, blooms=blooms)
        final = FinalBlocks(client, name, finality)
        self._border = HistoryBorder(
            engine, client, self._leadership, self._local, final, chain_id, name=name, hasty=dev, clock=clock
        )
        self._reporter = HeadReporter(engine, self._leadership, chain_id, name=name, clock=clock)
        self._span = MAX_BLOCKS
        self._dev = dev
        self._shorter = ShorterChain(DEV_STANDS_FOR if dev else STANDS_FOR)
        self.looked_at = time.monotonic()
        """When the last look began, for those who ask whether this one is alive."""
        self.asked_at = float("-inf")
        """When a node was asked for the head last."""
        self.hindrance: Callable[[], str | None] = lambda: None
        """Why nothing can be written besides the head, for the chain's state; None: it can."""
        self._newest = -1

    # -- leading -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Lets another process follow."""
        self._leadership.release()

    @property
    def lease(self) -> Lease:
        """The right to follow, for the thread that renews it."""
        return self._leadership.lease

    def leads(self) -> bool:
        """Whether this process follows the chain, as far as it knows; may be asked by any thread."""
        return self._leadership.lease.is_trusted()

    @property
    def tip(self) -> Block | None:
        """The newest block that is indexed, as far as this follower knows."""
        return self._local.state.tip

    @property
    def tip_number(self) -> int | None:
        """Its number."""
        return None if self.tip is None else self.tip.number

    def is_behind(self) -> bool:
        """Whether the last look saw a head that is not indexed yet."""
        return self.tip is not None and self.tip.number < self._newest

    def _lead(self) -> bool:
        """Holds, or tries to get, the right to follow; a lease that expired and that no other process took goes on."""
        if self._leadership.is_held():
            return True
        # Not by what was known before: another may have followed meanwhile.
        self._local.forget()
        if not self._leadership.take():
            return False
        with self._engine.begin() as connection:
            head_state.lift(connection, self._chain_id)  # of the process before; what halted it will be seen again
        self._local.reload()
        tip = self._local.state.tip
        log.info("following %s from block %s", self._name, tip.number if tip else "(none yet)")
        return True

    # -- one look at the head ------------------------------------------------------------------------------------

    def tick(self, pushed: Sequence[Header] = ()) -> Tick:
        """Takes one step towards the head.

        Args:
            pushed: headers that a node pushed, proven by their hashes, ascending. Those that grow from our tip are the
                new blocks; where there is none, or their logs are not given, a node is asked for the head.

        Raises:
            ChainHaltedError: a person must look; calling again asks again.
            ProviderError: no node could be asked.
            sqlalchemy.exc.DBAPIError: Postgres could not be used; nothing was written.
        """
        self.looked_at = time.monotonic()
        if not self._lead():
            return Tick.STANDING_BY
        try:
            with self._unless_told():
                outcome = self._grow(pushed) if pushed else None
                if outcome is None:
                    self.asked_at = time.monotonic()
                    outcome = self._step(self._client.head())
        except BranchMovedError as error:
            self._reporter.moved(str(error))
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
        return outcome

    @contextlib.contextmanager
    def _unless_told(self) -> Iterator[None]:
        """Forgets what is known where an error ends a step: it did not happen, or did without our being told."""
        try:
            yield
        except BaseException:
            self._local.forget()
            self._reporter.forget()
            raise

    def join(self) -> None:
        """Lets sources be followed that have what they need by now, between two looks: no node is asked for the head.

        Raises:
            ProviderError, sqlalchemy.exc.DBAPIError: as :meth:`tick`.
        """
        with contextlib.suppress(BranchMovedError, CatalogChangedError, FollowerLostError), self._unless_told():
            if self._local.state.tip is not None:
                self._local.join(self._span)

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
        self._local.view()
        if self._local.state.tip is None:
            self._border.start(newest)
        chain_identity.check(self._client, self._name, self._local.state)
        if newest.number > self._local.tip.number + FURTHEST_BEHIND:
            self._jump(newest)
        return True

    def _grow(self, known: Sequence[Header]) -> Tick | None:
        """Appends blocks that are known to grow from our tip; None: they do not, or their logs are not given."""
        tip = self._local.state.tip
        if tip is None or not (known := linked(known, tip.number, tip.hash)[: self._span]):
            return None
        try:
            self._local.join(self._span)
            if self._local.tip != tip:
                return None
            self._extend(known[-1], known)
        except ProviderError as error:
            log.debug("%s: pushed blocks cannot be read, a node is asked for the head: %s", self._name, error)
            self._local.forget()
            return None
        self._told(known[-1], Tick.EXTENDED)
        return Tick.EXTENDED

    def _step(self, newest: Header) -> Tick:
        self._local.view()
        if self._local.state.tip is None:
            self._border.start(newest)
        if newest.number > self._local.tip.number + FURTHEST_BEHIND:
            self._jump(newest)
        outcome = self._approach(newest, self._local.tip)
        self._told(newest, outcome)
        return outcome

    def _told(self, newest: Header, outcome: Tick) -> None:
        """What follows a look: the border of history moves, and the database is told how far we are."""
        self._newest = newest.number
        self._reporter.stood()
        if outcome is not Tick.LAGGING:
            self._shorter.lose()
        self._border.advance(newest)
        self._reporter.report(self._report_of(newest, "waiting" if outcome is Tick.LAGGING else "following"))

    def _jump(self, newest: Header) -> None:
        if not self._border.jump(newest):
            self._reorganise(newest)  # the next look jumps

    def _approach(self, newest: Header, tip: Block) -> Tick:
        if newest.number <= tip.number:
            return self._compare(newest, tip)
        try:
            self._local.join(self._span)
            if self._local.tip != tip:
                return Tick.MOVED  # another process has followed, and what was known was read anew
            self._extend_by(newest, tip)
        except BranchMovedError:
            # With the view goes what was learnt from another branch than ours: children born there.
            self._local.forget()
            # Where the number of our tip has no block any more, it is the one before it.
            at_tip = self._client.at_or_below(tip.number)
            if at_tip is None:
                return Tick.LAGGING
            if at_tip.hash == tip.hash:
                raise
            return self._reorganise(newest)
        return Tick.EXTENDED

    def _compare(self, newest: Header, tip: Block) -> Tick:
        """A head that is not above our tip: the same, an older one, or another branch."""
        stored = self._local.stored(newest.number, newest.number).get(newest.number)
        if stored is None and newest.number <= self._local.floor:
            return self._below_finalized(newest)
        # Above finalized every block is kept: a number of which none is has no block on our branch.
        if newest.hash != stored:
            return self._reorganise(newest)
        if newest.number < tip.number:
            return self._shorten(newest, tip)
        self._local.join(self._span)
        return Tick.NOTHING_NEW

    def _shorten(self, newest: Header, tip: Block) -> Tick:
        """A head that is one of our own blocks, below the tip: a node that is behind, until it has said so for long."""
        if newest.number < self._local.floor:
            return self._below_finalized(newest) if self._dev else Tick.LAGGING
        if not self._all_say(newest.hash, lambda one: one.hash == newest.hash):
            return Tick.LAGGING
        self._local.join(self._span, fetch=False)
        view = self._local.view()
        local_branch.forget_children(view, newest.number)
        self._swap(view, block_of(newest), tip, [], Rows(), self._report_of(newest))
        return Tick.REORGANISED

    def _all_say(self, what: bytes, says: Callable[[Header], bool]) -> bool:
        """Whether all endpoints have said something of their heads for so long that it is so."""
        return self._shorter.is_said_by_all(what, self._clock(), partial(is_true_of_every_head, self._client, says))

    # -- growing -------------------------------------------------------------------------------------------------

    def _extend_by(self, newest: Header, tip: Block) -> None:
        """Appends what is new: the head alone where it is the block after our tip, whose header is there already."""
        if known := linked([newest], tip.number, tip.hash):
            try:
                return self._extend(newest, known)
            except (BranchMovedError, LaggingError, RangeError, TransientError) as error:
                log.debug("%s: block %d is read by number: %s", self._name, newest.number, error)
                local_branch.forget_children(self._local.view(), tip.number)
        return self._extend(newest)

    def _extend(self, newest: Header, known: Sequence[Header] = ()) -> None:
        view, tip = self._local.view(), self._local.tip
        last, report = min(newest.number, tip.number + self._span), self._report_of(newest)
        headers, rows = self._local.read(view.followed, (tip.number + 1, last), tip.hash, self._span, known)
        blocks = [block_of(header) for header in headers]
        with self._engine.begin() as connection:
            head.extend(
                connection,
                self._chain_id,
                self._leadership.epoch,
                after=tip.number,
                blocks=blocks,
                sources=view.followed,
                mark=self._local.mark,
                rows=rows,
                catalog_version=view.version,
                report=report,
            )
        self._reporter.said(report)
        self._local.moved(blocks[-1])
        self._reporter.rose()
        self._span = min(MAX_BLOCKS, self._span * 2)

    # -- reorganisation ------------------------------------------------------------------------------------------

    def _reorganise(self, newest: Header) -> Tick:
        # Just after a start nothing is followed yet; what is whole must be replaced, not merely dropped.
        self._local.join(self._span, fetch=False)
        view, tip, floor = self._local.view(), self._local.tip, self._local.floor
        top = min(tip.number, newest.number)
        common = last_common(self._local.stored, self._local.heard, floor, top)
        if common is None:
            return self._below_finalized(newest)
        if common == top:
            raise BranchMovedError(f"{self._name}: two answers differ about block {top}")
        with self._engine.connect() as connection:
            parent = head_state.load_block(connection, self._chain_id, common)
        last = min(newest.number, max(tip.number, common + self._span))
        local_branch.forget_children(view, common)
        headers, rows = self._local.read(view.followed, (common + 1, last), parent.hash, self._span)
        first = headers[0].number
        if headers[0].hash == self._local.stored(first, first).get(first):
            raise BranchMovedError(f"{self._name}: two answers differ about block {first}")
        self._swap(view, parent, tip, [block_of(header) for header in headers], rows, self._report_of(newest))
        return Tick.REORGANISED

    def _swap(self, view: View, common: Block, tip: Block, blocks: list[Block], rows: Rows, report: HeadReport) -> None:
        """Puts a branch, which may be empty, in the place of what is above a common block."""
        new_tip = blocks[-1] if blocks else common
        with self._engine.begin() as connection:
            head.swap(
                connection,
                self._chain_id,
                self._leadership.epoch,
                common=common,
                old_tip=tip,
                blocks=blocks,
                sources=view.followed,
                mark=self._local.mark,
                events=view.events,
                series=view.series,
                rows=rows,
                catalog_version=view.version,
                report=report,
            )
        self._reporter.said(report)
        self._reporter.reorganised(tip, common, new_tip)
        self._local.swapped(new_tip)

    def _below_finalized(self, newest: Header) -> Tick:
        """The node's chain does not join ours above ``finalized``: a node that is far behind, or another chain."""
        if chain_identity.check(self._client, self._name, self._local.state):
            return Tick.LAGGING
        if self._dev and self._all_say(b"below finalized", lambda one: one.number < self._local.floor):
            raise chain_identity.shortened(self._name, self._local.state, newest)
        self._reporter.below_finalized(newest.number, self._local.floor)
        return Tick.LAGGING

    def _report_of(self, newest: Header, state: str = "following") -> HeadReport:
        if (why := self.hindrance()) is not None:
            return HeadReport(block_of(newest), "waiting", why)
        return HeadReport(block_of(newest), state, self._border.note)
