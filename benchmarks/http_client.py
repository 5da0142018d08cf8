"""A client of the API that takes as little of the machine as pgbench does: one thread asks over some kept connections.

A curl a connection took 0.2 ms of a core for a page, a fifth of all that a page cost; this takes a quarter of that.
"""

import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_MOST = 1 << 20


class _Connection:
    """One connection, which has always one question under way.

    Args:
        address: host and port.
        requests: asked one after the other, and again from the first.
    """

    def __init__(self, address: tuple[str, int], requests: Sequence[bytes]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests
        self._next = 0
        self._missing = 0
        self._head = b""
        self.asked_at = 0.0

    def ask(self) -> None:
        """Send the next request."""
        self._missing, self._head = -1, b""
        self.asked_at = time.perf_counter()
        self.socket.sendall(self._requests[self._next])
        self._next = (self._next + 1) % len(self._requests)

    def take(self, buffer: bytearray) -> bool:
        """Take what has come; whether that was the end of an answer.

        Raises:
            RuntimeError: the answer is no page, or has no length.
        """
        count = self.socket.recv_into(buffer)
        if not count:
            raise RuntimeError("the connection was closed")
        if self._missing < 0:
            self._head += bytes(memoryview(buffer)[:count])
            head, end, rest = self._head.partition(_HEAD_END)
            if not end:
                return False
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"a page was answered with {head.splitlines()[0].decode()}")
            lengths = [line for line in head.lower().splitlines() if line.startswith(_LENGTH)]
            self._missing, count = int(lengths[0].removeprefix(_LENGTH)), len(rest)
        self._missing -= count
        return self._missing <= 0


def ask(
    address: tuple[str, int], paths: Sequence[Sequence[str]], seconds: float, headers: str = ""
) -> tuple[float, list[float]]:
    """Ask for pages for so long.

    Args:
        address: host and port.
        paths: for each connection those that it asks for, one after the other, and again from the first.
        seconds: how long.
        headers: further lines of each request.

    Returns:
        The seconds that it took, and how long each answer took.

    Raises:
        RuntimeError: something was not answered with 200.
    """
    host = f"{address[0]}:{address[1]}"
    buffer, times = bytearray(_MOST), []
    with selectors.DefaultSelector() as selector:
        for each in paths:
            heads = [f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n{headers}\r\n".encode() for path in each]
            connection = _Connection(address, heads)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        connections: list[_Connection] = [key.data for key in selector.get_map().values()]
        began = time.perf_counter()
        for connection in connections:
            connection.ask()
        while time.perf_counter() - began < seconds:
            for key, _ in selector.select(1):
                connection = key.data
                if connection.take(buffer):
                    times.append(time.perf_counter() - connection.asked_at)
                    connection.ask()
        elapsed = time.perf_counter() - began
        for connection in connections:
            connection.socket.close()
    return elapsed, times


def main() -> None:
    """Ask as told on standard input, and print the seconds and the times, as JSON."""
    told = json.load(sys.stdin)
    elapsed, times = ask((told["host"], told["port"]), told["paths"], told["seconds"], told.get("headers", ""))
    print(json.dumps({"seconds": elapsed, "times": times}))


if __name__ == "__main__":
    main()
