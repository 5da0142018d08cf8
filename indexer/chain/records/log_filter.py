"""Which logs are asked for: the filter of ``eth_getLogs``, how it is cut, and whether a bloom may hold it."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np
from eth_utils.crypto import keccak
from numpy.typing import NDArray

from indexer.addresses import Addresses, AddressList

if TYPE_CHECKING:
    from indexer.chain.records.validation import RawLog

Topics: TypeAlias = tuple[tuple[str, ...] | None, ...]
"""For each position, the values of which one must be there, or None for any."""


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Addresses and topics, as ``eth_getLogs`` understands them. All hex is lower-case with ``0x``.

    Attributes:
        addresses: the contracts, or None for any.
        topics: for each position, the values of which one must be there, or None for any.
    """

    addresses: AddressList | None = None
    topics: Topics = ()

    def __post_init__(self) -> None:
        # An empty list means "any" to a node, and "none" to a person.
        if self.addresses is not None and not self.addresses:
            raise ValueError("a filter with an empty address list: None means any address")
        if any(position is not None and not position for position in self.topics):
            raise ValueError("a filter with an empty topic list: None means any topic")
        if len(self.topics) > 4:
            raise ValueError("a log has at most four topics")

    @property
    def kind(self) -> str:
        """The kind of question that this is: nodes refuse some of them and answer the others."""
        return "eth_getLogs" if self.addresses is not None else "eth_getLogs of any address"

    @property
    def longest_topics(self) -> int:
        """The most values at one position of the topics."""
        return max((len(values) for values in self.topics if values is not None), default=0)

    def params(self) -> dict[str, Any]:
        """The filter as a node's parameter, without blocks."""
        params: dict[str, Any] = {}
        if self.addresses is not None:
            if isinstance(self.addresses, Addresses):
                params["address"] = msgspec.Raw(self.addresses.json())
            else:
                params["address"] = self.addresses[0] if len(self.addresses) == 1 else list(self.addresses)
        topics = [None if position is None else list(position) for position in self.topics]
        while topics and topics[-1] is None:
            topics.pop()
        if topics:
            params["topics"] = topics
        return params

    def between(self, first: int, last: int) -> dict[str, Any]:
        """The parameter for a range of blocks, both ends included."""
        return {**self.params(), "fromBlock": hex(first), "toBlock": hex(last)}

    def at(self, block_hash: bytes) -> dict[str, Any]:
        """The parameter for one block, named by its hash (EIP-234)."""
        return {**self.params(), "blockHash": "0x" + block_hash.hex()}

    def halves(self) -> "tuple[LogFilter, LogFilter] | None":
        """Two filters that together ask for the same, cut by address, else by topic; None where neither can be cut."""
        if self.addresses is not None and len(self.addresses) > 1:
            middle = len(self.addresses) // 2
            return (LogFilter(self.addresses[:middle], self.topics), LogFilter(self.addresses[middle:], self.topics))
        for position, values in enumerate(self.topics):
            if values is not None and len(values) > 1:
                middle = len(values) // 2
                before, after = self.topics[:position], self.topics[position + 1 :]
                return (
                    LogFilter(self.addresses, (*before, values[:middle], *after)),
                    LogFilter(self.addresses, (*before, values[middle:], *after)),
                )
        return None

    def slices(self, size: int) -> "Iterator[LogFilter]":
        """Filters with at most so many addresses each that together ask for the same."""
        if self.addresses is None:
            yield self
            return
        for start in range(0, len(self.addresses), size):
            yield LogFilter(self.addresses[start : start + size], self.topics)

    def topic_slices(self, size: int) -> "Iterator[LogFilter]":
        """Filters with at most so many values at each position of the topics that together ask for the same."""
        cuts = [
            [None] if values is None else [values[start : start + size] for start in range(0, len(values), size)]
            for values in self.topics
        ]
        for topics in product(*cuts):
            yield LogFilter(self.addresses, topics)

    def members(self) -> Container[str] | None:
        """The addresses, to look one up among them; None: any is."""
        return frozenset(self.addresses) if isinstance(self.addresses, tuple) else self.addresses


def several(filters: LogFilter | Iterable[LogFilter]) -> tuple[LogFilter, ...]:
    """One filter or some, as some."""
    return (filters,) if isinstance(filters, LogFilter) else tuple(filters)


def kind_of(filters: Iterable[LogFilter]) -> str:
    """The kind of a question for the logs of several filters: the one that most nodes refuse."""
    return max((one.kind for one in filters), key=len, default="eth_getLogs")


def in_bloom(bits: int, value: str) -> bool:
    """Whether a ``logsBloom`` (yellow paper, 4.3.1) holds an address or a topic, really or by chance.

    Args:
        bits: the bloom as an integer.
        value: lower-case hex with ``0x``.
    """
    mask = _mask(value)
    return bits & mask == mask


def bloom_of(logs: "Iterable[RawLog]") -> int:
    """The bloom of a block that bears these logs and no others, as an integer."""
    bits = 0
    for log in logs:
        for value in (log.address, *log.topics):
            bits |= _mask(value.lower())
    return bits


def those_in_bloom(bloom: bytes, addresses: AddressList, *, most: int) -> list[str]:
    """Those of many addresses that a bloom may hold.

    Args:
        bloom: 256 bytes.
        addresses: lower-case hex with ``0x``.
        most: no more of them are told.
    """
    bits = np.unpackbits(np.frombuffer(bloom, np.uint8))[::-1].astype(np.bool_)
    rows = np.flatnonzero(bits[_positions(addresses)].all(axis=1))
    return [addresses[int(row)] for row in rows[:most]]


@lru_cache(maxsize=4)
def _positions(addresses: AddressList) -> NDArray[np.int16]:
    """The three bits of each address in a bloom, of shape (addresses, 3)."""
    digests = b"".join(keccak(bytes.fromhex(address[2:]))[:6] for address in addresses)
    return (np.frombuffer(digests, ">u2").reshape(-1, 3) & 2047).astype(np.int16)


@lru_cache(maxsize=20_000)
def _mask(value: str) -> int:
    digest = keccak(bytes.fromhex(value[2:]))
    mask = 0
    for start in (0, 2, 4):
        mask |= 1 << (int.from_bytes(digest[start : start + 2], "big") & 2047)
    return mask
