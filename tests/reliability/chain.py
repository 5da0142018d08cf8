"""A chain with one ERC-20, two transfers a block, whose blocks are made by the clock; it can be reorganised at will.

Hashes, parent links and blooms are real (:mod:`tests.chaos.chain`). The node gives its head as ``finalized``, as
development chains and some mocks do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi import encode
from eth_utils.crypto import keccak

from tests.chaos import chain as made_up
from tests.chaos.chain import APPROVAL, TRANSFER, Block, Saying, Transaction, address_of, topic
from tests.chaos.node import Honest, Node

CHAIN_ID = 31_339
TOKEN = address_of("token of the reliability suite")
PEOPLE = tuple(address_of(f"holder {i}") for i in range(16))
PER_BLOCK = 2

Row = tuple[int, int, bytes, bytes, int]
"""A transfer as the table holds it: block, log index, from, to, value."""


class TimedBlock(Block):
    """A block whose time follows from its number, ``seconds`` apart, so that the head is young."""

    started = 0.0
    seconds = 2.0
    shift = 0

    @property
    def time(self) -> int:
        """Unix time, whole seconds."""
        return int(self.started + self.seconds * self.number) + self.shift


def transfer(sender: str, receiver: str, value: int) -> Saying:
    """A Transfer of the token."""
    row = (bytes.fromhex(sender[2:]), bytes.fromhex(receiver[2:]), value)
    return Saying(TOKEN, (TRANSFER, topic(sender), topic(receiver)), encode(["uint256"], [value]), row)


def approval(owner: str, spender: str, value: int) -> Saying:
    """An Approval of the token."""
    row = (bytes.fromhex(owner[2:]), bytes.fromhex(spender[2:]), value)
    return Saying(TOKEN, (APPROVAL, topic(owner), topic(spender)), encode(["uint256"], [value]), row)


class TokenChain:
    """The chain: what nodes serve (:class:`tests.chaos.node.Node`), and the truth that tables are compared with.

    Args:
        backlog: blocks that exist before anything runs.
        seconds: between two blocks at the head.
        first_log_index: of each block's first log.
    """

    def __init__(self, backlog: int, seconds: float, *, first_log_index: int = 0, name: str = "token") -> None:
        self.seconds = seconds
        self.name = name
        self.first_log_index = first_log_index
        self._lock = threading.RLock()
        self._branch = 0
        started = time.time() - backlog * seconds
        self._block_class = type("OwnBlock", (TimedBlock,), {"started": started, "seconds": seconds})
        self.genesis = self._block_class(0, None, (), name.encode().ljust(8)[:8])
        self.canonical: list[Block] = [self.genesis]
        self.by_hash: dict[bytes, Block] = {self.genesis.hash: self.genesis}
        self.born: dict[bytes, float] = {}
        """When each block was made, by hash, in seconds of the monotonic clock."""
        self.heads: list[Block] = []
        """Every head that the chain ever had."""
        self.mine(backlog)

    @property
    def head(self) -> Block:
        """The newest block."""
        return self.canonical[-1]

    @property
    def finalized(self) -> int:
        """The head: nothing is known of finality."""
        return self.head.number

    def block(self, number: int) -> Block | None:
        """A canonical block."""
        blocks = self.canonical
        return blocks[number] if 0 <= number < len(blocks) else None

    def mine(self, count: int = 1, *sayings: Saying, empty: bool = False) -> None:
        """Adds blocks: each with two transfers, with given logs, or empty."""
        with self._lock:
            blocks = list(self.canonical)
            for _ in range(count):
                blocks.append(self._child(blocks[-1], list(sayings) if sayings or empty else None))
            self.canonical = blocks
            self.heads.append(blocks[-1])

    def reorganise(self, depth: int, length: int | None = None, *, without_logs: bool = False) -> None:
        """Replaces the newest ``depth`` blocks by ``length`` others (as many, if not told)."""
        with self._lock:
            self._branch += 1
            blocks = list(self.canonical[:-depth])
            for _ in range(depth if length is None else length):
                blocks.append(self._child(blocks[-1], [] if without_logs else None))
            self.canonical = blocks
            self.heads.append(blocks[-1])

    def _child(self, parent: Block, sayings: Sequence[Saying] | None) -> Block:
        number = parent.number + 1
        if sayings is None:
            sayings = [self._transfer(number, position) for position in range(PER_BLOCK)]
        transactions = tuple(
            Transaction(keccak(f"{self.name} {number} {position} {self._branch}".encode()), (saying,))
            for position, saying in enumerate(sayings)
        )
        block: Block = self._block_class(number, parent, transactions, self._branch.to_bytes(8))
        self.by_hash[block.hash] = block
        self.born[block.hash] = time.monotonic()
        return block

    def _transfer(self, number: int, position: int) -> Saying:
        digest = keccak(f"{number} {position} {self._branch}".encode())
        sender, receiver = PEOPLE[digest[0] % len(PEOPLE)], PEOPLE[digest[1] % len(PEOPLE)]
        return transfer(sender, receiver, int.from_bytes(digest[2:18]))

    def rows(self, topic0: str = TRANSFER, head: Block | None = None) -> list[Row]:
        """What the event's table must hold, in the chain's order."""
        head = self.head if head is None else head
        blocks = self.canonical if head is self.head else made_up.branch_of(head)
        return [row for block in blocks for row in rows_of(block, self.first_log_index, topic0)]

    def node(self, **arguments: Any) -> TokenNode:
        """An endpoint of this chain."""
        return TokenNode(self, **arguments)  # type: ignore[arg-type]


def rows_of(block: Block, first_log_index: int = 0, topic0: str = TRANSFER) -> list[Row]:
    """The rows of one block."""
    return [
        (block.number, log.log_index + first_log_index, *log.saying.row)  # type: ignore[misc]
        for log in block.logs
        if log.saying.topics[0] == topic0 and log.saying.row is not None
    ]


@dataclass
class Words:
    """What the token answers for its name and symbol; None: it reverts."""

    name: str | None = "Token"
    symbol: str | None = "TKN"


class TokenNode(Node):
    """An endpoint: :class:`tests.chaos.node.Node` with the token's own answers and shifted log indexes."""

    def __init__(self, chain: TokenChain, *, liar: Any = None, words: Words | None = None) -> None:
        super().__init__(chain, liar=liar or Honest(), chain_id=CHAIN_ID)  # type: ignore[arg-type]
        self.words = words or Words()
        self.tokens: TokenChain = chain

    def _logs(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        logs = super()._logs(asked)
        shift = self.tokens.first_log_index
        return [{**log, "logIndex": hex(int(log["logIndex"], 16) + shift)} for log in logs] if shift else logs

    def _said(self, block: Block, to: str, data: bytes) -> bytes | None:  # type: ignore[override]
        words = {"06fdde03": self.words.name, "95d89b41": self.words.symbol}
        selector = data[:4].hex()
        if to == TOKEN and selector in words:
            word = words[selector]
            return None if word is None else encode(["string"], [word])
        if to == TOKEN and selector == "313ce567":
            return (18).to_bytes(32)
        return super()._said(block, to, data)


class Miner:
    """Makes a block every so many seconds, until it is paused or stopped."""

    def __init__(self, chain: TokenChain) -> None:
        self._chain = chain
        self._running = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def start(self) -> None:
        """Goes on."""
        self._running.set()

    def pause(self) -> None:
        """Makes no more blocks for now."""
        self._running.clear()

    def stop(self) -> None:
        """Makes no more blocks at all."""
        self._over.set()
        self._running.set()
        self._thread.join()

    def _run(self) -> None:
        next_at = time.monotonic()
        while not self._over.is_set():
            if not self._running.is_set():
                self._running.wait()
                next_at = time.monotonic()
                continue
            self._chain.mine()
            next_at += self._chain.seconds
            self._over.wait(max(0.0, next_at - time.monotonic()))
