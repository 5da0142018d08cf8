"""One form for all transfers of tokens: which events tell of them, and the SELECT that shows them alike.

Events are known by their signature and arguments by their position, never by a name: ABIs call them what they like.
Light to import: the API uses it too.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from psycopg import sql

from indexer.abi.columns import Column

Standard: TypeAlias = Literal["erc20", "erc721", "erc1155"]

TRANSFER = "Transfer(address,address,uint256)"  # ERC-20 and ERC-721
TRANSFER_SINGLE = "TransferSingle(address,address,address,uint256,uint256)"  # ERC-1155
TRANSFER_BATCH = "TransferBatch(address,address,address,uint256[],uint256[])"  # ERC-1155
CONSECUTIVE_TRANSFER = "ConsecutiveTransfer(uint256,uint256,address,address)"  # ERC-2309, for ERC-721
SIGNATURES = (TRANSFER, TRANSFER_SINGLE, TRANSFER_BATCH, CONSECUTIVE_TRANSFER)

MOST_CONSECUTIVE = 10_000
"""Of how many tokens of one ``ConsecutiveTransfer`` transfers are made; contracts in use mint up to 5,000 with one."""

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

_ALWAYS = sql.SQL("true")


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


def select(
    table: sql.Composable,
    signature: str,
    standard: Standard,
    columns: Sequence[Column],
    condition: sql.Composable = _ALWAYS,
    *,
    place: int | None = None,
) -> sql.Composed:
    """A SELECT of an event's transfers in the form that all have in common: the columns of ``gapless.transfers``.

    A batch with arrays of different lengths is none of the standard's: what has no counterpart is left out. Of a
    ``ConsecutiveTransfer`` the first :data:`MOST_CONSECUTIVE` tokens are told.

    Args:
        table: the event's.
        signature: the event's; one of :data:`SIGNATURES`.
        standard: as :func:`standard_of` has it.
        columns: the event's arguments.
        condition: on the event's table, which is called ``r``.
        place: a number that all rows have in one more column, ``place``; None: without it. (Around this SELECT it would
            cost the planner as much again for each table.)
    """
    more = sql.SQL("") if place is None else sql.SQL(", {} AS place").format(place)
    arguments = [sql.SQL("r.{}").format(sql.Identifier(column.name)) for column in columns]
    source = sql.SQL("{} r").format(table)
    nobody, item = sql.SQL("NULL::bytea"), sql.SQL("0")
    if signature == TRANSFER:
        giver, receiver, last = arguments
        moved = (last, sql.SQL("1")) if standard == "erc721" else (sql.SQL("0"), last)
        return _select(source, standard, item, (giver, receiver, nobody, *moved), condition, more)
    if signature == CONSECUTIVE_TRANSFER:
        start, end, giver, receiver = arguments
        source = sql.SQL(
            "{} CROSS JOIN LATERAL generate_series(0, least({} - {}, {})::integer) AS moved (place)"
        ).format(source, *(sql.SQL("{}::numeric").format(one) for one in (end, start)), MOST_CONSECUTIVE - 1)
        token_id = sql.SQL("{}::numeric + moved.place").format(start)
        values = (giver, receiver, nobody, token_id, sql.SQL("1"))
        return _select(source, standard, sql.SQL("moved.place"), values, condition, more)
    operator, giver, receiver, numbers, amounts = arguments
    if signature == TRANSFER_SINGLE:
        return _select(source, standard, item, (giver, receiver, operator, numbers, amounts), condition, more)
    source = sql.SQL("{} CROSS JOIN LATERAL unnest({}, {}) WITH ORDINALITY AS moved (token_id, amount, place)").format(
        source, numbers, amounts
    )
    item, number, amount = map(sql.SQL, ("(moved.place - 1)::integer", "moved.token_id", "moved.amount"))
    condition = sql.SQL("moved.token_id IS NOT NULL AND moved.amount IS NOT NULL AND {}").format(condition)
    return _select(source, standard, item, (giver, receiver, operator, number, amount), condition, more)


def too_long(table: sql.Composable, columns: Sequence[Column], condition: sql.Composable) -> sql.Composed:
    """A SELECT of the contracts of ``ConsecutiveTransfer`` events that name more tokens than are told, each once.

    Args:
        table: the event's.
        columns: its arguments.
        condition: on the event's table, which is called ``r``.
    """
    start, end = (sql.SQL("r.{}::numeric").format(sql.Identifier(column.name)) for column in columns[:2])
    return sql.SQL(
        "SELECT r.contract_address AS token, max(r.block_number) AS block_number, max({end} - {start} + 1) AS tokens "
        "FROM {table} r WHERE {end} - {start} >= {most} AND {condition} GROUP BY 1"
    ).format(start=start, end=end, table=table, most=MOST_CONSECUTIVE, condition=condition)


def uneven(table: sql.Composable, columns: Sequence[Column], condition: sql.Composable) -> sql.Composed:
    """A SELECT of the contracts of ``TransferBatch`` events whose arrays have different lengths, each once.

    Args:
        table: the event's.
        columns: its arguments.
        condition: on the event's table, which is called ``r``.
    """
    numbers, amounts = (sql.SQL("cardinality(r.{})").format(sql.Identifier(column.name)) for column in columns[3:5])
    return sql.SQL(
        "SELECT r.contract_address AS token, min(r.block_number) AS block_number "
        "FROM {table} r WHERE {numbers} <> {amounts} AND {condition} GROUP BY 1"
    ).format(numbers=numbers, amounts=amounts, table=table, condition=condition)


def _select(
    source: sql.Composable,
    standard: Standard,
    item: sql.Composable,
    values: tuple[sql.Composable, ...],
    condition: sql.Composable,
    more: sql.Composable,
) -> sql.Composed:
    giver, receiver, operator, number, amount = values
    return sql.SQL("""
        SELECT r.chain_id, r.block_number, r.block_time, r.tx_hash, r.log_index, {item} AS item,
               r.contract_address AS token, {standard}::text AS kind, {giver} AS from_address, {receiver} AS to_address,
               {operator} AS operator, {number}::numeric AS token_id, {amount}::numeric AS amount{more}
        FROM {source} WHERE {condition}""").format(
        item=item,
        standard=sql.Literal(standard),
        giver=giver,
        receiver=receiver,
        operator=operator,
        number=number,
        amount=amount,
        source=source,
        condition=condition,
        more=more,
    )


def but_for(twins: Sequence[sql.Composable]) -> sql.Composable:
    """A condition for :func:`select`: logs that are in none of other tables.

    Two contracts of the manifest may share an address: a log that is in both of their tables is one transfer.

    Args:
        twins: the other tables.
    """
    apart = [
        sql.SQL(
            "NOT EXISTS (SELECT FROM {} twin WHERE twin.chain_id = r.chain_id AND "
            "twin.block_number = r.block_number AND twin.log_index = r.log_index)"
        ).format(table)
        for table in twins
    ]
    return sql.SQL(" AND ").join(apart) if apart else _ALWAYS
