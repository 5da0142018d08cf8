"""Many contract reads at one block: Multicall3 through our own client, with its retries, limits and failover.

``aggregate3`` with failures allowed, in batches bounded by count, call data and gas. A batch that fails whole is
halved. A call that burns all gas starves those behind it, which then look as if they had reverted with no data: those
are asked again one by one. Before Multicall3 stood on the chain, and where it is missing, calls go one by one in
JSON-RPC batches.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from indexer.chain.config import Errand
from indexer.chain.endpoint import Endpoint
from indexer.chain.errors import AnswerError, CallReverted, ProviderError, RangeError, RevertedError, TransientError
from indexer.chain.wire import Call, parse_hex_bytes

if TYPE_CHECKING:
    from indexer.chain.client import ChainClient

# https://github.com/mds1/multicall3: the same address on every chain.
MULTICALL3 = bytes.fromhex("cA11bde05977b3631167028862bE2a173976CA11")
_AGGREGATE3 = bytes.fromhex("82ad56cb")

MAX_CALLS = 500
MAX_CALLDATA = 100_000
MAX_GAS = 40_000_000
GAS_PER_CALL = 80_000


@dataclass(frozen=True, slots=True)
class CallResult:
    """What one call answered.

    Attributes:
        success: False when it reverted.
        data: the returned bytes, or the revert data.
    """

    success: bool
    data: bytes


@dataclass(slots=True)
class Deployment:
    """From which block on Multicall3 is known to stand, and up to which it is known to be missing."""

    present_from: int | None = None
    absent_up_to: int | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def known(self, block: int) -> bool | None:
        """Whether it stands at a block, or None where that is not known yet."""
        with self.lock:
            if self.present_from is not None and block >= self.present_from:
                return True
            if self.absent_up_to is not None and block <= self.absent_up_to:
                return False
            return None

    def learned(self, block: int, present: bool) -> None:
        """Remembers whether it stands at a block."""
        with self.lock:
            if present:
                self.present_from = block if self.present_from is None else min(self.present_from, block)
            else:
                self.absent_up_to = block if self.absent_up_to is None else max(self.absent_up_to, block)


def hex_address(address: bytes | str) -> str:
    """An address as lower-case hex text. Raises ValueError where it is none."""
    text = "0x" + address.hex() if isinstance(address, bytes) else address.lower()
    if len(text) != 42:
        raise ValueError(f"an address has 20 bytes: {text}")
    return text


def eth_call(to: bytes | str, data: bytes, block: int | str, gas: int | None = None) -> Call:
    """The question of an ``eth_call``."""
    transaction = {"to": hex_address(to), "data": "0x" + data.hex()}
    if gas is not None:
        transaction["gas"] = hex(gas)
    return Call("eth_call", (transaction, hex(block) if isinstance(block, int) else block))


def read(
    client: "ChainClient", deployment: Deployment, calls: Sequence[tuple[bytes, bytes]], block: int
) -> list[CallResult]:
    """Reads many calls at one block. See :meth:`ChainClient.multicall`."""
    if not calls:
        return []
    present = deployment.known(block)
    if present is None:
        present = bool(client.code(MULTICALL3, block))
        deployment.learned(block, present)
    results: list[CallResult] = []
    for part in batches(calls):
        results += _aggregated(client, part, block) if present else _one_by_one(client, part, block)
    return results


def batches(calls: Sequence[tuple[bytes, bytes]]) -> list[list[tuple[bytes, bytes]]]:
    """Calls in batches bounded by count, call data (bytes) and gas."""
    most = max(1, min(MAX_CALLS, MAX_GAS // GAS_PER_CALL))
    parts: list[list[tuple[bytes, bytes]]] = [[]]
    size = 0
    for call in calls:
        # Address, flag, offset, length and padding of one element of aggregate3's array.
        cost = 192 + len(call[1])
        if parts[-1] and (len(parts[-1]) >= most or size + cost > MAX_CALLDATA):
            parts.append([])
            size = 0
        parts[-1].append(call)
        size += cost
    return parts


def encode_aggregate3(calls: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The call data of ``aggregate3`` with every failure allowed."""
    return _AGGREGATE3 + encode(["(address,bool,bytes)[]"], [[(to, True, data) for to, data in calls]])


def decode_aggregate3(data: bytes, count: int) -> list[CallResult]:
    """The results of ``aggregate3``.

    Raises:
        AnswerError: it is not so many results.
    """
    try:
        (results,) = decode(["(bool,bytes)[]"], data)
    except (DecodingError, OverflowError, ValueError) as error:
        problem = f"Multicall3 answered something else than results: {error}"
    else:
        if len(results) == count:
            return [CallResult(bool(success), bytes(returned)) for success, returned in results]
        problem = f"Multicall3 answered {len(results)} results to {count} calls"
    raise AnswerError(problem)


def _aggregated(client: "ChainClient", calls: Sequence[tuple[bytes, bytes]], block: int) -> list[CallResult]:
    if len(calls) == 1:
        return _one_by_one(client, calls, block)
    errand = Errand()
    question = eth_call(MULTICALL3, encode_aggregate3(calls), block)

    def ask(endpoint: Endpoint) -> list[CallResult]:
        return decode_aggregate3(parse_hex_bytes(endpoint.ask_one(question, errand)), len(calls))

    try:
        results = client.run(ask, "eth_call", block=block, errand=errand, attempts=3)
    except (RevertedError, RangeError, TransientError):
        middle = len(calls) // 2
        return _aggregated(client, calls[:middle], block) + _aggregated(client, calls[middle:], block)
    # The first that failed without a word may be one that burnt the gas of those behind it.
    mute = [index for index, result in enumerate(results) if not result.success and not result.data]
    for index, result in zip(mute[1:], _one_by_one(client, [calls[i] for i in mute[1:]], block), strict=True):
        results[index] = result
    return results


def _one_by_one(client: "ChainClient", calls: Sequence[tuple[bytes, bytes]], block: int) -> list[CallResult]:
    if not calls:
        return []
    errand = Errand()
    questions = [eth_call(to, data, block) for to, data in calls]

    def ask(endpoint: Endpoint) -> list[CallResult]:
        results = []
        for answer in endpoint.ask(questions, errand):
            if isinstance(answer, RevertedError):
                results.append(CallResult(False, answer.data))
            elif isinstance(answer, ProviderError):
                raise answer
            else:
                results.append(CallResult(True, parse_hex_bytes(answer)))
        return results

    return client.run(ask, "eth_call", block=block, errand=errand)


__all__ = ["MULTICALL3", "CallResult", "CallReverted", "Deployment", "batches", "eth_call", "hex_address", "read"]
