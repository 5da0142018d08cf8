"""A node whose chain has a factory with very many children; it works its answers out from numbers, and counts bytes.

Run: ``python -m benchmarks.children_node CHILDREN STRANGERS``. It prints its port and serves until it is killed. Each
block of the first part brings some children of the factory; in every block some of those born so far speak, and so do
strangers with the same topic, whom nobody wants. Besides JSON-RPC it answers ``GET /counts`` with what was asked of it
so far, and ``GET /grow`` by mining a block.
"""

import json
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from eth_utils.crypto import keccak

from benchmarks.node import Slice, serve
from benchmarks.workloads import CHAIN_ID, block_hash, block_time

BORN = "0x" + keccak(text="Born(address)").hex()
SPOKE = "0x" + keccak(text="Spoke(uint256)").hex()
FACTORY = "0x" + "fa" * 20
BIRTHS_IN_A_BLOCK = 2
WORDS_IN_A_BLOCK = 1
YOUNGEST_BLOCKS = 200
"""Blocks behind the last birth; the head's are among them."""

_STRANGER = 1 << 40


def child(number: int) -> str:
    """The address of a child, by its number from 0 on; they are spread like real ones."""
    return "0x" + keccak(number.to_bytes(8, "big"))[:20].hex()


@dataclass
class Counts:
    """What was asked: HTTP requests, questions for logs, bytes received and sent."""

    requests: int = 0
    get_logs: int = 0
    received: int = 0
    sent: int = 0


@dataclass
class Chain:
    """Which logs there are.

    Attributes:
        children: how many the factory announces.
        strangers: words of strangers in a block.
        last: the newest block.
    """

    children: int
    strangers: int
    last: int = 0
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self.last = self.children // BIRTHS_IN_A_BLOCK + YOUNGEST_BLOCKS
        self._numbers = {child(number): number for number in range(self.children)}
        self._spoken: dict[int, list[int]] = {}
        self._known = 0
        self._learn()

    def grow(self) -> None:
        """Mines a block."""
        self.last += 1
        self._learn()

    def _learn(self) -> None:
        for block in range(self._known + 1, self.last + 1):
            for speaker in self.speakers(block):
                self._spoken.setdefault(speaker, []).append(block)
        self._known = self.last

    def born(self, block: int) -> range:
        """The children that a block announces."""
        first = (block - 1) * BIRTHS_IN_A_BLOCK
        return range(first, min(first + BIRTHS_IN_A_BLOCK, self.children)) if block else range(0)

    def speakers(self, block: int) -> list[int]:
        """The children that speak in a block, in order."""
        alive = min(self.children, block * BIRTHS_IN_A_BLOCK)
        return Random(block).sample(range(alive), min(WORDS_IN_A_BLOCK, alive)) if alive else []

    def logs(self, first: int, last: int, addresses: list[str] | None, topics: list[str]) -> Iterator[str]:
        """The matching logs of a range, as JSON."""
        if addresses is not None and FACTORY not in addresses:
            yield from self._of(first, last, addresses) if SPOKE in topics else ()
            return
        for block in range(max(first, 1), last + 1):
            if BORN in topics:
                for place, number in enumerate(self.born(block)):
                    yield _log(block, place, FACTORY, BORN, child(number)[2:].rjust(64, "0"))
            if SPOKE in topics and addresses is None:
                for place, speaker in enumerate(self.speakers(block)):
                    yield _log(block, 100 + place, child(speaker), SPOKE, f"{block:064x}")
                for place in range(self.strangers):
                    yield _log(block, 200 + place, child(_STRANGER + place), SPOKE, f"{block:064x}")

    def _of(self, first: int, last: int, addresses: list[str]) -> Iterator[str]:
        for address in addresses:
            number = self._numbers.get(address)
            blocks = self._spoken.get(number, []) if number is not None else []
            for block in blocks[bisect_left(blocks, first) : bisect_right(blocks, last)]:
                yield _log(block, 100 + self.speakers(block).index(number or 0), address, SPOKE, f"{block:064x}")


def _log(block: int, place: int, address: str, topic: str, data: str) -> str:
    return (
        f'{{"address":"{address}","topics":["{topic}"],"data":"0x{data}","blockNumber":"{block:#x}",'
        f'"blockHash":"{block_hash(block)}","blockTimestamp":"{block_time(block):#x}",'
        f'"transactionHash":"{block_hash(block + (1 << 50))}","transactionIndex":"0x1","logIndex":"{place:#x}",'
        f'"removed":false}}'
    )


class Node:
    """Answers of a chain."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    def get(self, line: bytes) -> bytes:
        """What was asked so far; ``/grow`` mines a block first."""
        if line.startswith(b"GET /grow"):
            self.chain.grow()
        return json.dumps(vars(self.chain.counts)).encode()

    def answer(self, body: bytes) -> list[bytes | Slice]:
        """The answer to a request or a batch."""
        document = json.loads(body)
        calls = document if isinstance(document, list) else [document]
        counts = self.chain.counts
        counts.requests += 1
        counts.received += len(body)
        counts.get_logs += sum(call["method"] == "eth_getLogs" for call in calls)
        parts = [f'{{"jsonrpc":"2.0","id":{call["id"]},"result":{self._result(call)}}}' for call in calls]
        said = (f"[{','.join(parts)}]" if isinstance(document, list) else parts[0]).encode()
        counts.sent += len(said)
        return [said]

    def _result(self, call: dict[str, Any]) -> str:
        method, params = call["method"], call["params"]
        if method == "eth_getLogs":
            return f"[{','.join(self._logs(params[0]))}]"
        if method == "eth_getBlockByNumber":
            return self._header(params[0])
        return json.dumps({"eth_chainId": hex(CHAIN_ID), "eth_blockNumber": hex(self.chain.last)}[method])

    def _logs(self, params: dict[str, Any]) -> Iterator[str]:
        addresses = params.get("address")
        listed = [addresses] if isinstance(addresses, str) else addresses
        first, last = int(params["fromBlock"], 16), min(int(params["toBlock"], 16), self.chain.last)
        return self.chain.logs(first, last, listed, params["topics"][0])

    def _header(self, which: str) -> str:
        number = self.chain.last if which == "latest" else int(which, 16)
        if number > self.chain.last:
            return "null"
        parent = block_hash(number - 1) if number else "0x" + "0" * 64
        return (
            f'{{"number":"{number:#x}","hash":"{block_hash(number)}","parentHash":"{parent}",'
            f'"timestamp":"{block_time(number):#x}","logsBloom":"0x{"0" * 512}","transactions":[]}}'
        )


if __name__ == "__main__":
    serve(Node(Chain(int(sys.argv[1]), int(sys.argv[2]))))
