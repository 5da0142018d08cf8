"""How the suite's nodes are wrong: one switch at a time, turned by a scenario while everything runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from random import Random
from typing import Any

from tests.chaos.node import Call, Honest, Node, RpcError
from tests.posts import HttpAnswer

HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
MOST_SILENT = 120.0
"""Seconds after which a request that is not answered is hung up on, so that no thread outlives a test run."""


class Faults(Honest):
    """A node's mood.

    Attributes:
        mood: what every request gets: ``"errors"``, ``"429"``, ``"502"``, ``"silence"``; None: an answer.
        rate: how often, 0 to 1, a request fails in one of ``KINDS``.
        most_blocks: the most blocks a question for logs may span; None: any number.
        most_logs: the most logs an answer holds; None: any number.
        behind: the head is said to be so many blocks older than it is.
        twice: logs are answered twice.
        null_every: every n-th question for a header is answered null; 0: none is.
        stale_every: every n-th header bears a hash that is none of the chain; 0: none does.
        mute: a method of which one request is never answered; the next one is. None: none.
    """

    KINDS = ("errors", "429", "502", "hang up", "cut", "not json", "empty")

    def __init__(self, seed: int = 1) -> None:
        self.mood: str | None = None
        self.rate = 0.0
        self.most_blocks: int | None = None
        self.most_logs: int | None = None
        self.behind = 0
        self.twice = False
        self.null_every = 0
        self.stale_every = 0
        self.mute: str | None = None
        self.asked: list[tuple[float, str | None]] = []
        """When each request came, in seconds of the monotonic clock, and the mood that met it."""
        self.widths: list[tuple[float, int]] = []
        """When each question for logs came that was answered, and how many blocks it spanned."""
        self._random = Random(seed)
        self._lock = threading.Lock()
        self._headers = 0
        self._released = threading.Event()

    def release(self) -> None:
        """Hangs up on all that wait for an answer now."""
        released, self._released = self._released, threading.Event()
        released.set()

    def request(self, node: Node, calls: Sequence[Call], is_batch: bool) -> None:
        with self._lock:
            self.asked.append((time.monotonic(), self.mood))
            mood = self.mood
            if mood is None and self._random.random() < self.rate:
                mood = self._random.choice(self.KINDS)
            if self.mute is not None and any(call["method"] == self.mute for call in calls):
                self.mute, mood = None, "silence"
        match mood:
            case "errors":
                raise RpcError(-32603, "internal error")
            case "429":
                raise HttpAnswer(429, b"too many requests")
            case "502":
                raise HttpAnswer(502, HTML, {"Content-Type": "text/html"})
            case "silence":
                self._released.wait(MOST_SILENT)
                raise HttpAnswer(0)
            case "hang up":
                raise HttpAnswer(0)
            case "cut":
                raise HttpAnswer(200, b'{"jsonrpc": "2.0", "id":', cut=True)
            case "not json":
                raise HttpAnswer(200, HTML)
            case "empty":
                raise HttpAnswer(200, b"")

    def result(self, node: Node, call: Call, result: Any) -> Any:
        match call["method"]:
            case "eth_getLogs":
                return self._logs(call["params"][0], result)
            case "eth_getBlockByNumber":
                return self._header(node, call, result)
        return result

    def _logs(self, asked: dict[str, Any], result: list[Any]) -> list[Any]:
        if "fromBlock" in asked:
            width = int(asked["toBlock"], 16) - int(asked["fromBlock"], 16) + 1
            if self.most_blocks is not None and width > self.most_blocks:
                raise RpcError(-32000, f"block range is too large: at most {self.most_blocks:,} blocks")
            if self.most_logs is not None and len(result) > self.most_logs:
                raise RpcError(-32005, f"query returned more than {self.most_logs} results")
            self.widths.append((time.monotonic(), width))
        return [*result, *reversed(result)] if self.twice else result

    def _header(self, node: Node, call: Call, result: Any) -> Any:
        name, whole = call["params"]
        if name == "latest" and self.behind:
            old = node.blocks[max(0, len(node.blocks) - 1 - self.behind)]
            return old.whole_json if whole else old.header_json
        with self._lock:
            self._headers += 1
            count = self._headers
        if self.null_every and count % self.null_every == 0:
            return None
        if self.stale_every and count % self.stale_every == 0 and result is not None:
            return {**result, "hash": "0x" + self._random.randbytes(32).hex()}
        return result
