"""Values as people write them and as nodes find them: the topics of indexed arguments, addresses with checksums.

A topic is the 32 bytes by which a node finds an indexed argument of a given value. An address may be written in the
mixed case that carries its checksum: EIP-55 everywhere, EIP-1191 on Rootstock.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from eth_hash.auto import keccak

from indexer.abi.codegen import named
from indexer.abi.types import WORD, AbiError, Array, Elementary, Parameter, Tuple, Type

# Rootstock and its test network write addresses with a checksum that holds the chain's id.
_CHAINS_OF_THEIR_OWN = (30, 31)
_HEX = re.compile(r"0[xX](?:[0-9a-fA-F]{2})*")
_DECIMAL = re.compile(r"-?[0-9]{1,78}")
_POINTED = re.compile(r"(-?[0-9]{1,78})(?:\.([0-9]{1,80}))?")
_QUANTITY = re.compile(r"0[xX][0-9a-fA-F]{1,64}")


def topic_value(parameter: Parameter, value: object) -> bytes:
    """The topic of an indexed argument that has this value.

    Strings, bytes, arrays and tuples are hashed, as the ABI specification says under "Encoding of Indexed Event
    Parameters".

    Args:
        parameter: the indexed argument.
        value: as a manifest writes it: an address or bytes as 0x hex (or as bytes), a number as an int, a decimal
            string or 0x hex, a bool, a string; an array as a list, a tuple as a list or an object.

    Raises:
        AbiError: the argument has no such value; the message says what it may be, not which argument it is.
    """
    if not parameter.indexed:
        raise AbiError("the argument is not indexed: a node cannot search for it")
    if parameter.is_hashed:
        return keccak(_preimage(parameter.type, value))
    return _word(parameter.type, value)


def _preimage(of: Type, value: object) -> bytes:
    match of:
        case Elementary(kind="string"):
            if not isinstance(value, str):
                raise AbiError("expected a string")
            try:
                return value.encode()
            except UnicodeEncodeError:
                raise AbiError("expected a string of whole characters") from None
        case Elementary(kind="bytes"):
            return _bytes(value, None)
        case Elementary():
            return _word(of, value)
        case Array():
            if not _is_list(value) or (of.length is not None and len(value) != of.length):
                raise AbiError(f"expected a list of {'' if of.length is None else f'{of.length} '}{of.item.canonical}")
            return b"".join(_padded(_preimage(of.item, item)) for item in value)
        case Tuple():
            values = _components(of, value)
            pairs = zip(of.components, values, strict=True)
            return b"".join(_padded(_preimage(c.type, item)) for c, item in pairs)


def _padded(encoded: bytes) -> bytes:
    return encoded + bytes(-len(encoded) % WORD)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))


def _components(of: Tuple, value: object) -> Sequence[object]:
    names = [name for name, _ in named(of.components)]
    if isinstance(value, Mapping) and set(value) == set(names):
        return [value[name] for name in names]
    if _is_list(value) and len(value) == len(names):
        return list(value)
    raise AbiError(f"expected an object with the keys {', '.join(names)}, or a list of {len(names)} values")


def _word(of: Type, value: object) -> bytes:
    """The encoding of an elementary value that fits into a word."""
    # Half of a second to import, and only a manifest with filters needs it.
    from eth_abi.abi import encode

    assert isinstance(of, Elementary)
    name, plain = of.canonical, value
    match of.kind:
        case "address":
            plain = _address(value)
        case "bytesN" | "function":
            plain = _bytes(value, of.size)
        case "bool":
            if not isinstance(value, bool):
                raise AbiError("expected true or false")
        case "ufixed" | "fixed":
            name, plain = f"{of.kind.removesuffix('fixed')}int{of.size}", _scaled(of, value)
        case _:
            plain = _integer(of, value)
    encoded: bytes = encode([name], [plain])
    return encoded


def _bytes(value: object, size: int | None) -> bytes:
    expected = "0x hex of whole bytes" if size is None else f"0x hex of exactly {size} bytes"
    if isinstance(value, str) and _HEX.fullmatch(value):
        value = bytes.fromhex(value[2:])
    if not isinstance(value, bytes) or (size is not None and len(value) != size):
        raise AbiError(f"expected {expected}")
    return value


def _address(value: object) -> bytes:
    raw = _bytes(value, 20)
    if isinstance(value, str) and not is_well_cased(value[2:]):
        raise AbiError(f"the address has a wrong checksum: {checksummed(raw)} would be right")
    return raw


def _integer(of: Elementary, value: object) -> int:
    low, high = _range(of)
    if isinstance(value, str):
        if _DECIMAL.fullmatch(value):
            value = int(value)
        elif _QUANTITY.fullmatch(value):
            value = int(value, 16)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise AbiError(f"expected a whole number of {of.canonical}, {low} to {high}, as a number or a string")
    return value


def _scaled(of: Elementary, value: object) -> int:
    """A fixed-point value times 10 ** places, which is what is encoded."""
    low, high = _range(of)
    match = _POINTED.fullmatch(str(value)) if isinstance(value, (str, int)) else None
    if match and len(match[2] or "") <= of.places:
        scaled = int(match[1] + (match[2] or "").ljust(of.places, "0"))
        if low <= scaled <= high:
            return scaled
    raise AbiError(f"expected a decimal number of {of.canonical}, with at most {of.places} places, as a string")


def _range(of: Elementary) -> tuple[int, int]:
    if of.kind in ("uint", "ufixed"):
        return 0, 2**of.size - 1
    return -(2 ** (of.size - 1)), 2 ** (of.size - 1) - 1


def checksummed(address: bytes, chain_id: int | None = None) -> str:
    """Return an address in the mixed case that carries its checksum.

    Args:
        address: 20 bytes.
        chain_id: the chain whose own checksum to write (EIP-1191), or None for the one of all chains (EIP-55).
    """
    digits = address.hex()
    marks = keccak((digits if chain_id is None else f"{chain_id}0x{digits}").encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(mark, 16) >= 8 else digit for digit, mark in zip(digits, marks, strict=False)
    )


def is_well_cased(digits: str) -> bool:
    """Whether 40 hex digits are in one case, or in the mixed case of a right checksum."""
    if digits in (digits.lower(), digits.upper()):
        return True
    address = bytes.fromhex(digits)
    return any("0x" + digits == checksummed(address, chain_id) for chain_id in (None, *_CHAINS_OF_THEIR_OWN))
