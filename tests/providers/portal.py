"""A portal that imitates those of the SQD network: a chain's blocks as streams of lines, with their limits and faults.

Blocks are given as a node writes them, so that it can stand beside any node of the tests. What the protocol says is in
the answers; what may go wrong is told by the hooks of :class:`Portal`.
"""

import contextlib
import gzip
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

NodeBlock = tuple[dict[str, Any], list[dict[str, Any]]]
"""A block as ``eth_getBlockByNumber`` gives it, and its logs as ``eth_getLogs`` does."""

Line = dict[str, Any]


@dataclass
class PortalAnswer(Exception):  # noqa: N818 - what the portal says, not what goes wrong here
    """A whole HTTP answer in place of a stream."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Portal:
    """One data set.

    Attributes:
        blocks: all blocks of the branch that it serves, ascending; asked anew for every request.
        finalized: the newest final one's number.
        start_block: of the data set.
        most_blocks: a stream ends after so many blocks; None: at what was asked for.
        compresses: whether it answers with gzip where that is accepted.
        before: called with the path and the question of every request; may raise PortalAnswer.
        lie: what is sent in place of the honest lines.
        ending: what of a stream's bytes is sent; where less, the connection is closed in the middle of it.
        nulls: so many answers about heads are null first.
    """

    blocks: Callable[[], Sequence[NodeBlock]]
    finalized: Callable[[], int]
    start_block: int = 0
    most_blocks: int | None = None
    compresses: bool = True
    before: Callable[[str, Line], None] = lambda path, question: None
    lie: Callable[[Line, list[Line]], list[Line]] = lambda question, lines: lines
    ending: Callable[[Line, bytes], bytes] = lambda question, text: text
    nulls: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    questions: list[Line] = field(default_factory=list)
    compressed: int = 0

    def get(self, path: str) -> bytes:
        """The answer to a GET."""
        self.counts[path] += 1
        self.before(path, {})
        if path == "metadata":
            kind = {"kind": "evm"}
            found: Any = {"dataset": "imitated", "aliases": [], "real_time": True, "start_block": self.start_block}
            return json.dumps({**found, "metadata": kind}).encode()
        if path != "finalized-head":
            raise PortalAnswer(404, b"not found")
        if self.nulls:
            self.nulls -= 1
            return b"null"
        newest = self._block(self.finalized())
        return json.dumps({"number": int(newest["number"], 16), "hash": newest["hash"]}).encode()

    def stream(self, question: Line) -> bytes:
        """The lines of ``finalized-stream``."""
        self.counts["finalized-stream"] += 1
        self.questions.append(question)
        self.before("finalized-stream", question)
        first, last = question["fromBlock"], min(question["toBlock"], self.finalized())
        if first < self.start_block:
            raise PortalAnswer(400, b"the range begins before the data set")
        if first > self.finalized():
            raise PortalAnswer(204)
        if self.most_blocks is not None:
            last = min(last, first + self.most_blocks - 1)
        lines: list[Line] = []
        for header, logs in self.blocks():
            number = int(header["number"], 16)
            if not first <= number <= last:
                continue
            parent = question.get("parentBlockHash")
            if number == first and parent is not None and header["parentHash"] != parent:
                previous = {"number": number - 1, "hash": header["parentHash"]}
                raise PortalAnswer(409, json.dumps({"previousBlocks": [previous]}).encode())
            wanted = [log for log in logs if any(asks_for(item, log) for item in question["logs"])]
            if wanted or number in (first, last):
                lines.append(line_of(header, wanted))
        return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in self.lie(question, lines))

    def _block(self, number: int) -> dict[str, Any]:
        return next(header for header, _ in self.blocks() if int(header["number"], 16) == number)


def asks_for(item: dict[str, list[str]], log: dict[str, Any]) -> bool:
    """Whether an item of a question asks for a log."""
    if "address" in item and log["address"].lower() not in item["address"]:
        return False
    return all(
        f"topic{at}" not in item or (at < len(log["topics"]) and log["topics"][at] in item[f"topic{at}"])
        for at in range(4)
    )


def line_of(header: dict[str, Any], logs: Sequence[dict[str, Any]]) -> Line:
    """A block as a line."""
    line: Line = {
        "header": {
            "number": int(header["number"], 16),
            "hash": header["hash"],
            "parentHash": header["parentHash"],
            "timestamp": int(header["timestamp"], 16),
        }
    }
    if logs:
        line["logs"] = [
            {
                "logIndex": int(log["logIndex"], 16),
                "transactionIndex": int(log["transactionIndex"], 16),
                "transactionHash": log["transactionHash"],
                "address": log["address"].lower(),
                "topics": list(log["topics"]),
                "data": log["data"],
            }
            for log in logs
        ]
    return line


@contextlib.contextmanager
def serving(portal: Portal) -> Iterator[str]:
    """Serves it on a free port of 127.0.0.1; yields the URL of the data set, which bears a key."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            try:
                self._whole(200, portal.get(self._path()), {})
            except PortalAnswer as answer:
                self._whole(answer.status, answer.body, answer.headers)

        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                if self._path() != "finalized-stream":
                    raise PortalAnswer(404, b"not found")
                text = portal.stream(question)
            except PortalAnswer as answer:
                self._whole(answer.status, answer.body, answer.headers)
                return
            if accepted := portal.compresses and "gzip" in self.headers.get("Accept-Encoding", ""):
                portal.compressed += 1
                text = gzip.compress(text)
            sent = portal.ending(question, text)
            self.send_response(200)
            self.send_header("X-Sqd-Finalized-Head-Number", str(portal.finalized()))
            self.send_header("Transfer-Encoding", "chunked")
            if accepted:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            if sent:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(sent), sent))
            if len(sent) < len(text):
                self.close_connection = True
                return
            self.wfile.write(b"0\r\n\r\n")

        def _path(self) -> str:
            return self.path.removeprefix("/datasets/SECRETKEY/")

        def _whole(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Http(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that hangs up is none of the portal's business

    server = Http(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/datasets/SECRETKEY"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
