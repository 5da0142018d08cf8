"""Filling history in: subtract, fetch, add, until no gap is left below ``finalized``.

Everything is idempotent: killed at any instant, the next run computes the gaps anew and goes on. Any number of these
may work on one chain, in any number of processes; one that finds a chunk already covered plans again.

Three things happen at once: the client's threads fetch and check, one thread makes rows, and the caller's thread writes
them. What waits between them is bounded, so memory stays flat whatever the range.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from indexer.addresses import Children
from indexer.chain.client import ChainClient
from indexer.chain.history.reader import SourcedHistory
from indexer.chain.history.source import HistoryReader
from indexer.chain.records.errors import ProviderError
from indexer.errors import GaplessError
from indexer.intervals import BlockRange, format_ranges, intersect
from indexer.store.catalog import catalog, children
from indexer.store.catalog.catalog import Source
from indexer.store.catalog.version import CatalogChangedError, load_version
from indexer.store.database import is_lost_session
from indexer.store.head import state as head_state
from indexer.store.head.state import HeadState
from indexer.store.rows import failed_ranges, history_sources, indexes, writer
from indexer.store.rows.writer import WriteOutcome
from indexer.sync.head import chain_identity
from indexer.sync.history.pipeline import Prefetcher, Prepared, joined_parts, prepared_chunks, silent_parts
from indexer.sync.rows.gaps import Gap, gaps, log_filters, waiting
from indexer.sync.rows.router import Router

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Progress:
    """What a backfill has done so far, for the progress bar and the summary.

    Attributes:
        total: blocks to do, as planned at first.
        blocks: blocks done.
        rows: rows written.
        requests: HTTP requests sent.
        bytes: bytes received.
        indexing: seconds in which indexes were built that had been put off.
    """

    total: int = 0
    blocks: int = 0
    rows: int = 0
    requests: int = 0
    bytes: int = 0
    indexing: float = 0.0


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a chain's history to fill; all of it by default.

    Attributes:
        contract: only this contract's sources.
        event: only this event's, by its API name.
        within: only these blocks.
    """

    contract: str | None = None
    event: str | None = None
    within: BlockRange | None = None

    def selects(self, contract: str, event: str) -> bool:
        """Whether an event, by its contract's name and its own in the API, is part of it."""
        return self.contract in (None, contract) and self.event in (None, event)


class UnreadRangesError(GaplessError):
    """Parts of history could not be read; all the rest was. They are asked for again later."""


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """What is to be done, by one look at the catalog.

    Attributes:
        version: of the catalog.
        sources: those active ones of the chain that lack something, and all by which children are found.
        children: of the contracts whose children the first gap is about.
        gaps: what can be fetched now.
        state: how far the chain is followed.
    """

    version: int
    sources: list[Source]
    children: Children
    gaps: list[Gap]
    state: HeadState


# So many prepared chunks wait for the writer at most, and so many are written in one transaction.
_ROOM = 4
# From so many blocks on, a backfill is large: indexes of what is empty wait for its end, and commits not for the disk.
_LARGE = 20_000
# Seconds between two notes of what became of the sources of history.
_REPORT_EVERY = 5.0


@dataclass(slots=True)
class Backfill:
    """Fills the history of one chain.

    Attributes:
        engine: the database.
        client: the chain's nodes.
        chain_id: the chain.
        selection: what to fill.
        in_flight: requests under way at once.
        stop: when set, ends after the chunk at hand.
        on_progress: called after each chunk.
        history: what is read, where that is not the nodes alone.
        keeps_indexes: leaves secondary indexes as they are; the process that began the backfill sees to them.
    """

    engine: Engine
    client: ChainClient
    chain_id: int
    selection: Selection = field(default_factory=Selection)
    in_flight: int = 4
    stop: threading.Event = field(default_factory=threading.Event)
    on_progress: Callable[[Progress], None] = lambda _: None
    progress: Progress = field(default_factory=Progress)
    keeps_indexes: bool = False
    history: HistoryReader | None = None
    _reported_at: float = field(init=False, default=0.0)

    def run(self) -> Progress:
        """Works until nothing is left to do, or until stopped.

        A range that the nodes do not give stops nothing but itself: it is noted with its reason, rests, and is asked
        for again (:mod:`indexer.store.rows.failed_ranges`).

        Raises:
            ForeignBlockError, ChainHaltedError: the node's history is not the one that was indexed; nothing of it was
                written.
            UnreadRangesError: all is filled but for ranges that could not be read.
            ProviderError: no node answers.
        """
        fruitless = 0
        is_ours = False
        failures_in_a_row = 0
        with self.engine.begin() as connection:
            failed_ranges.forget_covered(connection, self.chain_id)
        while not self.stop.is_set():
            plan = self.plan()
            if not plan.gaps:
                self.build_indexes(plan)
                break
            # A block that is not stored cannot be found to be another chain's: the finalized one is looked at.
            if not is_ours and not chain_identity.check(self.client, self.client.name, plan.state):
                log.info("%s: the nodes have not come as far as the finalized block yet", self.client.name)
                break
            is_ours = True
            self.put_indexes_off(plan.gaps[0])
            self.progress.total = max(self.progress.total, self.progress.blocks + sum(gap.blocks for gap in plan.gaps))
            # One gap, then a new plan: the children of factories can be planned once their factory is covered, and
            # other workers take their part.
            before = self.progress.blocks
            try:
                done = self._fill(plan.gaps[0], plan)
            except ProviderError as error:
                failures_in_a_row = 1 if self.progress.blocks > before else failures_in_a_row + 1
                self._rest(plan.gaps[0], error, failures_in_a_row)
                continue
            finally:
                self._report_sources(at_once=True)
            failures_in_a_row = 0
            fruitless = 0 if done else fruitless + 1
            if fruitless:
                self.stop.wait(min(5.0, 0.2 * fruitless))
        if not self.stop.is_set():
            self.require_read()
        return self.progress

    def require_read(self) -> None:
        """Say which of the selected ranges could not be read.

        Raises:
            UnreadRangesError: there are any.
        """
        with self.engine.begin() as connection:
            failed_ranges.forget_covered(connection, self.chain_id)
            unread = [
                one
                for one in failed_ranges.load(connection, self.chain_id)
                if self.selection.contract in (None, one.contract)
                and self.selection.event in (None, one.event)
                and (self.selection.within is None or intersect(((one.first, one.last),), (self.selection.within,)))
            ]
        if unread:
            one = unread[0]
            more = f" and {len(unread) - 1} more ranges" if len(unread) > 1 else ""
            raise UnreadRangesError(
                f"history of {one.contract}.{one.event}, blocks {one.first:,} to {one.last:,}{more}, cannot be read: "
                f"{one.reason}",
                hint="the rest is filled; it is asked for again by itself, less and less often (gapless status)",
            )

    def _rest(self, gap: Gap, error: ProviderError, in_a_row: int) -> None:
        """Leave the range of a failure out for a while.

        Where nothing but failures came, it is half of what lies above at most: the part of a pruned history that can be
        read is found by few questions.

        Raises:
            ProviderError: the failure is about no range, or no node answers anything.
        """
        if error.blocks is None or not self._answers():
            raise error
        first, last = error.blocks
        (reach,) = [b for a, b in gap.ranges if a <= first <= b] or [last]
        wide = first + (last - first + 1) * 2 ** min(in_a_row - 1, 40) - 1
        last = max(last, min(wide, first + (reach - first) // 2))
        log.log(
            logging.INFO if in_a_row == 1 else logging.DEBUG,
            "%s: blocks %d to %d of %s cannot be read: %s; the rest of history goes on",
            *(self.client.name, first, last, ", ".join(sorted({s.event.label for s in gap.sources})), error),
        )
        with self.engine.begin() as connection:
            failed_ranges.note(connection, [source.source_id for source in gap.sources], (first, last), str(error))

    def _answers(self) -> bool:
        try:
            self.client.head()
        except ProviderError:
            return False
        return True

    def plan(self) -> BackfillPlan:
        """Reads what is covered, and says what is missing and can be fetched now.

        The children of new factory rules are looked for in the tables first: what they said is planned only then.
        """
        children.adopt(self.engine, self.chain_id, self.stop)
        with self.engine.connect() as connection:
            version = load_version(connection)
            state = head_state.load_state(connection, self.chain_id)
            last = -1 if state.finalized is None else state.finalized
            sources = catalog.load_lacking(connection, self.chain_id, last)
            resting = failed_ranges.resting(connection, self.chain_id)
            selected = [
                Gap(gap.ranges, chosen)
                for gap in gaps(sources, last, self.selection.within, resting)
                if (chosen := tuple(source for source in gap.sources if self._selects(source)))
            ]
            # Of the gap that is filled first, and after the sources: no child of what they cover can be missing.
            wanted = {s.event.contract_id for gap in selected[:1] for s in gap.sources if s.place.kind == "factory"}
            known = catalog.load_children(connection, self.chain_id, wanted)
        return BackfillPlan(version, sources, known, selected, state)

    def remaining(self) -> int:
        """How many blocks there are to do, as far as can be said now."""
        return sum(gap.blocks for gap in self.plan().gaps)

    def blocked(self) -> list[str]:
        """The selected events whose history must wait for that of a factory, by ``contract.Event``."""
        with self.engine.connect() as connection:
            finalized = head_state.load_state(connection, self.chain_id).finalized
            if finalized is None:
                return []
            sources = catalog.load_lacking(connection, self.chain_id, finalized)
        return [source.event.label for source in waiting(sources, finalized) if self._selects(source)]

    def _selects(self, source: Source) -> bool:
        return self.selection.selects(source.event.contract, source.event.api_name)

    def _fill(self, gap: Gap, plan: BackfillPlan) -> int:
        """Fetches and writes a gap.

        Returns:
            How many blocks were written.
        """
        router = Router(self.chain_id, gap.sources, plan.children, among=plan.sources)
        filters = log_filters(gap.sources, plan.children)
        log.debug("filling %s for %d sources", format_ranges(gap.ranges), len(gap.sources))
        halt = threading.Event()
        reader: HistoryReader = self.history or self.client
        prepared = (
            prepared_chunks(reader.scan(gap.ranges, filters, in_flight=self.in_flight, stop=halt), router)
            if filters
            else silent_parts(gap.ranges)
        )
        done = 0
        with Prefetcher(prepared, room=_ROOM, halt=halt, name=f"rows-{self.chain_id}") as ready:
            while waiting := ready.take(self.stop, most=_ROOM):
                for part in joined_parts(waiting):
                    try:
                        outcome = self._write(part, gap, plan.version)
                    except CatalogChangedError as error:
                        log.info("%s", error)
                        return done
                    if outcome is WriteOutcome.OVERTAKEN:
                        log.info("blocks %d-%d were covered by another worker meanwhile", part.first, part.last)
                        return done
                    done += part.last - part.first + 1
                    self._report_sources()
                    if self.stop.is_set():
                        return done
        return done

    def _report_sources(self, *, at_once: bool = False) -> None:
        """Notes what became of the sources of history, and of comparing it with blooms, now and then."""
        if at_once and any(compared := self.client.compared.take()):
            with self.engine.begin() as connection:
                failed_ranges.note_compared(connection, self.chain_id, *compared)
        if not isinstance(self.history, SourcedHistory):
            return
        if not at_once and time.monotonic() - self._reported_at < _REPORT_EVERY:
            return
        self._reported_at = time.monotonic()
        with self.engine.begin() as connection:
            for counts in self.history.taken():
                if counts.is_empty:
                    continue
                history_sources.add(connection, self.chain_id, **dataclasses.asdict(counts))

    def put_indexes_off(self, gap: Gap) -> None:
        """Puts the indexes of tables off that a gap will fill with many rows."""
        if self.keeps_indexes or gap.blocks < _LARGE:
            return
        try:
            with self.engine.begin() as connection:
                connection.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
                for name in indexes.put_off(connection, {source.event.event_id for source in gap.sources}):
                    log.info("%s: its indexes are built when its history is filled", name)
        except sa.exc.OperationalError as error:
            # The table is being read. It goes on with its indexes, only slower.
            log.info("indexes stay while history is filled: %s", str(error.orig).strip())

    def build_indexes(self, plan: BackfillPlan) -> None:
        """Builds what was put off, of all events whose history does not wait for something else."""
        if self.keeps_indexes:
            return
        with self.engine.connect() as connection:
            put_off = indexes.those_put_off(connection, self.chain_id)
        if not put_off:
            return
        last = -1 if plan.state.finalized is None else plan.state.finalized
        blocked = {source.event.event_id for source in waiting(plan.sources, last)}
        done = {
            event_id
            for event_id, contract, event in put_off
            if event_id not in blocked and self.selection.selects(contract, event)
        }
        with self.engine.begin() as connection:
            contracts = indexes.call_for(connection, done)
        if contracts:
            started = time.monotonic()
            indexes.build(self.engine, self.stop, only=contracts)
            self.progress.indexing += time.monotonic() - started

    def _write(self, part: Prepared, gap: Gap, version: int) -> WriteOutcome:
        """Writes a part; once more where the session was lost, such as that of a process that stood still."""
        try:
            return self._write_once(part, gap, version)
        except (sa.exc.DBAPIError, psycopg.Error) as error:
            if not is_lost_session(error):
                raise
            log.warning("the session was lost while blocks %d-%d were written; once more", part.first, part.last)
        return self._write_once(part, gap, version)

    def _write_once(self, part: Prepared, gap: Gap, version: int) -> WriteOutcome:
        with self.engine.begin() as connection:
            outcome = writer.write_history(
                connection,
                self.chain_id,
                (part.first, part.last),
                gap.sources,
                rows=part.rows,
                blocks=part.blocks,
                catalog_version=version,
                durable=gap.blocks < _LARGE,
            )
            if outcome is WriteOutcome.OVERTAKEN:
                connection.rollback()
                return outcome
        progress = self.progress
        progress.blocks += part.last - part.first + 1
        progress.rows += part.rows.count
        progress.requests += part.requests
        progress.bytes += part.bytes
        self.on_progress(progress)
        return outcome
