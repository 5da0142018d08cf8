"""A chain that grows by the clock: everybody can compute when block n appears, so that delay can be measured.

Run: ``python -m benchmarks.head_node SECONDS_BETWEEN_BLOCKS CONTRACTS SAYING``. It prints the Unix time of block 0, the
port on which it pushes new heads, and the port on which it is asked, and serves until it is killed. Every block bears
one Transfer of each of the first SAYING contracts, and one of a contract that is not followed. Its headers hash to
their hashes.
"""

import contextlib
import json
import math
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from eth_utils.crypto import keccak
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websockets

from benchmarks.node import Slice, serve
from indexer.chain.records.header_hash import header_hash

CHAIN_ID = 31_337
FINAL_AFTER = 64
# So many blocks are there from the beginning, all of them final but for the last.
BEFORE = 100

_TRANSFER = "0x" + keccak(b"Transfer(address,address,uint256)").hex()
_HOLDER_TOPIC = "0x" + "0" * 24 + "11" * 20
_OTHER = "0x" + "fe" * 20


def address(contract: int) -> str:
    """The address of a contract."""
    return f"0x{0xC0DE0000 + contract:040x}"


class GrowingNode:
    """The chain.

    Args:
        interval: seconds between blocks.
        saying: the contracts that bear a log in each block.
        genesis: the Unix time of block 0.
    """

    def __init__(self, interval: float, saying: list[str], genesis: float) -> None:
        self._interval = interval
        self._saying = [*saying, _OTHER]
        self._genesis = genesis
        self._calls = 0
        self._bloom = _bloom([*self._saying, _TRANSFER, _HOLDER_TOPIC])
        self._headers: list[dict[str, Any]] = []
        self._numbers: dict[str, int] = {}
        self._lock = threading.Lock()

    def get(self, line: bytes) -> bytes:
        """How many questions there were so far: each of a batch counts, as providers count."""
        return str(self._calls).encode()

    def push(self, connection: ServerConnection) -> None:
        """Pushes each new header at its moment to one subscriber."""
        with contextlib.suppress(ConnectionClosed):
            asked = json.loads(connection.recv())
            connection.send(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": "0x1"}))
            number = self._head()
            while True:
                number += 1
                time.sleep(max(0.0, self._genesis + number * self._interval - time.time()))
                params = {"subscription": "0x1", "result": self._header(hex(number), number)}
                connection.send(json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": params}))

    def _head(self) -> int:
        return int((time.time() - self._genesis) / self._interval)

    def answer(self, body: bytes) -> list[bytes | Slice]:
        """The answer to a request or a batch."""
        document = json.loads(body)
        head = self._head()
        several = isinstance(document, list)
        self._calls += len(document) if several else 1
        answers = [self._one(call, head) for call in (document if several else [document])]
        return [json.dumps(answers if several else answers[0], separators=(",", ":")).encode()]

    def _one(self, call: dict[str, Any], head: int) -> dict[str, Any]:
        method, params = call["method"], call["params"]
        result: object
        if method == "eth_getLogs" and self._number_of(params[0].get("blockHash"), head) is None:
            return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32000, "message": "unknown block"}}
        match method:
            case "eth_getBlockByNumber":
                result = self._header(params[0], head)
            case "eth_getBlockByHash":
                number = self._number_of(params[0], head)
                result = None if number is None else self._header(hex(number), head)
            case "eth_getLogs":
                result = list(self._logs(params[0], head))
            case "eth_chainId":
                result = hex(CHAIN_ID)
            case "net_version":
                result = str(CHAIN_ID)
            case "eth_blockNumber":
                result = hex(head)
            case "eth_getCode":
                result = "0x6001"
            case _:
                error = {"code": -32601, "message": f"the method {method} does not exist"}
                return {"jsonrpc": "2.0", "id": call["id"], "error": error}
        return {"jsonrpc": "2.0", "id": call["id"], "result": result}

    def _header(self, which: str, head: int) -> dict[str, Any] | None:
        named = {"earliest": 0, "latest": head, "pending": head, "safe": head - FINAL_AFTER // 2}
        named["finalized"] = max(0, head - FINAL_AFTER)
        number = named[which] if which in named else int(which, 16)
        if number > head:
            return None
        with self._lock:
            while len(self._headers) <= number:
                self._headers.append(self._next_header(len(self._headers)))
                self._numbers[self._headers[-1]["hash"]] = len(self._headers) - 1
            return self._headers[number]

    def _next_header(self, number: int) -> dict[str, Any]:
        zeros = "0x" + "0" * 64
        fields = {
            "number": hex(number),
            "parentHash": self._headers[-1]["hash"] if number else zeros,
            "timestamp": hex(self._time(number)),
            "logsBloom": self._bloom,
            **dict.fromkeys(("sha3Uncles", "stateRoot", "transactionsRoot", "receiptsRoot", "mixHash"), zeros),
            **dict.fromkeys(("difficulty", "gasLimit", "gasUsed"), "0x0"),
            "miner": "0x" + "0" * 40,
            "extraData": "0x",
            "nonce": "0x" + "0" * 16,
            "transactions": [],
        }
        return {**fields, "hash": "0x" + header_hash(fields).hex()}

    def _number_of(self, block_hash: str | None, head: int) -> int | None:
        """The block of a hash, where the chain has come so far; -1: none is asked for."""
        if block_hash is None:
            return -1
        number = self._numbers.get(block_hash)
        return None if number is None or number > head else number

    def _time(self, number: int) -> int:
        return math.floor(self._genesis + number * self._interval)

    def _logs(self, question: dict[str, Any], head: int) -> Iterator[dict[str, Any]]:
        if "blockHash" in question:
            first = last = self._numbers[question["blockHash"]]
        else:
            first, last = int(question["fromBlock"], 16), min(int(question["toBlock"], 16), head)
        asked = question.get("address")
        wanted = {asked} if isinstance(asked, str) else asked and set(asked)
        for number in range(first, last + 1):
            for contract, said_by in enumerate(self._saying):
                if wanted is None or said_by in wanted:
                    yield self._log(number, contract, said_by)

    def _log(self, number: int, contract: int, said_by: str) -> dict[str, Any]:
        return {
            "address": said_by,
            "topics": [_TRANSFER, _HOLDER_TOPIC, _HOLDER_TOPIC],
            "data": f"0x{number:064x}",
            "blockNumber": hex(number),
            "blockHash": self._headers[number]["hash"],
            "blockTimestamp": hex(self._time(number)),
            "transactionHash": f"0x{number * 1000 + contract:064x}",
            "transactionIndex": hex(contract),
            "logIndex": hex(contract),
            "removed": False,
        }


def _bloom(values: list[str]) -> str:
    bits = 0
    for value in values:
        digest = keccak(bytes.fromhex(value[2:]))
        for start in (0, 2, 4):
            bits |= 1 << (int.from_bytes(digest[start : start + 2], "big") & 2047)
    return f"0x{bits:0512x}"


def main() -> None:
    """Serve the chain that the command line describes."""
    interval, contracts, saying = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    genesis = time.time() - BEFORE * interval
    node = GrowingNode(interval, [address(one) for one in range(min(contracts, saying))], genesis)
    node.answer(b'{"id": 1, "method": "eth_getBlockByNumber", "params": ["latest", false]}')
    with serve_websockets(node.push, "127.0.0.1", 0) as pushing:
        threading.Thread(target=pushing.serve_forever, daemon=True).start()
        print(genesis, flush=True)
        print(pushing.socket.getsockname()[1], flush=True)
        serve(node)


if __name__ == "__main__":
    main()
