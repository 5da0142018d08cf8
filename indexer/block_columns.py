"""Many blocks as three columns: what history keeps of them (number, hash, time), without an object for each."""

from collections.abc import Sequence
from dataclasses import dataclass

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
