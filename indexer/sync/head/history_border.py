"""The finalized block: up to it is history, which is backfill's; above it is what the follower writes."""

import logging
from collections.abc import Callable
from typing import Final

from sqlalchemy.engine import Engine

from indexer.chain.client import ChainClient
from indexer.chain.records.messages import Header
from indexer.store.head import branch
from indexer.sync.head import chain_identity
from indexer.sync.head.finality import FinalBlocks, ancestor
from indexer.sync.head.leadership import Leadership
from indexer.sync.head.local_branch import LocalBranch, block_of

log = logging.getLogger(__name__)

FINALITY_EVERY: Final = 4.0
"""Seconds between two questions for the finalized block: it moves by whole epochs, the head by blocks."""


class HistoryBorder:
    """Moves the border between history and head; only ever upwards. Not thread-safe.

    Args:
        engine: the database.
        client: the chain's nodes.
        right: the follower's.
        local: our unfinalised blocks.
        final: which block can no longer be reorganised.
        chain_id: the chain.
        name: the chain's name, for the log.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        engine: Engine,
        client: ChainClient,
        right: Leadership,
        local: LocalBranch,
        final: FinalBlocks,
        chain_id: int,
        *,
        name: str,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._client = client
        self._right = right
        self._local = local
        self._final = final
        self._chain_id = chain_id
        self._name = name
        self._clock = clock
        self._asked_at = -FINALITY_EVERY

    @property
    def note(self) -> str | None:
        """What an operator should know of the chain's finality, or None."""
        return self._final.note

    def start(self, newest: Header) -> None:
        """Takes the first look ever at the chain: what is finalized now is history.

        Raises:
            ChainHaltedError, ProviderError: the nodes do not say where that is.
        """
        genesis, start = chain_identity.first_blocks(self._client, self._name, self._final.first(newest))
        genesis_hash = None if genesis is None else genesis.hash
        with self._engine.begin() as connection:
            branch.start(connection, self._chain_id, self._right.epoch, genesis_hash, block_of(start))
        self._local.reload()

    def jump(self, newest: Header) -> bool:
        """Goes on, after a long pause, at what became final meanwhile: up to it is backfill's to fetch.

        Returns:
            False if our tip is no block of the nodes' branch: that must be reorganised first.

        Raises:
            CatalogChangedError, FollowerLostError, ProviderError: nothing was written.
        """
        finalized = self._newest(newest)
        if finalized is None or finalized.number <= self._local.tip.number:
            return True
        at_tip = ancestor(self._client, self._local.tip.number, finalized)
        if at_tip is None:
            return True
        if at_tip.hash != self._local.tip.hash:
            return False
        with self._engine.begin() as connection:
            branch.jump(connection, self._chain_id, self._right.epoch, block_of(finalized))
        log.info(
            "%s: %d blocks behind; following goes on at %d, the history up to it is backfilled",
            self._name,
            newest.number - self._local.tip.number,
            finalized.number,
        )
        self._local.reload()
        return True

    def advance(self, newest: Header) -> None:
        """Asks from time to time for the finalized block, and makes ours final up to it.

        Raises:
            FollowerLostError, ProviderError: nothing was written.
        """
        if self._clock() < self._asked_at + FINALITY_EVERY:
            return
        self._asked_at = self._clock()
        finalized = self._newest(newest)
        if finalized is None or finalized.number <= self._local.floor:
            return
        number = min(finalized.number, self._local.tip.number)
        there = ancestor(self._client, number, finalized)
        stored = self._local.stored(number, number).get(number)
        if number <= self._local.floor or there is None or stored != there.hash:
            return  # the branch that we hold is not the finalized one: the next look will see the reorganisation
        safe = self._final.safe()
        with self._engine.begin() as connection:
            branch.finalize(connection, self._chain_id, self._right.epoch, block_of(there), safe)
        self._local.reload_state()

    def _newest(self, newest: Header) -> Header | None:
        return self._final.newest(newest, self._local.state.finalized or 0)
