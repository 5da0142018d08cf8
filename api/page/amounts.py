"""Amounts of tokens as people write them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

#: The events whose last argument is an amount of the token that emitted them: ERC-20, and WETH9's two. ERC-721 has the
#: same signatures, but its last argument is indexed: it is the id of a token.
_SIGNATURES: Final = frozenset(
    (
        "Transfer(address,address,uint256)",
        "Approval(address,address,uint256)",
        "Deposit(address,uint256)",
        "Withdrawal(address,uint256)",
    )
)
#: More digits than any uint256 has.
_MOST_DECIMALS: Final = 77
_SHOWN_DECIMALS: Final = 6


def amount_argument(signature: str, columns: Sequence[Any]) -> str | None:
    """The name of the argument that is an amount of the emitting token, or None.

    Args:
        signature: of the event.
        columns: its :class:`indexer.abi.columns.Column` in order.
    """
    if signature not in _SIGNATURES or columns[-1].indexed:
        return None
    return str(columns[-1].argument)


def human(units: int, decimals: int) -> str:
    """An amount with its point and with groups of three digits; cut off, never rounded, after six decimals.

    Args:
        units: in the token's smallest unit.
        decimals: of the token.
    """
    sign, digits = "-" if units < 0 else "", str(abs(units)).rjust(decimals + 1, "0")
    whole, fraction = (digits[:-decimals], digits[-decimals:].rstrip("0")) if decimals else (digits, "")
    shown = fraction[:_SHOWN_DECIMALS]
    if len(fraction) > _SHOWN_DECIMALS:
        shown += "…"
    return f"{sign}{int(whole):,}" + (f".{shown}" if shown else "")


def decimals_of(token: Mapping[str, Any] | None) -> int | None:
    """A token's decimals where they are known and sensible: unknown ones are neither 0 nor 18."""
    decimals = (token or {}).get("decimals")
    return decimals if isinstance(decimals, int) and 0 <= decimals <= _MOST_DECIMALS else None
