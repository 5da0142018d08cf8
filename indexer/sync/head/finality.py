"""Which block of a chain can no longer be reorganised: by the node's tag, by a depth, or by a time.

Up to the finalized block is history, which is backfill's; above it is what the follower writes
(:class:`HistoryBorder`).

A node's tag is believed with two exceptions, both told. A tag that runs with the head (development chains, mocks,
some rollups) would make the first reorganisation a contradiction of what is final: blocks count as final
:data:`DEPTH` below the head instead, unless the manifest names a floor of its own. A tag that no endpoint answers, or
that names another block than its number does, would stop finality: then blocks count as final as far below the head
as the tag was, at least :data:`DEPTH`.
"""

import logging
from collections.abc import Callable
from typing import Final

from sqlalchemy.engine import Engine

from indexer.chain.client import ChainClient
from indexer.chain.records.errors import ProviderError
from indexer.chain.records.messages import Header
from indexer.manifest.model import Finality
from indexer.store.head import branch
from indexer.sync.head import chain_identity
from indexer.sync.head.decisions import HashesOf
from indexer.sync.head.leadership import Leadership
from indexer.sync.head.local_branch import LocalBranch, block_of

log = logging.getLogger(__name__)

DEPTH = 250
"""Blocks below the head, where the tag says nothing of use."""

NEAR = 3
"""A tag that is fewer blocks than this below the head runs with it."""

FAR_LOOKS = 16
"""So many looks in a row must find the tag further away before it is believed again."""

TRIED = 3
"""So many looks in a row must find no tag before there is none."""

_DEEPEST = 4_096
_TAG = "finalized"

FINALITY_EVERY: Final = 4.0
"""Seconds between two questions for the finalized block, at least."""

EPOCH: Final = 32
"""Blocks between two such questions: it moves by whole epochs, the head by blocks."""

FINALITY_AT_LAST: Final = 60.0
"""Seconds after which it is asked for however few blocks have come."""


class FinalBlocks:
    """Asks which block is final, and remembers how the chain's tag did. Not thread-safe.

    Args:
        client: the chain's nodes.
        name: the chain's name in the manifest, for messages.
        finality: what makes a block final.

    Attributes:
        note: what an operator should know of it, or None.
    """

    def __init__(self, client: ChainClient, name: str, finality: Finality) -> None:
        self.note: str | None = None
        self._client = client
        self._name = name
        self._finality = finality
        self._failures = 0
        self._far_looks_left = 0
        self._distance = 0
        self._confirmed = b""

    def first(self, newest: Header) -> Header | None:
        """The newest final block of a chain of which nothing is known: a tag that is not answered is not waited for.

        Raises:
            ProviderError: no endpoint answers.
        """
        self._failures = max(self._failures, TRIED - 1)
        return self.newest(newest, 0)

    def newest(self, newest: Header, floor: int, ours: HashesOf | None = None) -> Header | None:
        """The newest block that is final, as the chain's nodes say now.

        Args:
            newest: the head.
            floor: a block that is known to be final.
            ours: the hashes of our own blocks: what one of them says need not be asked for.

        Returns:
            None where no block is final yet, or the nodes do not say.

        Raises:
            ProviderError: no endpoint answers.
        """
        if newest.number < floor:
            return None  # a node that is behind
        match self._finality.kind:
            case "tag":
                return self._tagged(newest, floor, ours)
            case "blocks":
                return self._below(newest, self._finality.amount)
            case "seconds":
                return _older_than(self._client, newest, self._finality.amount, floor)

    @property
    def pause(self) -> int:
        """Blocks after which it is worth asking again: as many as it was behind, an epoch at most."""
        match self._finality.kind:
            case "tag":
                return EPOCH if self._failures == 0 and self._distance >= EPOCH else max(1, self._distance)
            case "blocks":
                return min(EPOCH, max(1, self._finality.amount))
        return EPOCH

    def safe(self) -> int | None:
        """The block that the tag ``safe`` names, for a chain whose finality is a tag; None where no node says."""
        if self._finality.kind != "tag":
            return None
        try:
            tagged = self._client.tagged("safe")
        except ProviderError:
            return None
        return None if tagged is None else tagged.number

    def _tagged(self, newest: Header, floor: int, ours: HashesOf | None) -> Header | None:
        try:
            tagged = self._client.tagged(_TAG)
            if tagged is None:
                return self._without(newest, floor, "no endpoint knows it")
            known = None if ours is None else ours(tagged.number, tagged.number).get(tagged.number)
            if tagged.hash not in (self._confirmed, known):
                # One answer with a wrong pair of number and hash would stop the chain at its next comparison.
                there = self._client.header(tagged.number)
                if there is None or there.hash != tagged.hash:
                    return self._without(newest, floor, f"block {tagged.number} is another one by its number")
                self._confirmed = tagged.hash
        except ProviderError as error:
            return self._without(newest, floor, str(error))
        self._failures = 0
        distance = newest.number - tagged.number
        self._distance = max(self._distance, distance)
        least = self._finality.at_least
        if least is None:
            self._far_looks_left = FAR_LOOKS if distance < NEAR else max(0, self._far_looks_left - 1)
            least = DEPTH if self._far_looks_left else 0
        runs_with_head = least > 0 and self._finality.at_least is None
        self._tell(
            f"the block tag {_TAG} runs with the head: blocks count as final {DEPTH} below it. Where blocks are final "
            f'at once, say chains.{self._name}.finality = {{ tag = "{_TAG}", at_least = 0 }}'
            if runs_with_head
            else None
        )
        return tagged if distance >= least else self._below(newest, least)

    def _without(self, newest: Header, floor: int, why: str) -> Header | None:
        """What is final where the tag is not answered, or cannot be as it was answered."""
        self._failures += 1
        if self._failures < TRIED:
            return None
        depth = min(max(DEPTH, self._distance or (newest.number - floor if floor else 0)), _DEEPEST)
        self._tell(
            f"the block tag {_TAG} is of no use ({why}): blocks count as final {depth} below the head until it is; "
            f"chains.{self._name}.finality can say otherwise"
        )
        return self._below(newest, depth)

    def _tell(self, note: str | None) -> None:
        # Of another reason or depth, the first is told only: both change with every look.
        if note is not None and self.note is None:
            log.warning("%s: %s", self._name, note)
        elif note is None and self.note is not None:
            log.info("%s: the block tag %s is followed again", self._name, _TAG)
        self.note = note

    def _below(self, newest: Header, depth: int) -> Header | None:
        """The newest block that is so many numbers below the head; None where there is none above block 0."""
        return self._client.at_or_below(newest.number - depth) if newest.number > depth else None


def ancestor(client: ChainClient, number: int, final: Header) -> Header | None:
    """The block of a height at or below a final one, by one answer that knows both; None where none does."""
    if number == final.number:
        return final
    found = client.headers([number, final.number])
    same = final.number in found and found[final.number].hash == final.hash
    return found.get(number) if same else None


def _older_than(client: ChainClient, newest: Header, seconds: int, floor: int) -> Header | None:
    """The newest block that is so much older than the head, by bisection."""
    low, high = floor, newest.number
    found: Header | None = None
    while low <= high:
        middle = (low + high) // 2
        header = client.at_or_below(middle)
        if header is None:
            return found
        if header.time <= newest.time - seconds:
            found, low = header, middle + 1
        else:
            high = header.number - 1
    return found


class HistoryBorder:
    """Moves the border between history and head; only ever upwards. Not thread-safe.

    Args:
        engine: the database.
        client: the chain's nodes.
        leadership: the follower's.
        local: our unfinalised blocks.
        final: which block can no longer be reorganised.
        chain_id: the chain.
        name: the chain's name, for the log.
        hasty: whether it is asked for as often as may be, whatever it costs.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        engine: Engine,
        client: ChainClient,
        leadership: Leadership,
        local: LocalBranch,
        final: FinalBlocks,
        chain_id: int,
        *,
        name: str,
        hasty: bool,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._client = client
        self._leadership = leadership
        self._local = local
        self._hasty = hasty
        self._final = final
        self._chain_id = chain_id
        self._name = name
        self._clock = clock
        self._asked_at = float("-inf")
        self._asked_of = -EPOCH

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
            branch.start(connection, self._chain_id, self._leadership.epoch, genesis_hash, block_of(start))
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
            branch.jump(connection, self._chain_id, self._leadership.epoch, block_of(finalized))
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
        if not self._is_due(newest.number, self._clock()):
            return
        self._asked_at, self._asked_of = self._clock(), newest.number
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
            branch.finalize(connection, self._chain_id, self._leadership.epoch, block_of(there), safe)
        self._local.reload_state()

    def _is_due(self, head: int, now: float) -> bool:
        since = now - self._asked_at
        return since >= FINALITY_EVERY and (
            self._hasty or head >= self._asked_of + self._final.pause or since >= FINALITY_AT_LAST
        )

    def _newest(self, newest: Header) -> Header | None:
        return self._final.newest(newest, self._local.state.finalized or 0, self._local.stored)
