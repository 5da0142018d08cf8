"""Addresses in the mixed case that carries their checksum: EIP-55 everywhere, EIP-1191 on Rootstock."""

from eth_hash.auto import keccak

# Rootstock and its test network write addresses with a checksum that holds the chain's id.
_CHAINS_OF_THEIR_OWN = (30, 31)


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
