"""Why a call failed, in words: pure.

Solidity reverts with ``Error(string)``, ``Panic(uint256)`` or a custom error of the contract's ABI; the panic codes are
listed in the Solidity documentation ("Panic via assert and Error via require").
"""

from collections.abc import Sequence

from indexer.abi.decoder import UndecodableLog, compile_values
from indexer.abi.model import Abi

_ERROR = bytes.fromhex("08c379a0")
_PANIC = bytes.fromhex("4e487b71")
_PANICS = {
    0x00: "generic panic",
    0x01: "assertion failed",
    0x11: "arithmetic overflow or underflow",
    0x12: "division by zero",
    0x21: "value out of an enum's range",
    0x22: "wrongly encoded storage byte array",
    0x31: "pop of an empty array",
    0x32: "array index out of bounds",
    0x41: "out of memory",
    0x51: "call of an uninitialised function",
}
_MAX_REASON = 500


def reason(data: bytes, abi: Abi) -> str:
    """What a contract said when it reverted.

    Args:
        data: what the call returned, any bytes.
        abi: the contract's, for its custom errors.
    """
    if not data:
        return "reverted without a reason"
    selector, body = data[:4], data[4:]
    if selector == _ERROR and len(body) >= 64:
        length = int.from_bytes(body[32:64])
        text = body[64 : 64 + min(length, _MAX_REASON)].decode(errors="replace").replace("\0", "\ufffd")
        return f"reverted: {text}"
    if selector == _PANIC and len(body) >= 32:
        code = int.from_bytes(body[:32])
        return f"panic 0x{code:02x}: {_PANICS.get(code, 'unknown code')}"[:_MAX_REASON]
    for error in abi.errors:
        if error.selector == selector:
            try:
                values = compile_values(error.inputs).decode(body, [])
            except UndecodableLog:
                break
            return f"reverted: {error.name}({_shown(values)})"[:_MAX_REASON]
    return f"reverted with 0x{data[:64].hex()}" + ("…" if len(data) > 64 else "")


def _shown(values: Sequence[object]) -> str:
    return ", ".join("0x" + value.hex() if isinstance(value, bytes) else str(value) for value in values)
