"""A node that costs next to nothing: its answers lie ready in files, and the kernel sends slices of them.

Run: ``python -m benchmarks.node FOLDER [SECONDS]``; so many seconds pass before each answer, as on a long way. It
prints its port and serves until it is killed. Besides JSON-RPC it answers ``GET /requests`` with every request body
that it was sent, one a line, so that the same can be downloaded again.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from array import array
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from benchmarks.workloads import CHAIN_ID, Workload, block_hash, block_time

Slice: TypeAlias = tuple[int, int, int]
"""A file descriptor, where to begin, how many bytes."""

_BLOOM = "0x" + "0" * 512


class Answering(Protocol):
    """What can be served."""

    def answer(self, body: bytes) -> list[bytes | Slice]:
        """The answer to a request or a batch, in pieces."""

    def get(self, line: bytes) -> bytes:
        """The answer to a GET, by its request line: what is not JSON-RPC."""


class Node:
    """One workload's chain."""

    def __init__(self, folder: Path) -> None:
        self._workload = Workload.load(folder)
        self._streams: dict[str, tuple[int, array[int]]] = {}
        for stream in self._workload.streams:
            path = folder / stream.name
            offsets: array[int] = array("Q")
            with path.with_suffix(".offsets").open("rb") as file:
                offsets.frombytes(file.read())
            descriptor = os.open(path.with_suffix(".logs"), os.O_RDONLY)
            for address in stream.addresses:
                self._streams[address] = descriptor, offsets
        self.requests: list[bytes] = []

    def get(self, line: bytes) -> bytes:
        """Every request body so far, one a line."""
        return b"\n".join(self.requests)

    def answer(self, body: bytes) -> list[bytes | Slice]:
        """The answer to a request or a batch, in pieces."""
        self.requests.append(body)
        document = json.loads(body)
        if isinstance(document, dict):
            return self._one(document)
        pieces: list[bytes | Slice] = []
        for call in document:
            pieces += [b"," if pieces else b"[", *self._one(call)]
        return [*pieces, b"]"]

    def _one(self, call: dict[str, Any]) -> list[bytes | Slice]:
        head = b'{"jsonrpc":"2.0","id":%d,"result":' % call["id"]
        method, params = call["method"], call["params"]
        if method == "eth_getLogs":
            return [head + b"[", *self._logs(params[0]), b"]}"]
        if method == "eth_getBlockByNumber":
            return [head + self._header(params[0]).encode() + b"}"]
        result = {"eth_chainId": hex(CHAIN_ID), "net_version": str(CHAIN_ID), "eth_blockNumber": hex(self._last)}
        return [head + json.dumps(result[method]).encode() + b"}"]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {block_hash(number): number for number in range(self._last + 1)}

    @property
    def _last(self) -> int:
        return self._workload.last

    def _logs(self, params: dict[str, Any]) -> list[bytes | Slice]:
        address = params["address"]
        descriptor, offsets = self._streams[address if isinstance(address, str) else address[0]]
        if "blockHash" in params:
            first = last = self._numbers[params["blockHash"]]
        else:
            first, last = int(params["fromBlock"], 16), min(int(params["toBlock"], 16), self._last)
        begin, end = offsets[first], offsets[last + 1]
        # Without the comma behind the last log.
        return [(descriptor, begin, end - begin - 1)] if end > begin else []

    def _header(self, which: str) -> str:
        number = {"earliest": 0}.get(which, self._last) if not which.startswith("0x") else int(which, 16)
        if number > self._last:
            return "null"
        parent = block_hash(number - 1) if number else "0x" + "0" * 64
        return (
            f'{{"number":"{number:#x}","hash":"{block_hash(number)}","parentHash":"{parent}",'
            f'"timestamp":"{block_time(number):#x}","logsBloom":"{_BLOOM}","transactions":[]}}'
        )


def serve(node: Answering, latency: float = 0.0) -> None:
    """Prints the port, and serves each connection on a thread; each answer comes ``latency`` seconds late."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_talk, args=(node, connection, latency), daemon=True).start()


def _talk(node: Answering, connection: socket.socket, latency: float) -> None:
    # A client that stops early hangs up in the middle of an answer.
    with contextlib.suppress(ConnectionError), connection, connection.makefile("rb") as reader:
        while line := reader.readline():
            length = 0
            while (header := reader.readline()).strip():
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            body = reader.read(length)
            if latency:
                time.sleep(latency)
            _send(connection, [node.get(line)] if line.startswith(b"GET") else node.answer(body))


def _send(connection: socket.socket, pieces: Sequence[bytes | Slice]) -> None:
    length = sum(len(piece) if isinstance(piece, bytes) else piece[2] for piece in pieces)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length)
    for piece in pieces:
        if isinstance(piece, bytes):
            connection.sendall(piece)
            continue
        descriptor, begin, left = piece
        while left:
            sent = os.sendfile(connection.fileno(), descriptor, begin, left)
            begin, left = begin + sent, left - sent


if __name__ == "__main__":
    serve(Node(Path(sys.argv[1])), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
