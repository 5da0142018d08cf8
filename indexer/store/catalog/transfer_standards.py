"""The SELECT that shows the transfers of all token standards alike. Light to import: the API uses it too."""

from collections.abc import Sequence

from psycopg import sql

from indexer.abi.columns import Column
from indexer.abi.token_standards import CONSECUTIVE_TRANSFER, TRANSFER, TRANSFER_SINGLE, Standard

MOST_CONSECUTIVE = 10_000
"""Of how many tokens of one ``ConsecutiveTransfer`` transfers are made; contracts in use mint up to 5,000 with one."""

_ALWAYS = sql.SQL("true")


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
        FROM {source}{where}""").format(
        item=item,
        standard=sql.Literal(standard),
        giver=giver,
        receiver=receiver,
        operator=operator,
        number=number,
        amount=amount,
        source=source,
        # Even WHERE true would keep Postgres from merging the table's rows with those of others in an index's order.
        where=sql.SQL("") if condition is _ALWAYS else sql.SQL(" WHERE {}").format(condition),
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
