"""A portal that costs next to nothing: its lines lie ready in a file, and the kernel sends slices of it.

Run: ``python -m benchmarks.portal_node FOLDER [SECONDS]``; so many seconds pass before each answer. It prints its port
and serves until it is killed. It serves one stream of a workload, to questions for all of its logs.
"""

import json
import os
import re
import sys
from array import array
from pathlib import Path

from benchmarks.node import Slice, serve
from benchmarks.workloads import FIRST_BLOCK, Workload, block_hash, block_time

_NUMBER = re.compile(rb'"(transactionIndex|logIndex)":"(0x[0-9a-f]+)"')
_PLACE = re.compile(rb'"blockNumber":"0x[0-9a-f]+","blockHash":"0x[0-9a-f]+","blockTimestamp":"0x[0-9a-f]+",')


def write_lines(folder: Path) -> None:
    """Write a workload's only stream as a portal's lines, one a block that bears logs, and where they begin."""
    workload = Workload.load(folder)
    (stream,) = workload.streams
    logs = (folder / stream.name).with_suffix(".logs").read_bytes()
    offsets: array[int] = array("Q", (folder / stream.name).with_suffix(".offsets").read_bytes())
    places: array[int] = array("Q", [0] * FIRST_BLOCK)
    at = 0
    with (folder / "portal.lines").open("wb") as file:
        for number in range(FIRST_BLOCK, workload.last + 1):
            places.append(at)
            # Without the comma behind the last log.
            block = logs[offsets[number] : max(offsets[number], offsets[number + 1] - 1)]
            if block:
                at += file.write(_line(number, _of_portal(block)))
    places.append(at)
    with (folder / "portal.offsets").open("wb") as file:
        places.tofile(file)


def _of_portal(block: bytes) -> bytes:
    """Logs as a node writes them as a portal writes them."""
    block = _PLACE.sub(b"", block).replace(b',"removed":false', b"")
    return _NUMBER.sub(lambda found: b'"%b":%d' % (found[1], int(found[2], 16)), block)


def _line(number: int, logs: bytes = b"") -> bytes:
    parent = block_hash(number - 1) if number else "0x" + "0" * 64
    header = (
        f'{{"header":{{"number":{number},"hash":"{block_hash(number)}","parentHash":"{parent}",'
        f'"timestamp":{block_time(number)}}}'
    ).encode()
    return header + (b',"logs":[' + logs + b"]}\n" if logs else b"}\n")


class PortalNode:
    """One workload's data set."""

    def __init__(self, folder: Path) -> None:
        self._last = Workload.load(folder).last
        self._lines = os.open(folder / "portal.lines", os.O_RDONLY)
        self._offsets: array[int] = array("Q", (folder / "portal.offsets").read_bytes())

    def get(self, line: bytes) -> bytes:
        """The data set, or its newest block."""
        if b"metadata" in line:
            return b'{"dataset":"bench","aliases":[],"real_time":true,"start_block":0,"metadata":{"kind":"evm"}}'
        return json.dumps({"number": self._last, "hash": block_hash(self._last)}).encode()

    def answer(self, body: bytes) -> list[bytes | Slice]:
        """The lines of a range: its first and last block, and those that bear logs."""
        question = json.loads(body)
        first, last = question["fromBlock"], min(question["toBlock"], self._last)
        pieces: list[bytes | Slice] = []
        if not self._bears(first):
            pieces.append(_line(first))
        begin, end = self._offsets[first], self._offsets[last + 1]
        if end > begin:
            pieces.append((self._lines, begin, end - begin))
        if last > first and not self._bears(last):
            pieces.append(_line(last))
        return pieces

    def _bears(self, number: int) -> bool:
        return self._offsets[number + 1] > self._offsets[number]


if __name__ == "__main__":
    serve(PortalNode(Path(sys.argv[1])), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
