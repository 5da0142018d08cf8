"""A chain that grows by the clock: everybody can compute when block n appears, so that delay can be measured.

Run: ``python -m benchmarks.head_node SECONDS_BETWEEN_BLOCKS CONTRACTS``. It prints the Unix time of block 0 and its
port, and serves until it is killed. Every block bears one Transfer of each contract.
"""

import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator
from typing import Any

from eth_utils.crypto import keccak

from benchmarks.node import Slice, serve

CHAIN_ID = 31_337
FINAL_AFTER = 64
# So many blocks are there from the beginning, all of them final but for the last.
BEFORE = 100

_TRANSFER = "0x" + keccak(b"Transfer(address,address,uint256)").hex()
_HOLDER = "0x" + "11" * 20


def address(contract: int) -> str:
    """The address of a contract."""
    return f"0x{0xC0DE0000 + contract:040x}"


class GrowingNode:
    """The chain.

    Args:
        interval: seconds between blocks.
        contracts: how many bear a log in each block.
        genesis: the Unix time of block 0.
    """

    def __init__(self, interval: float, contracts: int, genesis: float) -> None:
        self._interval = interval
        self._contracts = contracts
        self._genesis = genesis
        self.requests: list[bytes] = []

    def get(self, line: bytes) -> bytes:
        """Every request body so far, one a line."""
        return b"\n".join(self.requests)

    def answer(self, body: bytes) -> list[bytes | Slice]:
        """The answer to a request or a batch."""
        self.requests.append(body)
        document = json.loads(body)
        head = int((time.time() - self._genesis) / self._interval)
        several = isinstance(document, list)
        answers = [self._one(call, head) for call in (document if several else [document])]
        return [json.dumps(answers if several else answers[0], separators=(",", ":")).encode()]

    def _one(self, call: dict[str, Any], head: int) -> dict[str, Any]:
        method, params = call["method"], call["params"]
        result: object
        match method:
            case "eth_getBlockByNumber":
                result = self._header(params[0], head)
            case "eth_getBlockByHash":
                result = self._header(hex(int(params[0][-16:], 16)), head)
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
        return {
            "number": hex(number),
            "hash": block_hash(number),
            "parentHash": block_hash(number - 1) if number else "0x" + "0" * 64,
            "timestamp": hex(self._time(number)),
            "logsBloom": "0x" + "f" * 512,
            "transactions": [],
        }

    def _time(self, number: int) -> int:
        return math.floor(self._genesis + number * self._interval)

    def _logs(self, question: dict[str, Any], head: int) -> Iterator[dict[str, Any]]:
        if "blockHash" in question:
            first = last = int(question["blockHash"][-16:], 16)
        else:
            first, last = int(question["fromBlock"], 16), min(int(question["toBlock"], 16), head)
        asked = question.get("address")
        wanted = {asked} if isinstance(asked, str) else asked and set(asked)
        for number in range(first, last + 1):
            for contract in range(self._contracts):
                if wanted is None or address(contract) in wanted:
                    yield self._log(number, contract)

    def _log(self, number: int, contract: int) -> dict[str, Any]:
        return {
            "address": address(contract),
            "topics": [_TRANSFER, "0x" + _HOLDER[2:].rjust(64, "0"), "0x" + _HOLDER[2:].rjust(64, "0")],
            "data": f"0x{number:064x}",
            "blockNumber": hex(number),
            "blockHash": block_hash(number),
            "blockTimestamp": hex(self._time(number)),
            "transactionHash": f"0x{number * 1000 + contract:064x}",
            "transactionIndex": hex(contract),
            "logIndex": hex(contract),
            "removed": False,
        }


def block_hash(number: int) -> str:
    """The hash of a block, which ends with its number."""
    return "0x" + hashlib.blake2b(number.to_bytes(8, "big"), digest_size=24).hexdigest() + f"{number:016x}"


def main() -> None:
    """Serve the chain that the command line describes."""
    interval, contracts = float(sys.argv[1]), int(sys.argv[2])
    genesis = time.time() - BEFORE * interval
    print(genesis, flush=True)
    serve(GrowingNode(interval, contracts, genesis))


if __name__ == "__main__":
    main()
