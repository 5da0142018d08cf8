"""A block's header held against its hash: what hashes to the block's hash is the block's own, bloom included. Pure.

The hash is that of the header's fields (Yellow Paper, 4.4.3; EIP-1559, 4895, 4844, 4788 and 7685 append some). Hex is
read strictly: what is proven must not rest on a lenient reading.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import rlp
from eth_hash.auto import keccak

from indexer.errors import GaplessError

_any = msgspec.json.Decoder(dict[str, Any])


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


def hashes_to_its_name(raw: msgspec.Raw | bytes) -> bool:
    """Whether a node's JSON of a block is that of a header whose fields hash to the hash that it names."""
    try:
        check_header(_any.decode(raw))
    except (NotProvableError, msgspec.DecodeError, ValueError):
        return False
    return True
