"""Proving what a node says of a block: the header against its hash, the receipts against the header. Pure, no I/O.

The hash is that of the header's fields (Yellow Paper, 4.4.3; EIP-1559, 4895, 4844, 4788 and 7685 append some). The
receipts' root is that of a trie (Yellow Paper, 4.4.1; typed receipts: EIP-2718): a leaf is the position of the
transaction, its value the receipt: status (or, before Byzantium, the state's root), cumulative gas, bloom and logs,
with the transaction's type in front of it where it has one. Hex is read strictly: what is proven must not rest on a
lenient reading.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rlp
from eth_hash.auto import keccak
from trie.hexary import HexaryTrie

from indexer.chain.records.validation import RawLog, log_position
from indexer.errors import GaplessError

# Legacy, EIP-2930, 1559, 4844 and 7702. Deposits and system transactions of rollups have types and rules of their own.
KNOWN_TYPES = frozenset({0, 1, 2, 3, 4})


class NotProvableError(GaplessError):
    """The block cannot be proven by the rules known here; that says nothing against it."""


def field(document: Mapping[str, Any], name: str) -> str:
    """A field's text.

    Raises:
        NotProvableError: it is missing or no text.
    """
    value = document.get(name)
    if not isinstance(value, str) or not value.startswith("0x"):
        raise NotProvableError(f"no field {name}")
    return value


def octets(document: Mapping[str, Any], name: str, size: int | None = None) -> bytes:
    """A field that is bytes, ``size`` of them where that is fixed. Raises NotProvableError."""
    try:
        value = bytes.fromhex(field(document, name)[2:])
    except ValueError:
        value = None
    if value is None or (size is not None and len(value) != size):
        raise NotProvableError(f"{name} is not {'bytes' if size is None else f'{size} bytes'} in hex")
    return value


def quantity(document: Mapping[str, Any], name: str) -> int:
    """A field that is a number. Raises NotProvableError."""
    try:
        return int(field(document, name)[2:] or "0", 16)
    except ValueError:
        pass
    raise NotProvableError(f"{name} is no number in hex")


def scalar(value: int) -> bytes:
    """A number as RLP writes it: big-endian, without leading zeros, zero as nothing."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _number(block: Mapping[str, Any], name: str) -> bytes:
    return scalar(quantity(block, name))


def _sized(size: int | None) -> Callable[[Mapping[str, Any], str], bytes]:
    return lambda block, name: octets(block, name, size)


_FRONTIER: tuple[tuple[str, Callable[[Mapping[str, Any], str], bytes]], ...] = (
    ("parentHash", _sized(32)),
    ("sha3Uncles", _sized(32)),
    ("miner", _sized(20)),
    ("stateRoot", _sized(32)),
    ("transactionsRoot", _sized(32)),
    ("receiptsRoot", _sized(32)),
    ("logsBloom", _sized(256)),
    ("difficulty", _number),
    ("number", _number),
    ("gasLimit", _number),
    ("gasUsed", _number),
    ("timestamp", _number),
    ("extraData", _sized(None)),
    ("mixHash", _sized(32)),
    ("nonce", _sized(8)),
)
_SINCE: tuple[tuple[str, Callable[[Mapping[str, Any], str], bytes]], ...] = (
    ("baseFeePerGas", _number),  # London
    ("withdrawalsRoot", _sized(32)),  # Shanghai
    ("blobGasUsed", _number),  # Cancun
    ("excessBlobGas", _number),
    ("parentBeaconBlockRoot", _sized(32)),
    ("requestsHash", _sized(32)),  # Prague
)


def header_hash(block: Mapping[str, Any]) -> bytes:
    """Hashes a header with the fields of the fork that it shows.

    Args:
        block: the node's own JSON of a block; its ``hash`` is not looked at.

    Raises:
        NotProvableError: a field that every header has is missing or malformed.
    """
    return keccak(rlp.encode(_encoded(block)))


def check_header(block: Mapping[str, Any]) -> bytes:
    """Checks that a header hashes to the hash that the block is known by.

    Returns:
        That hash.

    Raises:
        NotProvableError: it does not: the chain hashes its headers otherwise, or the header is not the block's.
    """
    claimed = octets(block, "hash", 32)
    fields = _encoded(block)
    # Some nodes show fields of forks that are not active yet; the hash tells which of them belong to the header.
    for count in range(len(fields), len(_FRONTIER) - 1, -1):
        if keccak(rlp.encode(fields[:count])) == claimed:
            return claimed
    raise NotProvableError("the header's fields do not hash to the block's hash")


def _encoded(block: Mapping[str, Any]) -> list[bytes]:
    fields = [read(block, name) for name, read in _FRONTIER]
    for name, read in _SINCE:
        if block.get(name) is None:
            break
        fields.append(read(block, name))
    return fields


def receipts_root(receipts: Sequence[Mapping[str, Any]]) -> bytes:
    """Rebuilds the trie of a block's receipts.

    Args:
        receipts: the node's own JSON of every receipt, in the order of the block.

    Returns:
        Its root, as in the header's ``receiptsRoot``.

    Raises:
        NotProvableError: a receipt has a type that is not known here, or lacks a field.
    """
    tree = HexaryTrie({})
    for position, receipt in enumerate(receipts):
        tree[rlp.encode(scalar(position))] = encoded_receipt(receipt)
    return bytes(tree.root_hash)


def encoded_receipt(receipt: Mapping[str, Any]) -> bytes:
    """One receipt as the trie holds it. Raises NotProvableError."""
    kind = 0 if receipt.get("type") is None else quantity(receipt, "type")
    if kind not in KNOWN_TYPES:
        raise NotProvableError(f"a transaction of type {kind}, whose receipts are not known here")
    outcome = octets(receipt, "root", 32) if receipt.get("root") else scalar(quantity(receipt, "status"))
    body: bytes = rlp.encode(
        [
            outcome,
            scalar(quantity(receipt, "cumulativeGasUsed")),
            octets(receipt, "logsBloom", 256),
            [_log(log) for log in logs_of(receipt)],
        ]
    )
    return body if kind == 0 else bytes([kind]) + body


def logs_of(receipt: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A receipt's logs. Raises NotProvableError where it has no such list."""
    logs = receipt.get("logs")
    if not isinstance(logs, list) or not all(isinstance(log, Mapping) for log in logs):
        raise NotProvableError("a receipt without a list of logs")
    return logs


def _log(log: Mapping[str, Any]) -> list[Any]:
    topics = log.get("topics")
    if not isinstance(topics, list):
        raise NotProvableError("a log without a list of topics")
    return [
        octets(log, "address", 20),
        [octets({"topic": topic}, "topic", 32) for topic in topics],
        octets(log, "data"),
    ]


@dataclass(frozen=True, slots=True)
class ProvenBlock:
    """What the chain itself says of a block, given its hash.

    Attributes:
        number: the block.
        hash: 32 bytes; everything else follows from it.
        parent_hash: 32 bytes.
        time: Unix seconds.
        logs: every log of the block, in order. Address, topics, data and both positions are proven; the hashes of the
            transactions are those that the block and the receipts name alike.
    """

    number: int
    hash: bytes
    parent_hash: bytes
    time: int
    logs: tuple[RawLog, ...]


def prove(
    block: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]], *, per_transaction: bool = False
) -> ProvenBlock:
    """Proves a block's logs.

    Args:
        block: the node's own JSON of a block, with its transactions or only their hashes.
        receipts: the node's own JSON of its receipts, in any order.
        per_transaction: the chain numbers the logs of each transaction anew.

    Raises:
        NotProvableError: they do not fit together by the rules known here; the message says where.
    """
    block_hash = check_header(block)
    ordered = sorted(receipts, key=lambda receipt: quantity(receipt, "transactionIndex"))
    root = octets(block, "receiptsRoot", 32)
    if receipts_root(ordered) != root:
        raise NotProvableError("the receipts do not add up to the header's receiptsRoot")
    hashes = _transactions(block)
    if [field(receipt, "transactionHash").lower() for receipt in ordered] != hashes:
        raise NotProvableError("the receipts and the block name different transactions")
    number = quantity(block, "number")
    logs: list[RawLog] = []
    for position, receipt in enumerate(ordered):
        for index, log in enumerate(logs_of(receipt)):
            logs.append(
                RawLog(
                    address=field(log, "address").lower(),
                    topics=[topic.lower() for topic in log["topics"]],
                    data=field(log, "data"),
                    block_number=number,
                    block_hash="0x" + block_hash.hex(),
                    tx_hash=hashes[position],
                    tx_index=position,
                    log_index=log_position(position, index) if per_transaction else len(logs),
                )
            )
    return ProvenBlock(number, block_hash, octets(block, "parentHash", 32), quantity(block, "timestamp"), tuple(logs))


def _transactions(block: Mapping[str, Any]) -> list[str]:
    listed = block.get("transactions")
    if not isinstance(listed, list):
        raise NotProvableError("a block without a list of transactions")
    return [(one if isinstance(one, str) else field(one, "hash")).lower() for one in listed]
