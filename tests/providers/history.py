"""A made-up chain for the imitating nodes: so many blocks, so many logs, spread as unevenly as on a real chain."""

import math
import random
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
TOKEN = "0x00000000000000000000000000000000000000aa"
GENESIS_TIME = 1_600_000_000


@dataclass(frozen=True)
class History:
    """Blocks 0 to ``blocks - 1``; ``positions`` holds the block of each log, ascending."""

    blocks: int
    positions: tuple[int, ...]

    @cached_property
    def indices(self) -> tuple[int, ...]:
        """For each log its index in its block."""
        found = []
        previous, index = -1, 0
        for block in self.positions:
            index = index + 1 if block == previous else 0
            previous = block
            found.append(index)
        return tuple(found)

    def between(self, first: int, last: int) -> tuple[int, int]:
        """The half-open slice of logs in an inclusive range of blocks."""
        return bisect_left(self.positions, first), bisect_right(self.positions, last)

    def count(self, first: int, last: int) -> int:
        start, end = self.between(first, last)
        return end - start

    def fewest_requests(self, *, blocks: int | None = None, logs: int | None = None) -> int:
        """The least possible number of requests under a limit of blocks or of logs: greedy is optimal."""
        first = requests = 0
        while first < self.blocks:
            last = self.blocks - 1 if blocks is None else min(self.blocks - 1, first + blocks - 1)
            if logs is not None:
                start, end = self.between(first, last)
                if end - start > logs:
                    last = self.positions[start + logs] - 1
            requests += 1
            first = last + 1
        return requests


def make_history(blocks: int, logs: int, seed: int = 1) -> History:
    """A chain's life: nothing at first, then growth, tides that swing by a factor of five, a silence, and bursts."""
    source = random.Random(seed)
    weights: list[float] = []
    tide, pull, shake = 0.0, 5.0 / blocks, (2 * 5.0 / blocks) ** 0.5
    for block in range(blocks):
        tide += -pull * tide + shake * 0.45 * source.gauss(0, 1)
        weights.append(math.exp(tide + block / blocks))
    weights[: blocks // 25] = [0.0] * (blocks // 25)
    silence = source.randrange(blocks // 4, blocks // 2 + 1)
    weights[silence : silence + blocks // 30] = [0.0] * (blocks // 30)
    for _ in range(8):
        start = source.randrange(blocks // 20, blocks)
        for block in range(start, min(blocks, start + source.randrange(blocks // 1000, blocks // 400 + 1))):
            weights[block] = weights[block] * 6 + 3.0
    return History(blocks, tuple(sorted(source.choices(range(blocks), weights, k=logs))))


def block_hash(number: int, salt: str = "") -> str:
    return "0x" + sha256(f"block {number}{salt}".encode()).hexdigest()
