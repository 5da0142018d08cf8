"""What surrounds logs: the blocks and transactions that bore them, with their receipts, from the fewest questions.

A block with whole transactions is one question however many of them are wanted; so are all of its receipts
(``eth_getBlockReceipts``, which not every node has). Where one or two of many are wanted, each is asked for by itself;
so is each where the question for all of them fails. What cannot be had holds up nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from indexer.block_records import BlockFacts, TransactionDetails, TransactionFacts, UnavailableDetail
from indexer.chain.reads.questions import wrong
from indexer.chain.records.errors import FatalError, LaggingError, ProviderError
from indexer.chain.records.messages import Call, hex_bytes, parse, seconds
from indexer.chain.rpc.answers import ask_in_pieces
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

# From so many wanted receipts of a block on, all of its receipts are asked for.
_WHOLE_FROM = 3


@dataclass(frozen=True, slots=True)
class DetailsRequest:
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


# A quantity as nodes write it: hex, some a plain number.
_Quantity = str | int | None


class _WireTransaction(msgspec.Struct, rename="camel", gc=False):
    hash: str
    block_hash: str | None = None
    transaction_index: _Quantity = None
    from_: str | None = msgspec.field(name="from", default=None)
    value: _Quantity = None
    nonce: _Quantity = None
    gas: _Quantity = None
    to: str | None = None
    type: _Quantity = None


class _WireReceipt(msgspec.Struct, rename="camel", gc=False):
    transaction_hash: str
    block_hash: str | None = None
    transaction_index: _Quantity = None
    from_: str | None = msgspec.field(name="from", default=None)
    gas_used: _Quantity = None
    to: str | None = None
    type: _Quantity = None
    status: _Quantity = None
    effective_gas_price: _Quantity = None
    contract_address: str | None = None


class _WireBlock(msgspec.Struct, rename="camel", gc=False):
    hash: str
    timestamp: str | int
    gas_limit: _Quantity = None
    gas_used: _Quantity = None
    transactions: list[msgspec.Raw] | None = None
    miner: str | None = None
    base_fee_per_gas: _Quantity = None
    size: _Quantity = None


_transaction = msgspec.json.Decoder(_WireTransaction | None)
_receipt = msgspec.json.Decoder(_WireReceipt | None)
_raws = msgspec.json.Decoder(list[msgspec.Raw] | None)
_block = msgspec.json.Decoder(_WireBlock | None)


@dataclass(frozen=True, slots=True)
class _Question:
    """One question about one block."""

    one: DetailsRequest
    call: Call

    @property
    def is_whole(self) -> bool:
        """Whether it asks for several things at once, which can be asked for one by one."""
        return self.call.method == "eth_getBlockReceipts" or bool(
            self.call.method == "eth_getBlockByNumber" and self.call.params[1]
        )


class Reader:
    """Reads what is wanted, over as many attempts and endpoints as it takes: what came is kept.

    Args:
        wanted: blocks, each once.

    Attributes:
        found: what came so far.
    """

    def __init__(self, wanted: Sequence[DetailsRequest]) -> None:
        self.found = TransactionDetails()
        self._questions = [_Question(one, call) for one in wanted for call in calls(one, whole_receipts=True)]
        self._failed: dict[int, ProviderError] = {}
        self._open = dict(enumerate(self._questions))

    @property
    def is_done(self) -> bool:
        """Whether all is there."""
        return not self._open

    def read(self, endpoint: Endpoint, context: RequestContext, *, whole_receipts: bool = True) -> None:
        """Ask one endpoint for what is still lacking, in batches where it takes them.

        Args:
            endpoint: the endpoint to ask.
            context: counts requests.
            whole_receipts: whether it has ``eth_getBlockReceipts``.

        Raises:
            ProviderError: the first of the failures of what is still lacking: AnswerError where something else than
                asked for was answered, LaggingError where it lacks it or has another block of that number, FatalError
                where it does not have the method.
        """
        if not whole_receipts:
            self.split("eth_getBlockReceipts")
        pieces = ask_in_pieces(
            endpoint,
            {key: question.call for key, question in self._open.items()},
            context,
            lambda key, raw: self._take(endpoint, self._open[key], raw),
        )
        for key in pieces.found:
            del self._open[key]
        self._failed = pieces.failed
        for error in self._failed.values():
            raise error

    def split(self, method: str | None = None) -> None:
        """Ask one by one for what questions for several things have not brought.

        Args:
            method: only of these questions; None: of all.
        """
        for key, question in list(self._open.items()):
            if question.is_whole and method in (None, question.call.method):
                del self._open[key]
                for call in _singly(question):
                    self._questions.append(_Question(question.one, call))
                    self._open[len(self._questions) - 1] = self._questions[-1]

    def give_up(self, error: ProviderError) -> None:
        """Note what is still lacking as missing, each with its own reason or else this one."""
        self.split()
        for key, question in self._open.items():
            reason = str(self._failed.get(key, error))
            self.found.missing += _missing(question, reason)
        self._open.clear()

    def _take(self, endpoint: Endpoint, question: _Question, raw: msgspec.Raw) -> None:
        one, found = question.one, self.found
        match question.call.method:
            case "eth_getBlockByNumber":
                block = parse(raw, _block.decode, "block")
                _check_block(endpoint, one, block.hash if block else None)
                assert block is not None
                transactions = _transactions(endpoint, one, block) if question.call.params[1] else []
                if one.block:
                    found.blocks.append(parse(raw, lambda _: _block_facts(one.number, block), "block"))
                found.transactions += transactions
            case "eth_getTransactionByHash":
                found.transactions.append(_transaction_of(endpoint, one, raw))
            case "eth_getTransactionReceipt":
                found.receipts.append(_receipt_of(endpoint, one, raw))
            case _:
                found.receipts += _receipts_of(endpoint, one, raw)


def _singly(question: _Question) -> list[Call]:
    one = question.one
    if question.call.method == "eth_getBlockReceipts":
        return [_receipt_call(tx_hash) for tx_hash in one.receipts.values()]
    header = [Call("eth_getBlockByNumber", (hex(one.number), False))] if one.block else []
    return header + [_transaction_call(tx_hash) for tx_hash in one.transactions.values()]


def _missing(question: _Question, reason: str) -> list[UnavailableDetail]:
    one = question.one
    if question.call.method == "eth_getBlockByNumber":
        return [UnavailableDetail(one.number, "block", -1, one.hash, reason)]
    kind = "transaction" if question.call.method == "eth_getTransactionByHash" else "receipt"
    asked = one.transactions if kind == "transaction" else one.receipts
    return [
        UnavailableDetail(one.number, kind, index, tx_hash, reason)
        for index, tx_hash in asked.items()
        if question.call.params == ("0x" + tx_hash.hex(),)
    ]


def _transaction_call(tx_hash: bytes) -> Call:
    return Call("eth_getTransactionByHash", ("0x" + tx_hash.hex(),))


def _receipt_call(tx_hash: bytes) -> Call:
    return Call("eth_getTransactionReceipt", ("0x" + tx_hash.hex(),))


def calls(one: DetailsRequest, whole_receipts: bool) -> list[Call]:
    """The fewest questions that bring what is wanted of one block."""
    asked: list[Call] = []
    whole = len(one.transactions) > 1 or (bool(one.transactions) and one.block)
    if one.block or whole:
        asked.append(Call("eth_getBlockByNumber", (hex(one.number), whole)))
    if not whole:
        asked += [_transaction_call(found) for found in one.transactions.values()]
    if whole_receipts and len(one.receipts) >= _WHOLE_FROM:
        asked.append(Call("eth_getBlockReceipts", (hex(one.number),)))
    else:
        asked += [_receipt_call(found) for found in one.receipts.values()]
    return asked


def _transactions(endpoint: Endpoint, one: DetailsRequest, block: _WireBlock) -> list[TransactionFacts]:
    listed = block.transactions or []
    found = []
    for index, tx_hash in one.transactions.items():
        if index >= len(listed):
            raise wrong(f"block {one.number} has no transaction {index}, whose log it told before", endpoint)
        found.append(_transaction_of(endpoint, one, listed[index], tx_hash))
    return found


def _transaction_of(
    endpoint: Endpoint, one: DetailsRequest, raw: msgspec.Raw, tx_hash: bytes | None = None
) -> TransactionFacts:
    wire = parse(raw, _transaction.decode, "transaction")
    if wire is None:
        raise LaggingError(f"it does not have a transaction of block {one.number:,}", host=endpoint.host)
    _check_block(endpoint, one, wire.block_hash or "0x" + one.hash.hex())
    index = _place(endpoint, one.number, one.transactions, wire.hash, wire.transaction_index)
    if tx_hash is not None and one.transactions[index] != tx_hash:
        raise wrong(f"block {one.number} has another transaction {index} than the one that bore a log", endpoint)
    return parse(raw, lambda _: _transaction_facts(one, index, wire), "transaction")


def _receipts_of(endpoint: Endpoint, one: DetailsRequest, raw: msgspec.Raw) -> list[TransactionFacts]:
    listed = parse(raw, _raws.decode, "list of receipts")
    if listed is None:
        raise LaggingError(f"it does not have the receipts of block {one.number:,}", host=endpoint.host)
    ours = set(one.receipts.values())
    wires = [parse(receipt, _receipt.decode, "receipt") for receipt in listed]
    by_hash = {hex_bytes(wire.transaction_hash): raw for wire, raw in zip(wires, listed, strict=True) if wire}
    if lacking := ours - by_hash.keys():
        text = f"its receipts of block {one.number:,} lack {len(lacking)} whose logs it told before"
        raise LaggingError(text, host=endpoint.host)
    return [_receipt_of(endpoint, one, by_hash[tx_hash]) for tx_hash in one.receipts.values()]


def _receipt_of(endpoint: Endpoint, one: DetailsRequest, raw: msgspec.Raw) -> TransactionFacts:
    wire = parse(raw, _receipt.decode, "receipt")
    if wire is None:
        raise LaggingError(f"it does not have a receipt of block {one.number:,}", host=endpoint.host)
    _check_block(endpoint, one, wire.block_hash or "0x" + one.hash.hex())
    index = _place(endpoint, one.number, one.receipts, wire.transaction_hash, wire.transaction_index)
    return parse(raw, lambda _: _receipt_facts(one, index, wire), "receipt")


def _check_block(endpoint: Endpoint, one: DetailsRequest, block_hash: str | None) -> None:
    if block_hash is None or hex_bytes(block_hash) != one.hash:
        what = "does not have" if block_hash is None else "has another"
        raise LaggingError(f"it {what} block {one.number:,} 0x{one.hash.hex()[:8]}…", host=endpoint.host)


def _place(endpoint: Endpoint, number: int, asked: Mapping[int, bytes], tx_hash: str, told: _Quantity) -> int:
    """The place in its block of a transaction that was asked for."""
    index = next((index for index, one in asked.items() if one == hex_bytes(tx_hash)), None)
    if index is None or (told is not None and _number(told) != index):
        raise wrong(f"block {number} has another transaction {index} than the one that bore a log", endpoint)
    return index


def _block_facts(number: int, block: _WireBlock) -> BlockFacts:
    return BlockFacts(
        number=number,
        hash=hex_bytes(block.hash),
        time=seconds(block.timestamp),
        miner=_bytes(block.miner),
        gas_limit=_number(block.gas_limit),
        gas_used=_number(block.gas_used),
        base_fee=_number(block.base_fee_per_gas),
        transaction_count=None if block.transactions is None else len(block.transactions),
        size=_number(block.size),
    )


def _transaction_facts(one: DetailsRequest, index: int, wire: _WireTransaction) -> TransactionFacts:
    facts = _facts(one.number, index, one.transactions[index], wire)
    facts.value, facts.nonce, facts.gas_limit = _number(wire.value), _number(wire.nonce), _number(wire.gas)
    return facts


def _receipt_facts(one: DetailsRequest, index: int, wire: _WireReceipt) -> TransactionFacts:
    facts = _facts(one.number, index, one.receipts[index], wire)
    facts.status, facts.gas_used = _number(wire.status), _number(wire.gas_used)
    facts.effective_gas_price = _number(wire.effective_gas_price)
    facts.created_contract = _bytes(wire.contract_address)
    return facts


def _facts(number: int, index: int, tx_hash: bytes, wire: _WireTransaction | _WireReceipt) -> TransactionFacts:
    """What a transaction and its receipt say alike."""
    return TransactionFacts(number, index, tx_hash, _bytes(wire.from_), _bytes(wire.to), _number(wire.type))


def _number(value: _Quantity) -> int | None:
    """A quantity; None where there is none, or one that no field of a transaction can hold."""
    if value is None or value in ("", "0x"):
        return None
    number = value if isinstance(value, int) else int(value, 16)
    return number if 0 <= number < 2**256 else None


def _bytes(text: str | None) -> bytes | None:
    return (hex_bytes(text) or None) if text else None


def is_missing_method(error: FatalError) -> bool:
    """Whether an endpoint refused the method as such, and will always do."""
    return error.scope == "method"
