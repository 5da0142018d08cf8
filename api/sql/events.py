"""Rows of event tables: a page, one row, a count, an export."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import orjson

from api.arguments import Filter
from api.catalog import Event
from api.sql import counting, included, json_text, scope
from api.sql.counting import Counting
from api.sql.statement import Binder, Statement, identifier, literal

FIELDS: Final = ("id", "block_number", "block_time", "tx_hash", "tx_index", "log_index", "address", "finality", "args")
DEFAULT_FIELDS: Final = tuple(field for field in FIELDS if field != "tx_index")

# Between the rows of a page, and between a row's position and its JSON: neither can occur in JSON made by Postgres.
_NEWLINE: Final = "chr(10)"
_TAB: Final = "chr(9)"


@dataclass(frozen=True, slots=True)
class Shape:
    """All of a request that decides the text of its statement, and nothing else: a key for keeping texts.

    Attributes:
        chain_id: the chain.
        given: names of the bounds, of ``address`` and of ``tx_hash``, where the request has them.
        addresses: which rows the filter ``address`` leaves: all (as without it), some, or none.
        filters: names of the filters on arguments.
        order: of the answer.
        cursor: the cursor that the request has, if any.
        branch: whether that cursor carries a branch.
        finality: which blocks count.
        limit: rows of a page.
        fields: top-level fields and ``args.<name>``; empty for the usual ones.
        tokens: whether what tokens say of themselves is asked for.
        transactions: whether the rows' transactions are asked for.
        count: the rows are to be counted, all or up to :data:`api.sql.counting.COUNT_LIMIT`.
    """

    chain_id: int
    given: frozenset[str] = frozenset()
    addresses: Literal["all", "some", "none"] = "all"
    filters: frozenset[str] = frozenset()
    order: Literal["asc", "desc"] = "desc"
    cursor: Literal["after", "before"] | None = None
    branch: bool = False
    finality: str = "latest"
    limit: int = 100
    fields: frozenset[str] = frozenset()
    tokens: bool = False
    transactions: bool = False
    count: Counting = "none"

    @property
    def forward(self) -> bool:
        """Whether rows are read towards newer blocks."""
        return (self.order == "asc") == (self.cursor != "before")


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on rows.

    Attributes:
        text: its SQL.
        column: the column that must equal the value, or one of the values; None for every other condition.
        placeholder: of the value or values.
        is_list: whether there are several.
    """

    text: str
    column: str | None = None
    placeholder: str = ""
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How a request's rows are found.

    Attributes:
        driver: the condition whose index gives rows in order, or None.
        rest: all other conditions.
        gated: no index serves the conditions, so only a window of blocks may be looked through.
    """

    driver: Condition | None
    rest: tuple[Condition, ...]
    gated: bool


def plan(event: Event, shape: Shape, filters: Sequence[Filter], bind: Binder) -> Plan:
    """Decide which index serves a request.

    Args:
        event: the event.
        shape: of the request.
        filters: those that ``shape.filters`` names.
        bind: numbers the values.
    """
    if shape.addresses == "none":
        return Plan(None, (Condition("false"),), gated=False)
    conditions = []
    # One value before lists of them, and arguments before addresses: what leaves the fewest rows.
    for item in sorted(filters, key=lambda f: (f.operator == "in", f.name)):
        is_list = item.operator == "in"
        placeholder = bind(item.name, item.pg_type + ("[]" if is_list else ""))
        column = item.column.name if item.operator in ("eq", "in") else None
        conditions.append(Condition(item.condition(placeholder), column, placeholder, is_list))
    if "tx_hash" in shape.given:
        placeholder = bind("tx_hash", "bytea")
        conditions.append(Condition(f"t.tx_hash = {placeholder}", "tx_hash", placeholder))
    if shape.addresses == "some":
        placeholder = bind("address", "bytea[]")
        conditions.append(
            Condition(f"t.contract_address = ANY ({placeholder})", "contract_address", placeholder, is_list=True)
        )
    driver = next((c for c in conditions if c.column in event.ordered_by), None)
    rest = tuple(c for c in conditions if c is not driver)
    return Plan(driver, rest, gated=driver is None and bool(rest))


def found(
    event: Event,
    shape: Shape,
    how: Plan,
    bind: Binder,
    window: int,
    *,
    limit: int | None,
    ordered: bool = True,
    item: int | None = None,
) -> str:
    """The query of the rows themselves, all columns, in the order of reading.

    A list of values is read value by value, each in the order of its index and no further than needed: one index
    condition with the list would have to sort all of their rows.

    Args:
        event: the event.
        shape: of the request.
        how: its plan.
        bind: numbers the values.
        window: most blocks that may be looked through without an index; beyond it there are no rows.
        limit: rows at most.
        ordered: whether the order matters.
        item: what a cursor compares after block and log, where that is not enough.
    """
    where = [
        f"t.chain_id = {shape.chain_id}",
        scope.between(bind, cursor=shape.cursor is not None, forward=shape.forward),
        *(condition.text for condition in how.rest),
    ]
    if shape.cursor:
        sign = ">" if shape.forward else "<"
        row, cursor = (
            "t.block_number, t.log_index",
            f"{bind('cursor_block', 'bigint')}, {bind('cursor_log', 'bigint')}",
        )
        if item is not None:
            row, cursor = f"{row}, {item}", f"{cursor}, {bind('cursor_item', 'integer')}"
        where.append(f"({row}) {sign} ({cursor})")
    if how.gated:
        where.append(f"(SELECT {scope.SPAN} <= {window} FROM scope)")
    table = identifier(event.schema_name, event.table_name)
    direction = "ASC" if shape.forward else "DESC"
    end = f"ORDER BY t.block_number {direction}, t.log_index {direction}" if ordered else ""
    if limit:
        end += f" LIMIT {limit}"
    if how.driver is None:
        return f"SELECT t.* FROM {table} t WHERE {' AND '.join(where)} {end}"
    if not how.driver.is_list:
        where.insert(1, how.driver.text)
        return f"SELECT t.* FROM {table} t WHERE {' AND '.join(where)} {end}"
    where.insert(1, f"t.{identifier(how.driver.column or '')} = v.value")
    each = f"SELECT t.* FROM {table} t WHERE {' AND '.join(where)} {end}"
    return f"SELECT t.* FROM unnest({how.driver.placeholder}) v(value) CROSS JOIN LATERAL ({each}) t {end}"


def row_text(event: Event, fields: frozenset[str]) -> str:
    """The expression for one row's JSON.

    Args:
        event: the event.
        fields: top-level fields and ``args.<name>``; empty for the usual ones.
    """
    wanted = fields or frozenset(DEFAULT_FIELDS)
    arguments = [c for c in event.columns if "args" in wanted or f"args.{c.argument}" in wanted]
    members = {
        "id": json_text.quoted("t.block_number || '-' || t.log_index"),
        "contract": literal(orjson.dumps(event.contract).decode()),
        "event": literal(orjson.dumps(event.api_name).decode()),
        "block_number": "t.block_number::text",
        "block_time": json_text.time_text("t.block_time"),
        "tx_hash": json_text.hex_text("t.tx_hash"),
        "tx_index": "t.tx_index::text",
        "log_index": "t.log_index::text",
        "address": json_text.hex_text("t.contract_address"),
        "finality": json_text.quoted(json_text.FINALITY),
        "args": json_text.object_text([(c.argument, json_text.value_text(c)) for c in arguments]),
    }
    show_args = "args" in wanted or bool(arguments)
    return json_text.object_text(
        [(key, text) for key, text in members.items() if (key in wanted if key != "args" else show_args)]
    )


def page(event: Event, shape: Shape, filters: Sequence[Filter], window: int) -> Statement:
    """One page: state, rows, branches, tokens, count, transactions.

    The rows are one text: each a position, a tab and its JSON, with newlines between; one more than ``limit`` says that
    there is more.
    """
    bind = Binder()
    how = plan(event, shape, filters, bind)
    parts = scope.ctes(shape.chain_id, [event.event_id], bind, given=shape.given, finality=shape.finality)
    rows = found(event, shape, how, bind, window, limit=shape.limit + 1)
    parts.append(f"""page AS MATERIALIZED (
    SELECT t.block_number, t.log_index, t.contract_address, t.tx_hash,
           t.block_number || '-' || t.log_index || {_TAB} || {row_text(event, shape.fields)} AS row
    FROM ({rows}) t)""")
    checks = [("cursor", scope.cursor_check(shape.chain_id, bind))] if shape.branch else []
    order = f"ORDER BY block_number {shape.order}, log_index {shape.order}"
    counted = counting.counted(
        shape.count, lambda most: [found(event, uncut(shape), how, bind, window, limit=most, ordered=False)]
    )
    text = f"""WITH {", ".join(parts)}
SELECT {scope.state(scope.event_versions([event.event_id]), checks)},
    (SELECT string_agg(row, {_NEWLINE} {order}) FROM page),
    {scope.branches(shape.chain_id, "page")},
    {tokens_of_page(shape)},
    {counted},
    {transactions_of_page(shape)}"""
    return Statement.of(text, bind)


def uncut(shape: Shape) -> Shape:
    """The shape of the whole request, wherever a page of it stands."""
    return replace(shape, cursor=None, branch=False)


def tokens_of_page(shape: Shape) -> str:
    """An expression for what the tokens of a page's rows say of themselves, by address, if that is asked for."""
    if not shape.tokens:
        return "NULL"
    return included.tokens(f"SELECT contract_address FROM ({_sent(shape)}) p")


def transactions_of_page(shape: Shape) -> str:
    """An expression for the transactions of a page's rows, by hash, if they are asked for."""
    return included.transactions(shape.chain_id, _sent(shape)) if shape.transactions else "NULL"


def _sent(shape: Shape) -> str:
    """The rows of a page without the one that only says that there is more."""
    direction = "ASC" if shape.forward else "DESC"
    return f"SELECT * FROM page ORDER BY block_number {direction}, log_index {direction} LIMIT {shape.limit}"


def state_only(event: Event, shape: Shape) -> Statement:
    """The state of a request without its rows: enough to say that nothing has changed."""
    bind = Binder()
    parts = scope.ctes(shape.chain_id, [event.event_id], bind, given=shape.given, finality=shape.finality)
    checks = [("cursor", scope.cursor_check(shape.chain_id, bind))] if shape.branch else []
    return Statement.of(
        f"WITH {', '.join(parts)} SELECT {scope.state(scope.event_versions([event.event_id]), checks)}", bind
    )


def is_gated(event: Event, shape: Shape, filters: Sequence[Filter]) -> bool:
    """Whether no index serves the conditions of a request."""
    return plan(event, shape, filters, Binder()).gated


def estimate(event: Event, shape: Shape, filters: Sequence[Filter]) -> Statement:
    """What the planner believes how many rows a request has."""
    bind = Binder()
    how = plan(event, shape, filters, bind)
    parts = scope.ctes(shape.chain_id, [event.event_id], bind, given=shape.given, finality=shape.finality)
    rows = found(event, uncut(shape), how, bind, 2**62, limit=None, ordered=False)
    return counting.estimate(parts, [rows], bind)


def one(event: Event, chain_id: int, *, tokens: bool, transactions: bool, address: bool) -> Statement:
    """One row by its position, with the state of its block.

    Reads the values ``from_block`` and ``to_block`` (both the row's block), ``log``, and ``only`` (an address) where
    that matters.
    """
    bind = Binder()
    shape = Shape(
        chain_id=chain_id,
        given=frozenset(("from_block", "to_block")),
        limit=1,
        tokens=tokens,
        transactions=transactions,
    )
    parts = scope.ctes(chain_id, [event.event_id], bind, given=shape.given)
    where = [
        f"t.chain_id = {chain_id}",
        f"t.block_number = {bind('from_block', 'bigint')}",
        f"t.log_index = {bind('log', 'bigint')}",
    ]
    if address:
        where.append(f"t.contract_address = {bind('only', 'bytea')}")
    table = identifier(event.schema_name, event.table_name)
    parts.append(f"""page AS MATERIALIZED (
    SELECT t.block_number, t.log_index, t.contract_address, t.tx_hash, {row_text(event, frozenset(FIELDS))} AS row
    FROM {table} t WHERE {" AND ".join(where)})""")
    text = f"""WITH {", ".join(parts)}
SELECT {scope.state(scope.event_versions([event.event_id]))}, (SELECT row FROM page),
    {tokens_of_page(shape)}, {transactions_of_page(shape)}"""
    return Statement.of(text, bind)
