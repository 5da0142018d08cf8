"""The hash of a header (Yellow Paper, 4.4.3; EIP-1559, 4895, 4844, 4788 and 7685 append fields to it)."""

from collections.abc import Callable, Mapping
from typing import Any

import rlp
from eth_hash.auto import keccak

from indexer.chain.proof.hexes import NotProvableError, octets, quantity, scalar


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
