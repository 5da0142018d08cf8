"""Foreign shapes: logs of an event's signature that come from a declaration with other indexed arguments.

The first topic is the hash of an event's name and types, and says nothing of which arguments are indexed. So a token's
``Transfer(address,address,uint256)`` may be an ERC-20's, with the amount in the data, or an ERC-721's, with all three
arguments as topics. How many topics a log has tells them apart.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from indexer.abi.batch import Check, Mask, Octets, word_check
from indexer.abi.model import Event
from indexer.abi.types import WORD

#: Arguments of an event that is not anonymous that can be topics.
_MOST_INDEXED: Final = 3


class ForeignShapes:
    """Tells which logs with an event's first topic have a foreign shape.

    Such a log has another number of topics than the event, is as long as the event's types make it with so many
    arguments indexed, and every word fits its argument for some choice of these. All arguments are one word each: no
    more than the hash of a dynamic one. A log that has as many topics as the event has none of these shapes, whatever
    is in it.
    """

    def __init__(self, event: Event) -> None:
        """Prepares for an event that is not anonymous."""
        assert not event.anonymous, "its first topic may be anything"
        self._declared = len(event.indexed)
        self._count = len(event.inputs)
        self._checks: list[tuple[Check | None, Check | None]] = [
            (word_check(replace(one, indexed=True)), word_check(replace(one, indexed=False))) for one in event.inputs
        ]

    def may_be(self, topics: int, data_size: int) -> bool:
        """Whether logs with so many topics (the first included) and bytes of data can have a foreign shape."""
        indexed = topics - 1
        return (
            indexed != self._declared
            and 0 <= indexed <= min(self._count, _MOST_INDEXED)
            and data_size == WORD * (self._count - indexed)
        )

    def fits(self, topics: Octets, data: Octets) -> Mask:
        """Which logs have a foreign shape.

        Args:
            topics: of shape (logs, topics, 32), the first topic included.
            data: of shape (logs, bytes).
        """
        none: Mask = np.zeros(len(data), dtype=np.bool_)
        if not self.may_be(topics.shape[1], data.shape[1]):
            return none
        indexed = topics.shape[1] - 1
        unindexed = self._count - indexed
        # By how many of the arguments so far are topics: the logs whose words fit for some choice of these.
        fitting: dict[int, Mask] = {0: ~none}
        for position, (as_topic, as_data) in enumerate(self._checks):
            following: dict[int, Mask] = {}
            for taken, so_far in fitting.items():
                if taken < indexed and as_topic is not None:
                    _add(following, taken + 1, so_far, as_topic(topics[:, 1 + taken]))
                at = position - taken
                if at < unindexed and as_data is not None:
                    _add(following, taken, so_far, as_data(data[:, WORD * at : WORD * (at + 1)]))
            fitting = following
        return fitting.get(indexed, none)

    def fit(self, logs: Sequence[tuple[Sequence[bytes], bytes]]) -> list[bool]:
        """Whether logs have a foreign shape.

        Args:
            logs: the topics, 32 bytes each, and the data of each.
        """
        alike: dict[int, list[int]] = {}
        for position, (topics, data) in enumerate(logs):
            if self.may_be(len(topics), len(data)):
                alike.setdefault(len(topics), []).append(position)
        found = [False] * len(logs)
        for count, positions in alike.items():
            words = np.frombuffer(b"".join(topic for at in positions for topic in logs[at][0]), np.uint8)
            octets = np.frombuffer(b"".join(logs[at][1] for at in positions), np.uint8)
            fits = self.fits(words.reshape(len(positions), count, WORD), octets.reshape(len(positions), -1))
            for at, one in zip(positions, fits.tolist(), strict=True):
                found[at] = one
        return found


def _add(following: dict[int, Mask], taken: int, so_far: Mask, fits: Mask | None) -> None:
    mask = so_far if fits is None else so_far & fits
    following[taken] = following[taken] | mask if taken in following else mask
