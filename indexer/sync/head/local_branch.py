"""What a follower holds of its chain: what is followed, how far it has come, and the branch that ends in its tip."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.engine import Engine

from indexer.chain.client import ChainClient
from indexer.chain.records.errors import BranchMovedError
from indexer.chain.records.messages import Header
from indexer.intervals import BlockRange, RangeSet
from indexer.store.catalog.catalog import Source
from indexer.store.catalog.version import load_version
from indexer.store.head import branch as head
from indexer.store.head import state as head_state
from indexer.store.head.state import HeadState
from indexer.store.rows.blocks import Block
from indexer.store.rows.writer import Rows
from indexer.sync.head import followed_sources
from indexer.sync.head.followed_sources import View
from indexer.sync.head.leadership import Leadership


class LocalBranch:
    """What is held. It is read from the database when it is not known, and forgotten when it may be wrong.

    Args:
        engine: the database.
        client: the chain's nodes.
        leadership: to write what late sources lack.
        chain_id: the chain.
        name: the chain's name, for messages.
        blooms: whether the chain's blooms can be trusted.

    Attributes:
        state: how far the chain is followed, as it was when it was last looked at or moved.
    """

    def __init__(
        self, engine: Engine, client: ChainClient, leadership: Leadership, chain_id: int, *, name: str, blooms: bool
    ) -> None:
        self._engine = engine
        self._client = client
        self._leadership = leadership
        self._chain_id = chain_id
        self._name = name
        self._blooms = blooms
        self._view: View | None = None
        self._open: tuple[list[Source], int] | None = None
        self.state = HeadState(None, None, None, None)

    @property
    def tip(self) -> Block:
        """The newest block whose logs are in the tables; there must be one."""
        assert self.state.tip is not None
        return self.state.tip

    @property
    def floor(self) -> int:
        """The finalized block; there must be one."""
        assert self.state.finalized is not None
        return self.state.finalized

    def view(self) -> View:
        """What is followed; read first if it is not known."""
        if self._view is None:
            self.reload()
        assert self._view is not None
        return self._view

    def forget(self) -> None:
        """Forgets what is followed: something may have changed it. With it goes what was learnt from a branch."""
        self._view = None

    def reload(self) -> None:
        """Reads all of it anew."""
        self._open = None
        self._view, self.state = followed_sources.load(self._engine, self._chain_id)

    @property
    def mark(self) -> int:
        """The mark of the sources that are followed (``store.head.state``); :meth:`join` sets it."""
        assert self._open is not None
        return self._open[1]

    def reload_state(self) -> None:
        """Reads anew how far the chain is followed."""
        with self._engine.connect() as connection:
            self.state = head_state.load_state(connection, self._chain_id)

    def moved(self, tip: Block) -> None:
        """Notes the tip that was just committed."""
        self.state = replace(self.state, tip=tip)

    def swapped(self, tip: Block) -> None:
        """Notes the tip of another branch that was just committed."""
        self.moved(tip)
        self._open = None

    def stored(self, first: int, last: int) -> dict[int, bytes]:
        """The hashes of our own blocks of a range, by number."""
        with self._engine.connect() as connection:
            return head_state.load_headers(connection, self._chain_id, (first, last))

    def heard(self, first: int, last: int) -> dict[int, bytes]:
        """The hashes of the node's blocks of a range, by number."""
        headers = self._client.headers(range(first, last + 1))
        return {number: header.hash for number, header in headers.items()}

    def read(
        self,
        sources: Sequence[Source],
        block_range: BlockRange,
        parent_hash: bytes,
        span: int,
        known: Sequence[Header] = (),
    ) -> tuple[list[Header], Rows]:
        """Reads a branch for some sources, as :func:`indexer.sync.head.followed_sources.read`."""
        return followed_sources.read(
            self._client, self.view(), sources, block_range, parent_hash, span=span, blooms=self._blooms, known=known
        )

    def join(self, span: int, *, fetch: bool = True) -> None:
        """Lets more sources be followed, now that what they need is there.

        Args:
            span: the most blocks to ask for at once.
            fetch: whether those that lack unfinalised blocks get them now.

        Raises:
            BranchMovedError, ProviderError: what they lack could not be fetched.
        """
        with self._engine.connect() as connection:
            changed = self._view is None or load_version(connection) != self._view.version
        if changed:
            self.reload()

        def fill(sources: Sequence[Source], missing: RangeSet) -> None:
            self._fill(sources, missing, span)

        view = self.view()
        followed_sources.join(self._engine, self._chain_id, view, self.tip.number, self.floor, fill if fetch else None)
        if self._open is None or not _same(self._open[0], view.followed):
            ids = [source.source_id for source in view.followed]
            with self._engine.begin() as connection:
                mark = head_state.follow_sources(connection, self._chain_id, self._leadership.epoch, ids, view.version)
            self._open = view.followed, mark

    def _fill(self, sources: Sequence[Source], missing: RangeSet, span: int) -> None:
        view, tip, first = self.view(), self.tip, missing[0][0]
        with self._engine.connect() as connection:
            parent = head_state.load_block(connection, self._chain_id, first - 1)
        headers, rows = self.read(sources, (first, tip.number), parent.hash, span)
        if headers[-1].hash != tip.hash:
            raise BranchMovedError(f"{self._name}: the branch moved while {sources[0].event.label} was joining")
        with self._engine.begin() as connection:
            head.fill(
                connection,
                self._chain_id,
                self._leadership.epoch,
                sources=sources,
                ranges=missing,
                rows=rows.within(missing),
                catalog_version=view.version,
            )


def _same(left: Sequence[Source], right: Sequence[Source]) -> bool:
    return left is right or [source.source_id for source in left] == [source.source_id for source in right]


def forget_children(view: View, common: int) -> None:
    """Forgets the children that were born above a block."""
    view.children = {contract: born.until(common) for contract, born in view.children.items()}


def block_of(header: Header) -> Block:
    """A header as a block of ours."""
    return Block(header.number, header.hash, header.time, header.parent_hash)
