"""Calls of contracts at one block: the questions, their answers, and whether a node ran a call in that block.

One call and the code of a contract are asked as every question is: retried within bounds, and failed over. A number
without a block (:mod:`indexer.chain.reads.null_blocks`) stands for the newest block before it.

``aggregate3`` of Multicall3 runs many calls in one, each allowed to fail. Around the calls that are wanted stand a few
of ours:

* the *witness*, ``getBlockNumber`` and ``getCurrentBlockTimestamp``: at which block the node really ran the call;
* the *gas probe*, first and last: a call of a precompiled contract that costs 113,000 gas. Gas only becomes less, so
  where the last one runs, every call before it had at least that much, and one that failed did not fail for want of it.
  Where the first one fails the chain has no such contract, and nothing is proven either way.

A node may ignore the block that an ``eth_call`` names, and run it in its newest: then every point of a snapshot has
the newest value. The witness tells. But the number in a call is not the block's on every chain (Arbitrum's is that of
its parent chain, and zkSync's was that of a batch), so a number that differs accuses no endpoint until the chain's own
numbers were seen in some calls. The block's time clears the node; failing that, the node is asked in which block it
runs a call at its newest and at another block: one that honours what it is asked for runs an old call before its newest
block, and another call in another one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from indexer.chain.reads import null_blocks, questions
from indexer.chain.records.errors import AnswerError, CallReverted, ProviderError, RevertedError, WrongBlockError
from indexer.chain.records.messages import Call, parse_hex_bytes
from indexer.chain.rpc.answers import Answer
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint
from indexer.chain.rpc.requester import Requester

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

# Blocks that every node keeps the state of: geth's default is 128.
_STATE_KEPT = 100
_NEAR = 50
_SEEN_OFTEN_ENOUGH = 3


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


def batches(calls: Sequence[tuple[bytes, bytes]]) -> list[list[tuple[bytes, bytes]]]:
    """Calls in batches bounded by count and by call data, of which ours are a part (bytes)."""
    parts: list[list[tuple[bytes, bytes]]] = [[]]
    size = _OWN
    for call in calls:
        cost = _ELEMENT + len(call[1])
        if parts[-1] and (len(parts[-1]) >= MAX_CALLS or size + cost > MAX_CALLDATA):
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


def call(
    requester: Requester, to: bytes | str, data: bytes, block: int | str = "latest", *, gas: int | None = None
) -> bytes:
    """Call a contract without a transaction. See :meth:`indexer.chain.client.ChainClient.eth_call`."""
    try:
        return _at(requester, block, lambda at: eth_call(to, data, at, gas))
    except RevertedError as error:
        reverted = CallReverted(str(error), error.data)
    raise reverted


def code(requester: Requester, address: bytes | str, block: int | str = "latest") -> bytes:
    """The code at an address, empty where there is none.

    Raises:
        ProviderError: no endpoint answers.
    """
    named = hex_address(address)
    return _at(requester, block, lambda at: Call("eth_getCode", (named, hex(at) if isinstance(at, int) else at)))


def _at(requester: Requester, block: int | str, call_at: Callable[[int | str], Call]) -> bytes:
    """The bytes that a call answers at a block; its method is the same at every block."""
    context = RequestContext()

    def question(endpoint: Endpoint) -> bytes:
        def ask(at: int | str) -> bytes:
            return parse_hex_bytes(endpoint.ask_one(call_at(at), context))

        return null_blocks.at_or_below(endpoint, block, context, ask) if isinstance(block, int) else ask(block)

    number = block if isinstance(block, int) else None
    return requester.run(question, call_at(block).method, block=number, context=context)


class ExecutingBlocks:
    """What is known of a chain's ``block.number``."""

    def __init__(self) -> None:
        self._own: frozenset[int] = frozenset()

    @property
    def number_is_blocks(self) -> bool:
        """Whether ``block.number`` was seen to be the block's own: in several blocks, which is no coincidence."""
        return len(self._own) >= _SEEN_OFTEN_ENOUGH

    def check(
        self,
        endpoint: Endpoint,
        block: int,
        seen: ExecutedAt | None,
        head: int | None,
        question: "ExecutingBlockCall",
        context: RequestContext,
    ) -> None:
        """Sees that a call was run in its block.

        Args:
            endpoint: who ran it.
            block: the block that was asked for.
            seen: the block that it was run in; None: that is not known, and the answer is taken as it is.
            head: the chain's newest block, as far as known.
            question: asks for the witness alone.
            context: on whose account.

        Raises:
            WrongBlockError: it was run in another block.
            ProviderError: the endpoint did not answer what had to be asked besides.
        """
        if seen is None:
            return
        if seen.number == block:
            if not self.number_is_blocks:
                self._own |= {block}
            return
        if self.number_is_blocks or not (
            _runs_at_its_time(endpoint, block, seen, context)
            or _is_honest(endpoint, block, seen, head, question, context)
        ):
            raise WrongBlockError(f"eth_call at block {block:,} was run in block {seen.number:,}", host=endpoint.host)


class ExecutingBlockCall:
    """The witness alone, as a question of its own; ``to`` None: code that no contract has to hold."""

    def __init__(self, to: str | None, data: bytes) -> None:
        self._transaction = {"data": "0x" + data.hex()} | ({} if to is None else {"to": to})

    def at(self, block: int | str) -> Call:
        """It, at a block."""
        return Call("eth_call", (self._transaction, hex(block) if isinstance(block, int) else block))


def executed_at(answer: Answer) -> ExecutedAt | None:
    """What an answer to the witness says; None: nothing."""
    if isinstance(answer, ProviderError):
        return None
    try:
        data = parse_hex_bytes(answer)
    except AnswerError:
        return None
    if (seen := decode_executing_block(data)) is not None:
        return seen
    try:
        return decode_aggregate3(data, 0).seen
    except ValueError:
        return None


def _runs_at_its_time(endpoint: Endpoint, block: int, seen: ExecutedAt, context: RequestContext) -> bool:
    header = questions.headers(endpoint, [block], context).get(block)
    return header is not None and header.time == seen.time


def _is_honest(
    endpoint: Endpoint,
    block: int,
    seen: ExecutedAt,
    head: int | None,
    question: ExecutingBlockCall,
    context: RequestContext,
) -> bool:
    """Whether a node whose number and time differ honours the block that it is asked for all the same."""
    is_recent = head is None or block > head - _STATE_KEPT
    other = (block - _NEAR if block >= _NEAR else block + _NEAR) if is_recent else block // 2
    # Its newest block first, and by a request of its own: a block that comes meanwhile must not make what was run in
    # the newest look older than the newest.
    (newest,) = map(executed_at, endpoint.ask([question.at("latest")], context))
    again, elsewhere = map(executed_at, endpoint.ask([question.at(block), question.at(other)], context))
    if again != seen or newest is None:
        return False  # it runs calls now here, now there
    if head is not None and block < head - 1 and (again.number, again.time) >= (newest.number, newest.time):
        return False
    return elsewhere != again if elsewhere is not None else again != newest
