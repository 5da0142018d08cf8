"""The root of a block's receipts (Yellow Paper, 4.4.1; typed receipts: EIP-2718).

A leaf is the position of the transaction, its value the receipt: status (or, before Byzantium, the state's root),
cumulative gas, bloom and logs, with the transaction's type in front of it where it has one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import rlp
from trie.hexary import HexaryTrie

from indexer.chain.proof.hexes import NotProvableError, octets, quantity, scalar

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
