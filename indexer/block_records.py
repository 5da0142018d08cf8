"""What nodes say of blocks and transactions, as the store takes it: many blocks as columns, and transaction details."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BlockColumns:
    """Blocks, ascending by number, each once.

    Attributes:
        numbers: of shape (blocks,).
        hashes: of shape (blocks, 32).
        times: Unix seconds, of shape (blocks,).
    """

    numbers: NDArray[np.int64]
    hashes: NDArray[np.uint8]
    times: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def of(cls, blocks: dict[int, tuple[bytes, int]]) -> "BlockColumns":
        """Blocks from block -> (hash, Unix seconds)."""
        numbers = sorted(blocks)
        return cls(
            np.array(numbers, dtype=np.int64),
            np.frombuffer(b"".join([blocks[number][0] for number in numbers]), np.uint8).reshape(-1, 32),
            np.array([blocks[number][1] for number in numbers], dtype=np.int64),
        )

    @classmethod
    def joined(cls, parts: "Sequence[BlockColumns]") -> "BlockColumns":
        """Blocks that follow one another, part by part."""
        return cls(
            np.concatenate([part.numbers for part in parts]),
            np.concatenate([part.hashes for part in parts]),
            np.concatenate([part.times for part in parts]),
        )

    def items(self) -> list[tuple[int, bytes, int]]:
        """Number, hash and Unix seconds of each."""
        hashes = [row.tobytes() for row in self.hashes]
        return list(zip(self.numbers.tolist(), hashes, self.times.tolist(), strict=True))


@dataclass(slots=True)
class BlockFacts:
    """A block; ``time`` in Unix seconds, fees in wei per gas; None: the node does not say it."""

    number: int
    hash: bytes
    time: int
    miner: bytes | None
    gas_limit: int | None
    gas_used: int | None
    base_fee: int | None
    transaction_count: int | None
    size: int | None


@dataclass(slots=True)
class TransactionFacts:
    """A transaction, or what its receipt says of it: what was not asked for, or not said, is None."""

    number: int
    index: int
    hash: bytes
    sender: bytes | None
    recipient: bytes | None
    type: int | None
    value: int | None = None
    nonce: int | None = None
    gas_limit: int | None = None
    status: int | None = None
    gas_used: int | None = None
    effective_gas_price: int | None = None
    created_contract: bytes | None = None


@dataclass(slots=True)
class UnavailableDetail:
    """What no node gave.

    Attributes:
        number: the block.
        kind: ``block``, ``transaction`` or ``receipt``.
        index: the place of the transaction in the block; -1: the block itself.
        hash: of the transaction, or of the block.
        reason: what the nodes said, for people.
    """

    number: int
    kind: str
    index: int
    hash: bytes
    reason: str


@dataclass(slots=True)
class TransactionDetails:
    """All that was asked for; ``missing``: but for this."""

    blocks: list[BlockFacts] = field(default_factory=list)
    transactions: list[TransactionFacts] = field(default_factory=list)
    receipts: list[TransactionFacts] = field(default_factory=list)
    missing: list[UnavailableDetail] = field(default_factory=list)
