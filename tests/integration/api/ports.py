"""Every port that Gapless listens on, of one process, and bytes sent to them as they are."""

import errno
import os
import re
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from time import monotonic

import psutil

from tests.ready import ReadyProcess

PORTS = ("api", "admin")
#: Seconds after which a connection that is still open is a fault.
PATIENCE = 30.0


@dataclass
class Ports:
    """A process of the API.

    Attributes:
        of: name -> port.
        said: the last lines of its log.
    """

    process: subprocess.Popen[str]
    of: dict[str, int] = field(default_factory=dict)
    said: deque[str] = field(default_factory=lambda: deque(maxlen=200))

    def __post_init__(self) -> None:
        self.system = psutil.Process(self.process.pid)

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        times = self.system.cpu_times()
        return times.user + times.system

    def exchange(self, name: str, request: bytes, *, half_close: bool = False) -> bytes:
        """Send bytes, and read until the server ends the connection."""
        with socket.create_connection(("127.0.0.1", self.of[name]), timeout=PATIENCE) as connection:
            with suppress(ConnectionError):  # it may have been refused before the last byte
                connection.sendall(request)
                if half_close:
                    end_our_side(connection)
            return until_the_end(connection)


def end_our_side(connection: socket.socket) -> None:
    """Half-close; one that was reset meanwhile is a ConnectionError, as it is when bytes are sent."""
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise ConnectionResetError from error
        raise


def until_the_end(connection: socket.socket) -> bytes:
    """Everything that comes until the server closes; a reset or silence is an error."""
    deadline = monotonic() + PATIENCE
    answer = b""
    while True:
        connection.settimeout(max(deadline - monotonic(), 0.001))
        piece = connection.recv(65536)
        if not piece:
            return answer
        answer += piece


def statuses(answer: bytes) -> list[int]:
    """The statuses of all answers in these bytes."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


@contextmanager
def all_ports(url: str, **environment: str) -> Iterator[Ports]:
    """Run the API with every port it can have."""
    env = {
        **os.environ,
        "DATABASE_URL": url,
        "API_PORT": "0",
        "ADMIN_PORT": "0",
        "API_THREADS": "4",
        "LOG_LEVEL": "INFO",
        **environment,
    }
    env.pop("REDIS_URL", None)
    process = ReadyProcess([sys.executable, "-m", "api"], env=env, stderr=subprocess.PIPE, text=True)
    ports = Ports(process)
    assert process.stderr is not None
    patterns = {
        "api": r"the API listens on http://127\.0\.0\.1:(\d+)",
        "admin": r"administrator's port is at http://127\.0\.0\.1:(\d+)",
    }
    try:
        for line in process.stderr:
            ports.said.append(line)
            for name, pattern in patterns.items():
                if match := re.search(pattern, line):
                    ports.of[name] = int(match[1])
            if "admin" in ports.of and "api" in ports.of:
                break
        else:
            raise AssertionError("".join(ports.said))
        # A log that is not read fills its pipe, and then the server stands still.
        reading = threading.Thread(target=lambda: ports.said.extend(process.stderr or ()), daemon=True)
        reading.start()
        yield ports
    finally:
        process.kill()
        process.wait()
