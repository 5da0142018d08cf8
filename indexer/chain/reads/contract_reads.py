"""One contract at one block: a call without a transaction, and its code.

Both are asked as every question is: retried within bounds, and failed over. A number without a block
(:mod:`indexer.chain.reads.null_blocks`) stands for the newest block before it.
"""

from collections.abc import Callable

from indexer.chain.reads import null_blocks
from indexer.chain.records.errors import CallReverted, RevertedError
from indexer.chain.records.messages import Call, parse_hex_bytes
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint
from indexer.chain.rpc.requester import Requester


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
