"""Values as the pages show them: what strangers chose is nothing but text, amounts of tokens are as people write them.

Names of tokens, strings of events and messages of nodes come from strangers. Escaping is Jinja's. :func:`said` also
takes the power of such a text over the lines around it: control characters, changes of the writing direction, endless
length.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from markupsafe import Markup

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

#: How much of a stranger's text is shown.
MOST_SAID: Final = 60

_HEX: Final = re.compile(r"0x[0-9a-f]{16,}")


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


def said(text: object, most: int = MOST_SAID) -> Markup:
    """Show what a stranger chose, cleaned and cut.

    Args:
        text: anything; its ``str`` is shown.
        most: characters that are shown.
    """
    shown = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c)[0] == "C" else c for c in str(text))
    # Marks pile up above and below a letter without end; no name of a token needs more than a few.
    shown = _without_piles(shown)
    cut = shown if len(shown) <= most else shown[: most - 1] + "…"
    return Markup('<bdi class="said">{}</bdi>').format(cut)


def _without_piles(text: str, most: int = 2) -> str:
    kept, pile = [], 0
    for character in text:
        pile = pile + 1 if unicodedata.category(character)[0] == "M" else 0
        if pile <= most:
            kept.append(character)
    return "".join(kept)


def member(value: object) -> str:
    """A member of a JSON object as text: strings as they are, all else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def argument(value: Any, token: Mapping[str, Any] | None) -> Markup:
    """Show an event's argument.

    Args:
        value: as the API has it.
        token: what the emitting token says of itself, where the argument is an amount of it.
    """
    decimals = decimals_of(token)
    if token is not None and decimals is not None and isinstance(value, str):
        symbol = said(token["symbol"], 16) if token.get("symbol") else ""
        title = f"{value} of its smallest unit; {decimals} decimals"
        return Markup('<span title="{}"><b>{}</b> {}</span>').format(title, human(int(value), decimals), symbol)
    text = member(value)
    if _HEX.fullmatch(text):
        shown = f"{text[:8]}…{text[-6:]}"
        if len(text) > 200:
            return Markup("<code>{}</code>").format(shown)
        return Markup('<code title="{}">{}</code>').format(text, shown)
    return said(text, 80)  # as long as any number


def number(value: int | None) -> str:
    """With groups of three digits."""
    return "unknown" if value is None else f"{value:,}"


def volume(octets: int) -> str:
    """Bytes in their largest unit."""
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if octets >= length:
            return f"{octets / length:.1f} {unit}"
    return f"{octets} B"


def percent(wanted: int, missing: int) -> str:
    """Rounded down: what is not whole is never shown as 100 %."""
    if not wanted:
        return "nothing to do yet"
    return "100 %" if not missing else f"{10_000 * (wanted - missing) // wanted / 100:.2f} %"
