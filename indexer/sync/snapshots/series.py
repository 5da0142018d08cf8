"""Snapshots: series of multicall reads, each at one block: which points are due, lost or missing, and taking them."""

import itertools
import json
import logging
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.engine import Connection, Engine

from indexer.abi.model import parse_abi
from indexer.addresses import DiscoveryBlocks
from indexer.chain.client import ChainClient
from indexer.chain.reads.contract_reads import MULTICALL3
from indexer.chain.records.errors import ProviderError, WrongBlockError, is_too_old
from indexer.chain.records.messages import Header
from indexer.errors import GaplessError
from indexer.intervals import ALWAYS
from indexer.manifest.model import Snapshot
from indexer.store.catalog import catalog
from indexer.store.catalog.catalog import Series
from indexer.store.catalog.factory_coverage import announcers, known_until
from indexer.store.catalog.version import CatalogChangedError
from indexer.store.head import state as head_state
from indexer.store.head.state import HeadState
from indexer.store.rows import snapshots
from indexer.store.rows.blocks import Block
from indexer.store.rows.snapshots import Reading, UnansweredPoint
from indexer.sync.snapshots import points
from indexer.sync.snapshots.points import SnapshotTarget, due_points, past_times, utc

log = logging.getLogger(__name__)

POINTS_PER_RUN = 20

LOST_WITHIN = timedelta(days=1)
"""A start looks at the reorganisations of so long ago: the last run may have ended before it read their points."""


class TooOldError(GaplessError):
    """The past of a series is wanted, and no node knows it any more."""


class _UnreadableError(GaplessError):
    """No node tells the state of a block that the nodes do know: it is too old for them."""


class Snapshots:
    """Takes one series on one chain."""

    def __init__(self, engine: Engine, client: ChainClient, chain_id: int, snapshot: Snapshot) -> None:
        """Prepares; asks and writes nothing yet."""
        self._engine = engine
        self._client = client
        self._chain_id = chain_id
        self._snapshot = snapshot
        self._past_is_done = snapshot.start_block is None
        self._reorgs_seen = 0
        self._lost_until = -1
        """The newest block, of those that were due, whose state no node would tell."""

    def take_due(self) -> int:
        """Takes the points of a series "every N blocks" that are due up to the tip, then some of the past.

        Returns:
            How many points were taken.

        Raises:
            TooOldError: the past is wanted, and no node knows it any more.
            ProviderError: the nodes could not be asked; what was taken before stays.
        """
        with self._engine.connect() as connection:
            stored, state, known = self._look(connection)
            last = snapshots.last_point(connection, stored, self._chain_id)
        if state.tip is None:
            return 0
        if last is None and self._snapshot.start_block is not None:
            last = state.finalized  # all up to there is the past
        # A point without all of a factory's children would stay so: until its history is there, none is taken.
        wanted = due_points(self._snapshot, last, state.tip.number) if known >= state.tip.number else []
        # What is gone at every node that we have is asked for once, and the series goes on behind it.
        numbers = [number for number in wanted if number > self._lost_until]
        taken = place = 0
        lost: list[int] = []
        while place < len(numbers) and taken < POINTS_PER_RUN:
            try:
                taken += self._take(stored, numbers[place])
                place += 1
            except _UnreadableError as error:
                if isinstance(error.__cause__, WrongBlockError):
                    # Nodes that ignore the block tell nothing but their newest.
                    kept = max(place + 1, len(numbers) - 1)
                else:
                    kept = self._kept_from(numbers, place + 1)
                lost += numbers[place:kept]
                place, why = kept, error
        if lost:
            self._lost_until = lost[-1]
            log.warning(
                "snapshot %s: %d points, blocks %d to %d, are too old to be read (%s)",
                *(self._snapshot.name, len(lost), lost[0], lost[-1], why),
            )
        return taken + self.take_past() + self.take_unanswered()

    def _kept_from(self, numbers: Sequence[int], first: int) -> int:
        """The place, from ``first`` on, of the first block whose state is known to some node, as are all later ones."""

        def is_kept(number: int) -> bool:
            try:
                self._client.code(MULTICALL3, number)
            except ProviderError as error:
                if is_too_old(error):
                    return False
                raise
            return True

        return bisect_left(numbers, True, lo=first, key=is_kept)

    def take_now(self) -> int:
        """Takes one point at the tip: for series by the clock."""
        with self._engine.connect() as connection:
            stored, state, known = self._look(connection)
        tip = state.tip
        return 0 if tip is None or known < tip.number else self._take(stored, tip.number)

    def take_missed(self) -> int:
        """For series by the clock: takes what a reorganisation took away once more, then some of the past.

        Returns:
            How many points were taken.

        Raises:
            TooOldError, ProviderError: as :meth:`take_past`.
        """
        return self.take_lost() + self.take_past() + self.take_unanswered()

    def take_lost(self) -> int:
        """Takes the points that were read in blocks which a reorganisation dropped, on the branch that replaced them.

        A time counts as lost if it was due on the dropped branch and no point lies between it and the time before. It
        is read at the newest block that is not younger, once the new branch has come so far.

        Returns:
            How many points were taken.

        Raises:
            ProviderError: the nodes could not be asked; what was taken before stays.
        """
        with self._engine.connect() as connection:
            stored, state, known = self._look(connection)
            left = snapshots.branches_left(connection, stored, self._chain_id, self._reorgs_seen, LOST_WITHIN)
        taken, tip = 0, state.tip
        if tip is None or known < tip.number:
            return 0
        for reorg in left:
            shared, furthest = self._client.header(reorg.common), self._client.at_or_below(reorg.furthest)
            if shared is None:
                break
            # A chain whose clock runs ahead of ours was read at times that are still to come. How late the dropped
            # branch was is not kept: about as late as the new one is at that height.
            until = max(int(reorg.noticed.timestamp()), furthest.time if furthest else tip.time)
            for before, moment in past_times(self._snapshot.every, shared.time + 1, min(until, tip.time)):
                number = self._unread_at(stored, before, moment, shared, tip.number)
                if number is not None and not self._take(stored, number):
                    return taken
                taken += number is not None
            if furthest is None or until > tip.time:
                break  # the new branch has yet to come so far
            self._reorgs_seen = reorg.reorg_id
        return taken

    def _unread_at(self, stored: Series, before: int, moment: int, low: Header, last: int) -> int | None:
        """The newest block of a time, if the series was not read since the time before; None, too, if there is none."""
        with self._engine.connect() as connection:
            if snapshots.is_read_between(connection, stored, self._chain_id, utc(before), utc(moment)):
                return None
        newest = self._last_until(moment, low, last)
        if newest.time <= before:
            return None  # nothing was mined since the time before
        with self._engine.connect() as connection:
            known = snapshots.is_read_at(connection, stored, self._chain_id, newest.number)
        return None if known else newest.number

    def take_past(self) -> int:
        """Takes the next few points between ``start_block`` and the finalized block that were not taken yet.

        Returns:
            How many; 0: the past is complete, or not wanted.

        Raises:
            TooOldError: no node knows the state of a block; an archive node would.
            ProviderError: the nodes could not be asked; what was taken before stays.
        """
        start = self._snapshot.start_block
        if self._past_is_done or start is None:
            return 0
        with self._engine.connect() as connection:
            stored, state, known = self._look(connection)
        if state.finalized is None:
            return 0
        taken = 0
        finalized = min(state.finalized, known)
        numbers = self._past_blocks(stored, start, finalized)
        for number in itertools.islice(numbers, POINTS_PER_RUN):
            try:
                taken += self._take(stored, number)
            except _UnreadableError as error:
                raise TooOldError(
                    f"snapshot {self._snapshot.name}: no endpoint knows the state of block {number:,}: {error}",
                    hint="start_block takes the past from an archive node: add one to the chain, or take it out",
                ) from error
        # What is not final yet is the business of the points that are due.
        if taken == 0 and finalized == state.finalized:
            self._past_is_done = next(self._past_blocks(stored, start, finalized), None) is None
        return taken

    def _past_blocks(self, stored: Series, start: int, finalized: int) -> Iterator[int]:
        every = self._snapshot.every
        if every.kind == "blocks":
            first = -(-start // every.amount) * every.amount
            with self._engine.connect() as connection:
                missing = snapshots.missing_points(
                    connection, stored, self._chain_id, first, finalized, every.amount, POINTS_PER_RUN
                )
            yield from missing
            return
        if finalized < start:
            return
        low, high = self._client.at_or_below(start), self._client.at_or_below(finalized)
        if low is None or high is None:
            return
        for before, moment in past_times(every, low.time, high.time):
            number = self._unread_at(stored, before, moment, low, finalized)
            if number is not None and number >= start:
                yield number

    def take_unanswered(self) -> int:
        """Asks the calls again that no node would run when their points were taken, as far as it is time to.

        Returns:
            How many points had such calls and have none any more.

        Raises:
            ProviderError: the nodes could not be asked; what was read before stays.
        """
        with self._engine.connect() as connection:
            stored = self._series(catalog.load_series(connection))
            waiting = snapshots.unanswered(connection, stored, self._chain_id, points.UNANSWERED, POINTS_PER_RUN)
        return sum(self._answer(stored, point) for point in waiting)

    def _answer(self, stored: Series, point: UnansweredPoint) -> bool:
        by_arguments: dict[str, Mapping[str, Any] | None] = {_key(None): None}
        if self._snapshot.for_each is not None:
            with self._engine.connect() as connection:
                rows = snapshots.query_rows(connection, self._snapshot.for_each)
            by_arguments = {_key(points.shown(row)): row for row in rows}
        targets = [
            SnapshotTarget(address, item, by_arguments[_key(arguments)])
            for address, item, arguments in point.rows
            if _key(arguments) in by_arguments
        ]
        header = self._client.at_or_below(point.number)
        if header is None or header.hash != point.block_hash:
            return False
        readings: list[Reading] = []
        is_too_late = False
        try:
            readings = points.read_point(
                self._client, self._snapshot.calls, parse_abi(list(stored.abi)), targets, header.number
            )
        except ProviderError as error:
            if not is_too_old(error):
                raise
            is_too_late = True
        again = self._client.at_or_below(point.number)
        if again is None or again.hash != point.block_hash:
            return False
        with self._engine.begin() as connection:
            snapshots.answer(
                connection, stored, self._chain_id, point, readings, block=_block(header), is_over=is_too_late
            )
        return bool(readings) and not any(one.unanswered for one in readings)

    def _last_until(self, moment: int, low: Header, last: int) -> Header:
        """The newest block that is not younger than a time, by bisection from one that is known not to be."""
        bottom, high = low.number, last + 1
        while high - bottom > 1:
            number = (bottom + high) // 2
            middle = self._client.at_or_below(number)
            if middle is None or middle.time > moment:
                high = number if middle is None else middle.number
            else:
                low, bottom = middle, number
        return low

    def _look(self, connection: Connection) -> tuple[Series, HeadState, int]:
        """The series, how far the chain is indexed, and up to which block all are known who are to be asked."""
        stored = self._series(catalog.load_series(connection))
        state = head_state.load_state(connection, self._chain_id)
        own = catalog.load_sources(connection, self._chain_id, contracts={stored.contract})
        rules = {(factory.contract, factory.event) for source in own for factory in source.place.factories}
        announcing = announcers(catalog.load_sources(connection, self._chain_id, named=rules) if rules else ())
        return stored, state, min((known_until(source, announcing) for source in own), default=ALWAYS)

    def _series(self, known: Sequence[Series]) -> Series:
        found = next((one for one in known if one.name == self._snapshot.name), None)
        if found is None:
            raise CatalogChangedError(f"snapshot {self._snapshot.name}: it is not in the manifest applied last")
        return found

    def _take(self, stored: Series, number: int) -> bool:
        """Takes a point, at the newest block at or below its number."""
        header = self._client.at_or_below(number)
        if header is None:
            return False
        abi = parse_abi(list(stored.abi))
        targets = self._targets(stored, header)
        if targets is None:
            return False
        try:
            readings = points.read_point(self._client, self._snapshot.calls, abi, targets, header.number)
        except ProviderError as error:
            if not is_too_old(error):
                raise
            raise _UnreadableError(str(error)) from error
        again = self._client.at_or_below(number)
        if again is None or again.hash != header.hash:
            return False
        with self._engine.begin() as connection:
            kept = snapshots.store(
                connection,
                stored,
                self._chain_id,
                number=number,
                block=_block(header),
                readings=readings,
            )
        if kept:
            log.info("snapshot %s: read %d rows at block %d", stored.name, len(readings), number)
        return kept

    def _targets(self, stored: Series, header: Header) -> list[SnapshotTarget] | None:
        """The contracts to ask at a block, and the calls; None: it is not the block that is indexed."""
        addresses: Sequence[bytes] = stored.deployments.get(self._chain_id, ())
        number = header.number
        with self._engine.connect() as connection:
            # Before the children: those of another branch may be others, and that one may be ours before we are done.
            kept = head_state.load_headers(connection, self._chain_id, (number, number))
            if kept.get(number, header.hash) != header.hash:
                return None
            if not addresses:
                born = catalog.load_children(connection, self._chain_id, [stored.contract_id]).get(
                    stored.contract_id, DiscoveryBlocks()
                )
                addresses = [bytes.fromhex(child[2:]) for child, birth in sorted(born.items()) if birth <= number]
            if self._snapshot.for_each is None:
                return [SnapshotTarget(address, 0, None) for address in addresses]
            rows = snapshots.query_rows(connection, self._snapshot.for_each)
        return [SnapshotTarget(address, item, row) for address in addresses for item, row in enumerate(rows)]


def _block(header: Header) -> Block:
    return Block(header.number, header.hash, header.time)


def _key(arguments: Mapping[str, Any] | None) -> str:
    return json.dumps(arguments, sort_keys=True)
