"""What travels between us and a node: JSON-RPC envelopes, blocks and logs as typed records, parsed from the raw bytes.

web3's own formatters cost 40 times the parsing; so its provider carries the bytes and msgspec reads them.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from indexer.chain.records.errors import AnswerError
from indexer.chain.records.header_hash import hashes_to_its_name

if TYPE_CHECKING:
    from indexer.chain.records.log_filter import LogFilter

T = TypeVar("T")

# Beyond this a Unix time is no time in seconds (it would be the year 5138) but in milliseconds or finer.
LATEST_SECOND = 10**11
_HEX = re.compile(r"0x([0-9a-fA-F]*)")


@dataclass(frozen=True, slots=True)
class Call:
    """One JSON-RPC question.

    Attributes:
        method: the method's name.
        params: its parameters, JSON-ready.
        blocks: the blocks (inclusive) that an ``eth_getLogs`` asks for; None for every other method.
        filters: what an ``eth_getLogs`` asks for in those blocks; None for every other method.
    """

    method: str
    params: Sequence[Any]
    blocks: tuple[int, int] | None = None
    filters: "LogFilter | None" = None

    @property
    def kind(self) -> str:
        """The method, and what the question leaves open: some nodes refuse ``eth_getLogs`` of any address."""
        return self.method if self.filters is None else self.filters.kind


class Envelope(msgspec.Struct, gc=False):
    """A JSON-RPC answer whose result is still raw bytes."""

    id: Any = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: Any = None


class WireLog(msgspec.Struct, rename="camel", gc=False):
    """A log as nodes write it. ``block_timestamp`` is new, and most nodes lack it."""

    address: str
    topics: list[str]
    data: str | None = None
    log_index: str | None = None
    block_number: str | None = None
    block_hash: str | None = None
    transaction_hash: str | None = None
    transaction_index: str | None = None
    block_timestamp: str | int | None = None
    removed: bool | None = None


class _WireHeader(msgspec.Struct, rename="camel", gc=False):
    number: str
    hash: str
    parent_hash: str
    timestamp: str | int
    logs_bloom: str | None = None


class WireReceipt(msgspec.Struct, rename="camel", gc=False):
    """A receipt, as far as its logs go."""

    logs: list[WireLog]


class Header(msgspec.Struct, frozen=True, gc=False):
    """A block's header, as far as indexing needs it.

    Attributes:
        number: the block number.
        hash: 32 bytes.
        parent_hash: 32 bytes.
        time: Unix time in whole seconds.
        logs_bloom: 256 bytes; zeros where the node gives none.
        proven: all of it, the bloom too, was seen to hash to the hash.
    """

    number: int
    hash: bytes
    parent_hash: bytes
    time: int
    logs_bloom: bytes = bytes(256)
    proven: bool = False


class WireBlock(msgspec.Struct, gc=False):
    """A block, as far as the hashes of its transactions go."""

    transactions: list[str]


_envelope = msgspec.json.Decoder(Envelope)
_envelopes = msgspec.json.Decoder(list[Envelope])
_header: msgspec.json.Decoder[_WireHeader | None] = msgspec.json.Decoder(_WireHeader | None)
logs_decoder = msgspec.json.Decoder(list[WireLog])
receipts_decoder = msgspec.json.Decoder(list[WireReceipt])
block_decoder = msgspec.json.Decoder(WireBlock)
receipt_decoder = msgspec.json.Decoder(WireReceipt)
_string = msgspec.json.Decoder(str)
encode = msgspec.json.Encoder().encode


def encode_call(call: Call, number: int) -> bytes:
    """One question as a request body."""
    return encode({"jsonrpc": "2.0", "id": number, "method": call.method, "params": call.params})


def encode_batch(calls: Sequence[Call], first_number: int) -> bytes:
    """Several questions as the body of one batch; their ids count up from the given one."""
    return encode(
        [
            {"jsonrpc": "2.0", "id": first_number + position, "method": call.method, "params": call.params}
            for position, call in enumerate(calls)
        ]
    )


def parse_envelopes(body: bytes) -> Envelope | list[Envelope]:
    """A response body as one answer or a list of answers.

    Raises:
        msgspec.DecodeError: it is neither (a gateway's HTML page, a body cut short).
    """
    return _envelopes.decode(body) if body.lstrip()[:1] == b"[" else _envelope.decode(body)


def parse(raw: msgspec.Raw, read: Callable[[msgspec.Raw], T], what: str) -> T:
    """Reads a result with a decoder; whatever has another shape is an :class:`AnswerError`."""
    try:
        return read(raw)
    except (msgspec.DecodeError, ValueError, UnicodeError) as error:
        problem = f"the answer is no {what}: {error}"
    raise AnswerError(problem)


def parse_header(raw: msgspec.Raw) -> Header | None:
    """A block (its transactions are skipped unread) as a header; None for ``null``.

    Raises:
        AnswerError: it is no block, or a pending one without a hash.
    """
    return parse(raw, _read_header, "block")


def parse_proven_header(raw: msgspec.Raw) -> Header | None:
    """As :func:`parse_header`, and says whether the header hashes to its hash: half a millisecond's work."""
    header = parse_header(raw)
    return header if header is None else msgspec.structs.replace(header, proven=hashes_to_its_name(raw))


def parse_hex_bytes(raw: msgspec.Raw) -> bytes:
    """A JSON string of hex digits as bytes. Raises AnswerError where it is none."""
    return parse(raw, lambda text: hex_bytes(_string.decode(text)), "hex string")


def parse_quantity(raw: msgspec.Raw) -> int:
    """A JSON string such as ``"0x1f"`` as an integer. Raises AnswerError where it is none."""
    return parse(raw, lambda text: int(_string.decode(text), 16), "quantity")


def revert_data(error: object) -> bytes:
    """The revert data in a JSON-RPC error object, wherever the node put it; empty where there is none.

    geth and most others: ``data: "0x..."``; Nethermind and OpenEthereum: ``data: "Reverted 0x..."``; Ganache and
    Hardhat: an object with the data in it.
    """
    found = error.get("data") if isinstance(error, dict) else None
    if isinstance(found, dict):
        found = found.get("data") or found.get("result")
    match = _HEX.search(found) if isinstance(found, str) else None
    digits = match[1] if match else ""
    return bytes.fromhex(digits[: len(digits) // 2 * 2])


def hex_bytes(text: str) -> bytes:
    """``0x…`` as bytes. Raises ValueError."""
    return bytes.fromhex(text.removeprefix("0x"))


def seconds(value: str | int) -> int:
    """A time as nodes write it (hex or number; seconds, some milliseconds or finer) as Unix seconds.

    Raises:
        ValueError: it is no number.
    """
    number = value if isinstance(value, int) else int(value, 0)
    while number > LATEST_SECOND:
        number //= 1000
    return number


def _bloom(text: str | None) -> bytes:
    """A bloom; what is left out or written short (``0x``, ``0x0``) is as good as none."""
    digits = (text or "").removeprefix("0x")
    return bytes.fromhex(digits) if len(digits) == 2 * 256 else bytes(256)


def _read_header(raw: msgspec.Raw) -> Header | None:
    wire = _header.decode(raw)
    if wire is None:
        return None
    header = Header(
        number=int(wire.number, 16),
        hash=hex_bytes(wire.hash),
        parent_hash=hex_bytes(wire.parent_hash),
        time=seconds(wire.timestamp),
        logs_bloom=_bloom(wire.logs_bloom),
    )
    if len(header.hash) != 32 or len(header.parent_hash) != 32:
        raise ValueError("a hash that is not 32 bytes")
    return header
