"""A block whose logs are proven: header and receipts fit together, and to the block's hash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from indexer.chain.proof.header import check_header
from indexer.chain.proof.hexes import NotProvableError, field, octets, quantity
from indexer.chain.proof.receipts import logs_of, receipts_root
from indexer.chain.records.validation import RawLog, log_position


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
