"""A node that imitates providers: a made-up history behind JSON-RPC, with their limits, wordings and vices.

One thread a connection; answers are joined from fragments made beforehand, so that the node is not what is measured.
"""

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests import posts
from tests.posts import HttpAnswer
from tests.providers.history import GENESIS_TIME, TOKEN, TRANSFER, History, block_hash

CHAIN_ID = 424242


@dataclass
class Refusal(Exception):  # noqa: N818 - what the node says, not what goes wrong here
    """A JSON-RPC error, and the HTTP status it comes with."""

    code: int
    message: str
    data: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Limit = Callable[["Node", int, int], None]


class Fragments:
    """The JSON of every log of a history, made once."""

    def __init__(self, history: History, *, timestamps: bool = True) -> None:
        self.history = history
        self.logs = [
            _log(number, index, position, timestamps)
            for position, (number, index) in enumerate(zip(history.positions, history.indices, strict=True))
        ]

    @cached_property
    def thin(self) -> "Fragments":
        """A few of the logs, without the times of their blocks."""
        positions = self.history.positions
        return Fragments(History(self.history.blocks, positions[:: max(1, len(positions) // 120)]), timestamps=False)

    def between(self, first: int, last: int) -> bytes:
        start, end = self.history.between(first, last)
        return b"[" + b",".join(self.logs[start:end]) + b"]"


class Node:
    """One imitated endpoint.

    Args:
        fragments: the logs to serve.
        limit: called with the node and the range of each ``eth_getLogs``; raises :class:`Refusal` where it is too much.
        question: called with the filter of each ``eth_getLogs``; raises :class:`Refusal` where it refuses that.
        batches: the most calls in a batch; 0 refuses batches.
        before: called before every HTTP request with the calls; may raise Refusal or HttpAnswer.
    """

    def __init__(
        self,
        fragments: Fragments,
        *,
        limit: Limit | None = None,
        question: Callable[[dict[str, Any]], None] | None = None,
        batches: int = 1000,
        before: Callable[["Node", list[dict[str, Any]]], None] | None = None,
        chain_id: int = CHAIN_ID,
    ) -> None:
        self.fragments = fragments
        self.history = fragments.history
        self.limit = limit
        self.question = question
        self.batches = batches
        self.before = before
        self.chain_id = chain_id
        self.head = self.history.blocks - 1
        self.finalized: int | None = None
        self.counts: Counter[str] = Counter()
        self.http_requests = 0
        self.ranges: list[tuple[int, int]] = []
        self.answers: dict[str, Callable[[list[Any]], bytes]] = {}
        self.url = ""
        self.lock = threading.Lock()

    def answer(self, call: dict[str, Any]) -> bytes:
        """The answer to one call, as JSON."""
        number = json.dumps(call.get("id")).encode()
        try:
            return b'{"jsonrpc":"2.0","id":' + number + b',"result":' + self.result(call) + b"}"
        except Refusal as refusal:
            if refusal.status != 200:
                raise
            return b'{"jsonrpc":"2.0","id":' + number + b',"error":' + error_object(refusal) + b"}"

    def result(self, call: dict[str, Any]) -> bytes:
        method, params = call["method"], call["params"]
        with self.lock:
            self.counts[method] += 1
        if method in self.answers:
            return self.answers[method](params)
        match method:
            case "eth_chainId":
                return json.dumps(hex(self.chain_id)).encode()
            case "eth_getBlockByNumber":
                return self.header(params[0])
            case "eth_getBlockByHash":
                return self.header_by_hash(params[0])
            case "eth_getLogs":
                return self.get_logs(params[0])
            case "eth_getBlockReceipts":
                number = int(params[0], 16)
                return b'[{"logs":' + self.fragments.between(number, number) + b"}]"
            case _:
                raise Refusal(-32601, f"the method {method} does not exist/is not available")

    def header(self, tag: str) -> bytes:
        if tag == "latest":
            return header(self.head)
        if tag in ("finalized", "safe"):
            if self.finalized is None:
                raise Refusal(-32602, f"invalid argument 0: unknown tag {tag}")
            return header(self.finalized)
        number = int(tag, 16)
        return header(number) if number <= self.head else b"null"

    def header_by_hash(self, wanted: str) -> bytes:
        return next((header(n) for n in range(self.head + 1) if block_hash(n) == wanted), b"null")

    def get_logs(self, params: dict[str, Any]) -> bytes:
        if self.question is not None:
            self.question(params)
        asks_for_ours = _asks_for(params.get("address"), TOKEN) and _asks_for(
            (params.get("topics") or [None])[0], TRANSFER
        )
        if "blockHash" in params:
            number = next((n for n in range(self.head + 1) if block_hash(n) == params["blockHash"]), None)
            if number is None:
                raise Refusal(-32000, "unknown block")
            return self.fragments.between(number, number) if asks_for_ours else b"[]"
        first, last = int(params["fromBlock"], 16), int(params["toBlock"], 16)
        with self.lock:
            self.ranges.append((first, last))
        if self.limit is not None:
            self.limit(self, first, last)
        return self.fragments.between(first, min(last, self.head)) if asks_for_ours else b"[]"

    def respond(self, body: bytes) -> HttpAnswer:
        """A whole HTTP response."""
        with self.lock:
            self.http_requests += 1
        question = json.loads(body)
        calls = question if isinstance(question, list) else [question]
        try:
            if self.before is not None:
                self.before(self, calls)
            if isinstance(question, dict):
                return HttpAnswer(200, self.answer(question))
            if self.batches == 0:
                raise Refusal(-32600, "batch requests are not supported", status=400)
            if len(calls) > self.batches:
                raise Refusal(-32600, f"batch size exceeds the limit of {self.batches}")
            # Answers to a batch come in any order.
            return HttpAnswer(200, b"[" + b",".join(self.answer(call) for call in reversed(calls)) + b"]")
        except Refusal as refusal:
            number = json.dumps(calls[0].get("id")).encode() if isinstance(question, dict) else b"null"
            body = b'{"jsonrpc":"2.0","id":' + number + b',"error":' + error_object(refusal) + b"}"
            return HttpAnswer(refusal.status, body, refusal.headers)


def _asks_for(values: str | list[str] | None, value: str) -> bool:
    return values is None or value in ([values] if isinstance(values, str) else values)


def error_object(refusal: Refusal) -> bytes:
    error = {"code": refusal.code, "message": refusal.message}
    return json.dumps(error if refusal.data is None else {**error, "data": refusal.data}).encode()


def header(number: int) -> bytes:
    return (
        f'{{"number":"{number:#x}","hash":"{block_hash(number)}","parentHash":"{block_hash(number - 1)}",'
        f'"timestamp":"{GENESIS_TIME + 12 * number:#x}","logsBloom":"0x{"ff" * 256}","transactions":[]}}'
    ).encode()


def _log(number: int, index: int, position: int, timestamp: bool) -> bytes:
    time = f'"blockTimestamp":"{GENESIS_TIME + 12 * number:#x}",' if timestamp else ""
    return (
        f'{{"address":"{TOKEN}","topics":["{TRANSFER}","0x{position:064x}","0x{position + 1:064x}"],'
        f'"data":"0x{position * 7:064x}","blockNumber":"{number:#x}","blockHash":"{block_hash(number)}",{time}'
        f'"transactionHash":"0x{position + 1:064x}","transactionIndex":"{index:#x}","logIndex":"{index:#x}",'
        '"removed":false}'
    ).encode()


@contextlib.contextmanager
def serving(node: Node) -> Iterator[str]:
    """Serves the node on a free port of 127.0.0.1; yields its URL, which bears a key."""
    with posts.serving(lambda _, body: node.respond(body)) as url:
        node.url = f"{url}/v2/secret-key-of-mine"
        yield node.url
