"""Proving what a node says of a block: the header against its hash, the receipts against the header. Pure, no I/O.

The header against its hash is ``records.header_hash``. The receipts' root is that of a trie (Yellow Paper, 4.4.1; typed
receipts: EIP-2718): a leaf is the position of the transaction, its value the receipt: status (or, before Byzantium, the
state's root), cumulative gas, bloom and logs, with the transaction's type in front of it where it has one. Hex is read
strictly: what is proven must not rest on a lenient reading.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rlp
from trie.hexary import HexaryTrie

from indexer.chain.records.header_hash import NotProvableError, check_header, field, octets, quantity, scalar
from indexer.chain.records.validation import RawLog, log_position

# Legacy, EIP-2930, 1559, 4844 and 7702. Deposits and system transactions of rollups have types and rules of their own.
KNOWN_TYPES = frozenset({0, 1, 2, 3, 4})


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
