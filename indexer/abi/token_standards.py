"""Token standards: which events are transfers, and of which standard.

Events are known by their signature and arguments by their position, never by a name: ABIs call them what they like.
Light to import: the API uses it too.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from indexer.abi.columns import Column

Standard: TypeAlias = Literal["erc20", "erc721", "erc1155"]

TRANSFER = "Transfer(address,address,uint256)"  # ERC-20 and ERC-721
TRANSFER_SINGLE = "TransferSingle(address,address,address,uint256,uint256)"  # ERC-1155
TRANSFER_BATCH = "TransferBatch(address,address,address,uint256[],uint256[])"  # ERC-1155
CONSECUTIVE_TRANSFER = "ConsecutiveTransfer(uint256,uint256,address,address)"  # ERC-2309, for ERC-721
SIGNATURES = (TRANSFER, TRANSFER_SINGLE, TRANSFER_BATCH, CONSECUTIVE_TRANSFER)

BY_STANDARD = (frozenset({TRANSFER}), frozenset({TRANSFER_SINGLE, TRANSFER_BATCH}))
"""A token has at least one event of one of these: of ERC-20 or ERC-721, which share it, or of ERC-1155."""

# What tells the two standards of a Transfer apart, where an ABI has it: functions and events of one of them alone.
_ONLY_ERC721 = frozenset(
    {
        "ownerOf(uint256)",
        "getApproved(uint256)",
        "tokenURI(uint256)",
        "safeTransferFrom(address,address,uint256)",
        "safeTransferFrom(address,address,uint256,bytes)",
        "setApprovalForAll(address,bool)",
        "isApprovedForAll(address,address)",
        "ApprovalForAll(address,address,bool)",
        CONSECUTIVE_TRANSFER,
    }
)
_ONLY_ERC20 = frozenset({"allowance(address,address)", "decimals()"})

# What ABIs have whose tokens change balances without a Transfer: each with how they do it.
_SILENT: Mapping[frozenset[str], str] = {
    frozenset({"Deposit(address,uint256)", "Withdrawal(address,uint256)"}): "it wraps, and may mint and burn silently",
    frozenset({"LogRebase(uint256,uint256)"}): "it rebases",
    frozenset({"rebase(uint256,int256)"}): "it rebases",
    frozenset({"getPooledEthByShares(uint256)"}): "what holders have follows from shares",
    frozenset({"sharesOf(address)"}): "what holders have follows from shares",
    frozenset({"scaledBalanceOf(address)"}): "what holders have grows with interest",
    frozenset({"rebasingCreditsPerToken()"}): "it rebases",
    frozenset({"reflectionFromToken(uint256,bool)"}): "it gives a part of every transfer to all holders",
}


def standard_of(
    signature: str, columns: Sequence[Column], abi: Sequence[Mapping[str, Any]], *, anonymous: bool = False
) -> Standard | None:
    """The token standard that an event belongs to; None: it tells of no transfer.

    ERC-20 and ERC-721 share a signature. What else is in the ABI tells them apart; where it has nothing of either,
    whether the last argument is indexed does, as the standards have it (early ERC-721s index nothing).

    Args:
        signature: the event's.
        columns: its arguments.
        abi: its contract's ABI.
        anonymous: whether it is.
    """
    if anonymous:
        return None
    if signature in (TRANSFER_SINGLE, TRANSFER_BATCH):
        return "erc1155"
    if signature == CONSECUTIVE_TRANSFER:
        return "erc721"
    if signature != TRANSFER:
        return None
    return _by_abi(abi) or ("erc721" if columns[2].indexed else "erc20")


def doubt(events: Sequence[tuple[str, Sequence[Column]]], abi: Sequence[Mapping[str, Any]]) -> str | None:
    """Why transfers may be missing or misread where only some events are indexed; None: nothing speaks for it.

    Args:
        events: signatures and arguments of the events that are counted.
        abi: their contract's ABI.
    """
    counted, has = dict(events), _signatures(abi)
    for signatures, how in _SILENT.items():
        if signatures <= has:
            return f"the token gives without Transfer events: its ABI has {' and '.join(sorted(signatures))}, so {how}"
    if TRANSFER in counted and CONSECUTIVE_TRANSFER not in counted and CONSECUTIVE_TRANSFER in has:
        return "the token may give without Transfer: ConsecutiveTransfer, which its ABI has, is not indexed"
    if TRANSFER in counted and _by_abi(abi) is None:
        indexed = [column.indexed for column in counted[TRANSFER]]
        if indexed not in ([True, True, False], [True, True, True]):
            return "its ABI does not tell whether it is ERC-20 or ERC-721: add a function such as ownerOf or allowance"
    return None


def _by_abi(abi: Sequence[Mapping[str, Any]]) -> Standard | None:
    has = _signatures(abi)
    return "erc721" if has & _ONLY_ERC721 else "erc20" if has & _ONLY_ERC20 else None


def _signatures(abi: Sequence[Mapping[str, Any]]) -> set[str]:
    return {_signature(item) for item in abi if item.get("type", "function") in ("function", "event")}


def _signature(item: Mapping[str, Any]) -> str:
    return f"{item.get('name', '')}({','.join(str(argument.get('type')) for argument in item.get('inputs') or ())})"


def parties(signature: str, columns: Sequence[Column]) -> tuple[Column, Column]:
    """The arguments that name the giver and the receiver."""
    first = {TRANSFER: 0, CONSECUTIVE_TRANSFER: 2}.get(signature, 1)
    giver, receiver = columns[first : first + 2]
    return giver, receiver
