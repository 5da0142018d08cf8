"""What surrounds logs: the blocks and transactions that bore them, with their receipts, from the fewest questions.

A block with whole transactions is one question however many of them are wanted; so are all of its receipts
(``eth_getBlockReceipts``, which not every node has). Where one or two of many are wanted, each is asked for by itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from indexer.chain.config import Errand
from indexer.chain.endpoint import Endpoint
from indexer.chain.errors import FatalError, LaggingError
from indexer.chain.questions import wrong
from indexer.chain.wire import Call, hex_bytes, parse, seconds

# From so many wanted receipts of a block on, all of its receipts are asked for.
_WHOLE_FROM = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of one block.

    Attributes:
        number: the block.
        hash: its hash, 32 bytes: of another block nothing is taken.
        block: the block itself.
        transactions: hashes of the wanted transactions, by their places in the block.
        receipts: hashes of the transactions whose receipts are wanted, by their places.
    """

    number: int
    hash: bytes
    block: bool = False
    transactions: Mapping[int, bytes] = field(default_factory=dict)
    receipts: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class BlockFacts:
    """A block; ``time`` in Unix seconds, fees in wei per gas."""

    number: int
    hash: bytes
    time: int
    miner: bytes
    gas_limit: int
    gas_used: int
    base_fee: int | None
    transaction_count: int
    size: int | None


@dataclass(slots=True)
class TransactionFacts:
    """A transaction, or what its receipt says of it: what was not asked for is None."""

    number: int
    index: int
    hash: bytes
    sender: bytes
    recipient: bytes | None
    type: int | None
    value: int | None = None
    nonce: int | None = None
    gas_limit: int | None = None
    status: int | None = None
    gas_used: int | None = None
    effective_gas_price: int | None = None
    created_contract: bytes | None = None


@dataclass(slots=True)
class Surroundings:
    """All that was asked for."""

    blocks: list[BlockFacts] = field(default_factory=list)
    transactions: list[TransactionFacts] = field(default_factory=list)
    receipts: list[TransactionFacts] = field(default_factory=list)


class _WireTransaction(msgspec.Struct, rename="camel", gc=False):
    hash: str
    transaction_index: str
    block_hash: str
    from_: str = msgspec.field(name="from")
    value: str
    nonce: str
    gas: str
    to: str | None = None
    type: str | None = None


class _WireReceipt(msgspec.Struct, rename="camel", gc=False):
    transaction_hash: str
    transaction_index: str
    block_hash: str
    from_: str = msgspec.field(name="from")
    gas_used: str
    to: str | None = None
    type: str | None = None
    status: str | None = None
    effective_gas_price: str | None = None
    contract_address: str | None = None


class _WireBlock(msgspec.Struct, rename="camel", gc=False):
    number: str
    hash: str
    timestamp: str | int
    gas_limit: str
    gas_used: str
    transactions: list[msgspec.Raw]
    miner: str = "0x" + "00" * 20
    base_fee_per_gas: str | None = None
    size: str | None = None


_transaction = msgspec.json.Decoder(_WireTransaction | None)
_receipt = msgspec.json.Decoder(_WireReceipt | None)
_receipts = msgspec.json.Decoder(list[_WireReceipt] | None)
_block = msgspec.json.Decoder(_WireBlock | None)


def read(endpoint: Endpoint, wanted: Sequence[Wanted], errand: Errand, *, whole_receipts: bool = True) -> Surroundings:
    """Asks one endpoint for everything, in batches where it takes them.

    Args:
        endpoint: whom to ask.
        wanted: blocks, each once.
        errand: counts requests.
        whole_receipts: whether it has ``eth_getBlockReceipts``.

    Raises:
        AnswerError: something else than asked for was answered.
        LaggingError: it does not have a block, or has another one of that number.
        FatalError: it does not have the method.
        ProviderError: a question failed.
    """
    answers = iter(endpoint.ask_all([call for one in wanted for call in calls(one, whole_receipts)], errand))
    found = Surroundings()
    for one in wanted:
        for call in calls(one, whole_receipts):
            _take(endpoint, one, call, next(answers), found)
    return found


def calls(one: Wanted, whole_receipts: bool) -> list[Call]:
    """The fewest questions that bring what is wanted of one block."""
    asked: list[Call] = []
    whole = len(one.transactions) > 1 or (bool(one.transactions) and one.block)
    if one.block or whole:
        asked.append(Call("eth_getBlockByNumber", (hex(one.number), whole)))
    if not whole:
        asked += [Call("eth_getTransactionByHash", ("0x" + found.hex(),)) for found in one.transactions.values()]
    if whole_receipts and len(one.receipts) >= _WHOLE_FROM:
        asked.append(Call("eth_getBlockReceipts", (hex(one.number),)))
    else:
        asked += [Call("eth_getTransactionReceipt", ("0x" + found.hex(),)) for found in one.receipts.values()]
    return asked


def _take(endpoint: Endpoint, one: Wanted, call: Call, raw: msgspec.Raw, found: Surroundings) -> None:
    match call.method:
        case "eth_getBlockByNumber":
            block = parse(raw, _block.decode, "block")
            _check_block(endpoint, one, block.hash if block else None)
            assert block is not None
            if one.block:
                found.blocks.append(parse(raw, lambda _: _block_facts(block), "block"))
            if call.params[1]:
                _take_transactions(endpoint, one, block, found)
        case "eth_getTransactionByHash":
            transaction = parse(raw, _transaction.decode, "transaction")
            _check_block(endpoint, one, transaction.block_hash if transaction else None)
            assert transaction is not None
            found.transactions.append(_checked(endpoint, one.transactions, _transaction_facts(one.number, transaction)))
        case "eth_getTransactionReceipt":
            receipt = parse(raw, _receipt.decode, "receipt")
            _check_block(endpoint, one, receipt.block_hash if receipt else None)
            assert receipt is not None
            found.receipts.append(_checked(endpoint, one.receipts, _receipt_facts(one.number, receipt)))
        case _:
            receipts = {int(r.transaction_index, 16): r for r in parse(raw, _receipts.decode, "list of receipts") or ()}
            for index in one.receipts:
                _check_block(endpoint, one, receipts[index].block_hash if index in receipts else None)
                found.receipts.append(_checked(endpoint, one.receipts, _receipt_facts(one.number, receipts[index])))


def _take_transactions(endpoint: Endpoint, one: Wanted, block: _WireBlock, found: Surroundings) -> None:
    for index in one.transactions:
        if index >= len(block.transactions):
            raise wrong(f"block {one.number} has no transaction {index}, whose log it told before", endpoint)
        transaction = parse(block.transactions[index], _transaction.decode, "transaction")
        if transaction is None:
            raise wrong(f"transaction {index} of block {one.number} is null", endpoint)
        found.transactions.append(_checked(endpoint, one.transactions, _transaction_facts(one.number, transaction)))


def _check_block(endpoint: Endpoint, one: Wanted, block_hash: str | None) -> None:
    if block_hash is None or hex_bytes(block_hash) != one.hash:
        what = "does not have" if block_hash is None else "has another"
        raise LaggingError(f"it {what} block {one.number:,} 0x{one.hash.hex()[:8]}…", host=endpoint.host)


def _checked(endpoint: Endpoint, asked: Mapping[int, bytes], facts: TransactionFacts) -> TransactionFacts:
    if asked.get(facts.index) != facts.hash:
        raise wrong(
            f"block {facts.number} has another transaction {facts.index} than the one that bore a log", endpoint
        )
    return facts


def _block_facts(block: _WireBlock) -> BlockFacts:
    return BlockFacts(
        number=int(block.number, 16),
        hash=hex_bytes(block.hash),
        time=seconds(block.timestamp),
        miner=hex_bytes(block.miner),
        gas_limit=int(block.gas_limit, 16),
        gas_used=int(block.gas_used, 16),
        base_fee=_number(block.base_fee_per_gas),
        transaction_count=len(block.transactions),
        size=_number(block.size),
    )


def _transaction_facts(number: int, wire: _WireTransaction) -> TransactionFacts:
    return TransactionFacts(
        number=number,
        index=int(wire.transaction_index, 16),
        hash=hex_bytes(wire.hash),
        sender=hex_bytes(wire.from_),
        recipient=_bytes(wire.to),
        type=_number(wire.type),
        value=int(wire.value, 16),
        nonce=int(wire.nonce, 16),
        gas_limit=int(wire.gas, 16),
    )


def _receipt_facts(number: int, wire: _WireReceipt) -> TransactionFacts:
    return TransactionFacts(
        number=number,
        index=int(wire.transaction_index, 16),
        hash=hex_bytes(wire.transaction_hash),
        sender=hex_bytes(wire.from_),
        recipient=_bytes(wire.to),
        type=_number(wire.type),
        status=_number(wire.status),
        gas_used=int(wire.gas_used, 16),
        effective_gas_price=_number(wire.effective_gas_price),
        created_contract=_bytes(wire.contract_address),
    )


def _number(text: str | None) -> int | None:
    return None if text is None else int(text, 16)


def _bytes(text: str | None) -> bytes | None:
    return hex_bytes(text) if text else None


def is_missing_method(error: FatalError) -> bool:
    """Whether an endpoint refused the method as such, and will always do."""
    return error.scope == "method"
