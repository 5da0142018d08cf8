"""One contract at one block: a call without a transaction, its code, and whether the node ran a call in that block.

Both are asked as every question is: retried within bounds, and failed over. A number without a block
(:mod:`indexer.chain.reads.null_blocks`) stands for the newest block before it.

A node may ignore the block that an ``eth_call`` names, and run it in its newest: then every point of a snapshot has
the newest value. What ``block.number`` and ``block.timestamp`` were in the call, the *witness*, tells. But the number
in a call is not the block's on every chain (Arbitrum's is that of its parent chain, and zkSync's was that of a batch),
so a number that differs accuses no endpoint until the chain's own numbers were seen in some calls. The block's time
clears the node; failing that, the node is asked in which block it runs a call at its newest and at another block: one
that honours what it is asked for runs an old call before its newest block, and another call in another one.
"""

from collections.abc import Callable

from indexer.chain.reads import null_blocks, questions
from indexer.chain.reads.aggregate import ExecutedAt, decode_aggregate3, decode_executing_block
from indexer.chain.records.errors import AnswerError, CallReverted, ProviderError, RevertedError, WrongBlockError
from indexer.chain.records.messages import Call, parse_hex_bytes
from indexer.chain.rpc.answers import Answer
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint
from indexer.chain.rpc.requester import Requester

# Blocks that every node keeps the state of: geth's default is 128.
_STATE_KEPT = 100
_NEAR = 50
_SEEN_OFTEN_ENOUGH = 3


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
