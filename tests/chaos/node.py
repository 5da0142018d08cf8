"""A simulated node: a real HTTP server that speaks JSON-RPC for a made-up chain, and lies as it is told to.

One server serves any number of endpoints, by path. What an endpoint says honestly is here; how it lies is in ``lies``.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from eth_abi import encode

from tests import multicall3, posts
from tests.chaos.chain import CHAIN_ID, COINS, Block, Chain, between, block_at, dumps, symbol_of
from tests.posts import HttpAnswer


@dataclass
class RpcError(Exception):
    """A JSON-RPC error."""

    code: int
    message: str
    data: Any = None

    def to_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, **({} if self.data is None else {"data": self.data})}


Call = dict[str, Any]
Answer = dict[str, Any]


class Liar(Protocol):
    """What stands between an honest answer and the wire. Each may raise RpcError or HttpAnswer."""

    def request(self, node: Node, calls: Sequence[Call], is_batch: bool) -> None:
        """Before anything is answered."""

    def result(self, node: Node, call: Call, result: Any) -> Any:
        """What is said in place of one call's honest result."""

    def response(self, node: Node, calls: Sequence[Call], answers: list[Answer]) -> list[Answer]:
        """What is said in place of a batch's answers."""

    def body(self, node: Node, body: bytes) -> bytes:
        """The last word."""


class Honest:
    """Says what is."""

    def request(self, node: Node, calls: Sequence[Call], is_batch: bool) -> None:
        pass

    def result(self, node: Node, call: Call, result: Any) -> Any:
        return result

    def response(self, node: Node, calls: Sequence[Call], answers: list[Answer]) -> list[Answer]:
        return answers

    def body(self, node: Node, body: bytes) -> bytes:
        return body


NULL_WORDINGS: tuple[str, ...] = ("null", "lotus", "unheard of", "block before")
"""How a node says that its chain has no block of a number."""


class Node:
    """One endpoint over a chain that others may serve too.

    Attributes:
        chain: what there is.
        liar: how it lies.
        lag: how many blocks it is behind the chain.
        before: called before each call of a request is answered: the world may change there.
        counts: calls by method.
        null_wording: how it says that a number has no block, one of NULL_WORDINGS.
    """

    def __init__(self, chain: Chain, *, liar: Liar | None = None, chain_id: int = CHAIN_ID) -> None:
        self.chain = chain
        self.chain_id = chain_id
        self.liar: Liar = liar or Honest()
        self.lag = 0
        self.before: Callable[[], None] = lambda: None
        self.counts: Counter[str] = Counter()
        self.ranges: list[tuple[int, int]] = []
        self.finalized: int | None = None
        self.has_multicall3 = True
        self.null_wording = "null"

    @property
    def blocks(self) -> list[Block]:
        """The branch as far as this node has it."""
        blocks = self.chain.canonical
        return blocks[: max(1, len(blocks) - self.lag)] if self.lag else blocks

    def respond(self, body: bytes) -> bytes:
        """Answers an HTTP request. Raises HttpAnswer where the answer is none."""
        question = json.loads(body)
        is_batch = isinstance(question, list)
        calls: list[Call] = question if is_batch else [question]
        try:
            self.liar.request(self, calls, is_batch)
            answers = self.liar.response(self, calls, [self._answer(call) for call in calls])
        except RpcError as error:
            refusal = {"jsonrpc": "2.0", "id": None if is_batch else calls[0]["id"], "error": error.to_json()}
            return dumps(refusal)
        return self.liar.body(self, dumps(answers if is_batch else answers[0]))

    def _answer(self, call: Call) -> Answer:
        self.before()
        self.counts[call["method"]] += 1
        answer: Answer = {"jsonrpc": "2.0", "id": call["id"]}
        try:
            return {**answer, "result": self.liar.result(self, call, self._result(call["method"], call["params"]))}
        except RpcError as error:
            return {**answer, "error": error.to_json()}

    def _result(self, method: str, params: list[Any]) -> Any:  # noqa: PLR0911 - one for each method
        match method:
            case "eth_chainId":
                return hex(self.chain_id)
            case "eth_getBlockByNumber":
                block = self.named(params[0])
                return None if block is None else block.whole_json if params[1] else block.header_json
            case "eth_getBlockByHash":
                block = self.known(params[0])
                return None if block is None else block.header_json
            case "eth_getLogs":
                return self._logs(params[0])
            case "eth_getBlockReceipts":
                block = self.named(params[0])
                return None if block is None else [block.receipt_json(i) for i in range(len(block.transactions))]
            case "eth_getTransactionByHash":
                return next((block.transaction_json(i) for block, i in self._places(params[0])), None)
            case "eth_getTransactionReceipt":
                return next((block.receipt_json(i) for block, i in self._places(params[0])), None)
            case "eth_getCode":
                return "0x60" if self._has_code(params[0], params[1]) else "0x"
            case "eth_call":
                return self._call(params[0], params[1])
        raise RpcError(-32601, f"the method {method} does not exist/is not available")

    def named(self, name: str) -> Block | None:
        """The block that a number or a tag names."""
        blocks = self.blocks
        if name == "latest":
            return blocks[-1]
        if name in ("finalized", "safe"):
            number = self.chain.finalized if self.finalized is None else self.finalized
            return blocks[-1].ancestor(number)
        number = int(name, 16)
        if number > blocks[-1].number:
            return None
        block = block_at(blocks, number)
        if block is None and self.null_wording == "block before":
            return blocks[-1].ancestor(number)
        if block is None:
            self._refuse(number)
        return block

    def _refuse(self, number: int) -> None:
        match self.null_wording:
            case "lotus":
                raise RpcError(12, f"requested epoch was a null round ({number})", {"epoch": number})
            case "unheard of":
                raise RpcError(-32000, "there is nothing at this height")

    def known(self, block_hash: str) -> Block | None:
        """A block by its hash, also on a branch that was left lately, as nodes keep those."""
        block = self.chain.by_hash.get(bytes.fromhex(block_hash[2:]))
        return None if block is None or block.number > self.blocks[-1].number + 20 else block

    def _has_code(self, address: str, at: str) -> bool:
        if address == multicall3.ADDRESS:
            return self.has_multicall3
        block = self.named(at)
        if block is None:
            raise RpcError(-32000, "header not found")
        return address in COINS and block.number >= 1

    def _places(self, tx_hash: str) -> Iterator[tuple[Block, int]]:
        wanted = bytes.fromhex(tx_hash[2:])
        for block in self.blocks:
            for index, transaction in enumerate(block.transactions):
                if transaction.hash == wanted:
                    yield block, index

    def _logs(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        if "blockHash" in asked:
            block = self.known(asked["blockHash"])
            if block is None:
                raise RpcError(-32000, "unknown block")
            return [log for log in block.logs_json if matches(log, asked)]
        first, last = int(asked["fromBlock"], 16), int(asked["toBlock"], 16)
        self.ranges.append((first, last))
        for end in (first, last):
            if end < self.blocks[-1].number and block_at(self.blocks, end) is None:
                self._refuse(end)
        # Beyond its head it answers short, silently, as nodes do.
        return [log for block in between(self.blocks, first, last) for log in block.logs_json if matches(log, asked)]

    def _call(self, transaction: dict[str, Any], at: str) -> str:
        block = self.named(at)
        if block is None:
            raise RpcError(-32000, "header not found")
        data = bytes.fromhex(transaction["data"][2:])
        if "to" not in transaction:
            return "0x" + multicall3.witness(block.number, block.time).hex()
        if transaction["to"] == multicall3.ADDRESS and self.has_multicall3:

            def run(to: bytes, data: bytes, gas: int) -> tuple[bool, bytes, int]:
                answer = self._said(block, "0x" + to.hex(), data)
                return answer is not None, answer or b"", 30_000

            return "0x" + multicall3.aggregate3(data, block.number, block.time, run).hex()
        answer = self._said(block, transaction["to"], data)
        if answer is None:
            raise RpcError(3, "execution reverted", "0x")
        return "0x" + answer.hex()

    @staticmethod
    def _said(block: Block, to: str, data: bytes) -> bytes | None:
        """What a contract returns; None: it reverts."""
        selector = data[:4].hex()
        if selector == "18160ddd":  # totalSupply()
            return block.supply(to).to_bytes(32)
        if to in COINS and selector in ("06fdde03", "95d89b41"):  # name(), symbol()
            return encode(["string"], [symbol_of(to)])
        if to in COINS and selector == "313ce567":  # decimals()
            return (18).to_bytes(32)
        return None


def matches(log: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Whether a filter of ``eth_getLogs`` asks for a log."""
    addresses = asked.get("address")
    if addresses is not None and log["address"] not in ([addresses] if isinstance(addresses, str) else addresses):
        return False
    return all(
        wanted is None or (i < len(log["topics"]) and log["topics"][i] in wanted)
        for i, wanted in enumerate(asked.get("topics", ()))
    )


class Server:
    """Serves endpoints by path."""

    def __init__(self) -> None:
        self.url = ""
        self._nodes: dict[str, Node] = {}

    def add(self, path: str, node: Node) -> str:
        """Lets a node answer at a path; returns its URL."""
        self._nodes[f"/{path}"] = node
        return f"{self.url}/{path}"

    def remove(self, prefix: str) -> None:
        """Forgets the nodes whose paths begin so."""
        for path in [path for path in self._nodes if path.startswith(f"/{prefix}")]:
            del self._nodes[path]

    def answer(self, path: str, body: bytes) -> HttpAnswer:
        """What a node answers; raises HttpAnswer where the answer is none."""
        node = self._nodes.get(path)
        if node is None:
            return HttpAnswer(404, b"not here")
        return HttpAnswer(200, node.respond(body))


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of 127.0.0.1."""
    nodes = Server()
    with posts.serving(nodes.answer) as nodes.url:
        yield nodes
