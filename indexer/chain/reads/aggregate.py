"""What is sent to Multicall3 and what comes back: pure.

``aggregate3`` runs many calls in one, each allowed to fail. Around the calls that are wanted stand a few of ours:

* the *witness*, ``getBlockNumber`` and ``getCurrentBlockTimestamp``: at which block the node really ran the call;
* the *gas probe*, first and last: a call of a precompiled contract that costs 113,000 gas. Gas only becomes less, so
  where the last one runs, every call before it had at least that much, and one that failed did not fail for want of it.
  Where the first one fails the chain has no such contract, and nothing is proven either way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

# https://github.com/mds1/multicall3: the same address on every chain.
MULTICALL3 = bytes.fromhex("cA11bde05977b3631167028862bE2a173976CA11")
_AGGREGATE3 = bytes.fromhex("82ad56cb")
_NUMBER = bytes.fromhex("42cbb15c")  # getBlockNumber()
_TIME = bytes.fromhex("0f28c97d")  # getCurrentBlockTimestamp()

# EIP-197's pairing check over two pairs of points at infinity: true, for 45,000 + 2 x 34,000 gas (EIP-1108).
_GAS_PROBE = ((8).to_bytes(20), bytes(384))
LIGHT_GAS = 100_000
"""What a *light* call needs at most, and what the gas probe proves that it had."""

# Code that no contract has to hold: it returns block.number and block.timestamp. RETURNDATASIZE stands for zero.
WITNESS_CODE = bytes.fromhex("433d524260205260403df3")

MAX_CALLS = 500
MAX_CALLDATA = 100_000

_BEFORE = ((MULTICALL3, _NUMBER), (MULTICALL3, _TIME), _GAS_PROBE)
_AFTER = (_GAS_PROBE,)
# Address, flag, offset, length and padding of one element of aggregate3's array.
_ELEMENT = 192
_OWN = sum(_ELEMENT + len(data) for _, data in (*_BEFORE, *_AFTER))


@dataclass(frozen=True, slots=True)
class CallResult:
    """What one call answered.

    Attributes:
        success: False when it reverted, or when no node would run it.
        data: the returned bytes, or the revert data.
        refusal: where no node would run it (its own time or gas was used up, say): what the last one said. Nothing is
            known of the contract then, and another node, or a later time, may answer. Empty: it was run.
    """

    success: bool
    data: bytes
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class ExecutedAt:
    """In which block a node ran a call: what ``block.number`` and ``block.timestamp`` were there."""

    number: int
    time: int


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The answer of ``aggregate3``.

    Attributes:
        results: of the calls that were wanted, in order.
        seen: the block that it was run in, as far as Multicall3 tells.
        can_probe: whether the first gas probe ran.
        had_gas: whether the last gas probe ran.
    """

    results: list[CallResult]
    seen: ExecutedAt | None
    can_probe: bool
    had_gas: bool

    @property
    def is_starved(self) -> bool:
        """Whether the calls used the gas up: what failed among them may have failed for want of it."""
        return self.can_probe and not self.had_gas

    @property
    def is_proven(self) -> bool:
        """Whether every call had :data:`LIGHT_GAS` at least."""
        return self.can_probe and self.had_gas


def batches(calls: Sequence[tuple[bytes, bytes]], most: int = MAX_CALLS) -> list[list[tuple[bytes, bytes]]]:
    """Calls in batches bounded by count and by call data, of which ours are a part (bytes)."""
    parts: list[list[tuple[bytes, bytes]]] = [[]]
    size = _OWN
    for call in calls:
        cost = _ELEMENT + len(call[1])
        if parts[-1] and (len(parts[-1]) >= min(most, MAX_CALLS) or size + cost > MAX_CALLDATA):
            parts.append([])
            size = _OWN
        parts[-1].append(call)
        size += cost
    return parts


def encode_aggregate3(calls: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The call data of ``aggregate3`` with every failure allowed: ours around those that are wanted."""
    every = [(to, True, data) for to, data in (*_BEFORE, *calls, *_AFTER)]
    return _AGGREGATE3 + encode(["(address,bool,bytes)[]"], [every])


def decode_aggregate3(data: bytes, count: int) -> Aggregate:
    """The answer to :func:`encode_aggregate3`, for so many wanted calls.

    Raises:
        ValueError: it is something else, so what was asked is no Multicall3.
    """
    try:
        (found,) = decode(["(bool,bytes)[]"], data)
    except (DecodingError, OverflowError, ValueError) as error:
        raise ValueError(f"Multicall3 answered something else than results: {error}") from error
    if len(found) != len(_BEFORE) + count + len(_AFTER):
        raise ValueError(f"Multicall3 answered {len(found)} results, not so many as it was asked for")
    results = [CallResult(bool(success), bytes(returned)) for success, returned in found]
    number, time, first, *wanted, last = results
    seen = ExecutedAt(_word(number), _word(time)) if _is_word(number) and _is_word(time) else None
    return Aggregate(wanted, seen, _is_true(first), _is_true(last))


def decode_executing_block(data: bytes) -> ExecutedAt | None:
    """The answer to a call of :data:`WITNESS_CODE`; None where it is none."""
    return ExecutedAt(int.from_bytes(data[:32]), int.from_bytes(data[32:])) if len(data) == 64 else None


def _is_word(result: CallResult) -> bool:
    return result.success and len(result.data) == 32


def _word(result: CallResult) -> int:
    return int.from_bytes(result.data)


def _is_true(result: CallResult) -> bool:
    return _is_word(result) and _word(result) == 1
