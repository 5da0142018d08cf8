"""Sources: where a collection's rows are and how they are found. From one follow the statements of all requests.

A request has four statements, each one snapshot of the database: its page (with the state, and the number of all rows
where the request wants it), its state alone, the planner's estimate of how many rows it has, and its export.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from api.schemas import Schema
from api.sql import query_shape, scope, statement
from api.sql.members import Member, chosen, column_schemas, csv_columns, json_row
from api.sql.query_shape import QueryShape, RowOrder
from api.sql.statement import Binder, Statement

#: What stands between the rows of a page: they are a list in JSON, and may be taken apart.
ROWS_BETWEEN: Final = b",\n"
_BETWEEN: Final = "',' || chr(10)"
#: Most rows of a page.
MAX_LIMIT: Final = 1000
#: As many blocks as nothing looks through.
ANY_WINDOW: Final = 2**62


def _or_null(text: str) -> str:
    return f"coalesce({text}, 'null')"


_TRANSACTION = statement.object_text(
    [
        ("from", _or_null(statement.hex_text("x.sender"))),
        ("to", _or_null(statement.hex_text("x.recipient"))),
        ("type", _or_null("x.type::text")),
        ("value", _or_null(statement.quoted("x.value::text"))),
        ("nonce", _or_null(statement.quoted("x.nonce::text"))),
        ("gas_limit", _or_null(statement.quoted("x.gas_limit::text"))),
        ("status", _or_null("x.status::text")),
        ("gas_used", _or_null(statement.quoted("x.gas_used::text"))),
        ("effective_gas_price", _or_null(statement.quoted("x.effective_gas_price::text"))),
        ("created_contract", _or_null(statement.hex_text("x.created_contract"))),
        ("complete", "(NOT x.is_lacking)::text"),
    ]
)


def included_tokens(addresses: str) -> str:
    """An expression for the addresses of a request's tokens, a JSON list; null where there are none.

    What they say of themselves is looked up apart (:mod:`api.token_lookup`).

    Args:
        addresses: a query of addresses.
    """
    return f"(SELECT json_agg(DISTINCT {statement.hexadecimal('k.token')}) FROM ({addresses}) k(token))"


def included_transactions(chain_id: int, rows: str) -> str:
    """An expression for transactions by hash; null where there are no rows.

    One that is not kept, not yet, or that no node gives is null. One of which nodes did not give all that was asked for
    is not ``complete``.

    Args:
        chain_id: the chain.
        rows: a query of ``block_number`` and ``tx_hash``. Both are compared: a transaction of a branch that is gone can
            have come back in another block.
    """
    return f"""(SELECT json_object_agg('0x' || encode(p.tx_hash, 'hex'),
                             CASE WHEN x.tx_hash IS NOT NULL THEN ({_TRANSACTION})::json END)
     FROM (SELECT DISTINCT block_number, tx_hash FROM ({rows}) p) p LEFT JOIN (
         SELECT t.*, EXISTS (SELECT FROM gapless.missing_details m
                             WHERE m.chain_id = t.chain_id AND m.block_number = t.block_number
                               AND m.tx_index = t.tx_index) AS is_lacking
         FROM gapless.transactions t) x
       ON x.chain_id = {chain_id} AND x.tx_hash = p.tx_hash AND x.block_number = p.block_number)"""


@dataclass(frozen=True, slots=True)
class Cut:
    """How many rows a query reads, and whether in order.

    Attributes:
        most: a number in the text, which tells Postgres that few rows are wanted: with a bound value alone it plans
            for a tenth of all.
        value: name of a bound value.
        ordered: whether the rows come in the order of reading.
    """

    most: int | None = None
    value: str | None = None
    ordered: bool = True

    def of(self, query: str, order: RowOrder, bind: Binder, *, forward: bool, alias: str = "t.") -> str:
        """The query of so many rows of a query.

        Args:
            query: a SELECT without order.
            order: of the rows.
            bind: numbers the values.
            forward: whether they are read in ascending order.
            alias: of the rows in the query.
        """
        if self.ordered:
            query = f"{query} {order.by(ascending=forward, alias=alias)}"
        if self.most is not None:
            query = f"{query} LIMIT {self.most}"
        if self.value is None:
            return query
        if self.most is not None:
            query = f"SELECT t.* FROM ({query}) t"
            query += f" {order.by(ascending=forward)}" if self.ordered else ""
        return f"{query} LIMIT {bind(self.value, 'bigint')}"


#: The rows of a page, and one more that says that there is more.
PAGE: Final = Cut(MAX_LIMIT + 1, "take")
ALL: Final = Cut()
#: All rows of an export that is limited.
LIMITED: Final = Cut(value="limit")


class Source(ABC):
    """Where the rows of a request are. Its ``key`` and the request's shape decide the texts of all statements.

    Every query of rows names them ``t``. Statements read the values ``take`` (rows of a page and one more), ``limit``
    and ``window`` (most blocks to look through where no index serves), and those of the cursor, bounds and filters.
    """

    order: RowOrder
    #: The members of a row.
    members: Sequence[Member]
    #: The rows' column that has the address of what may be a token.
    address_column: ClassVar[str] = "contract_address"

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """What decides the texts, together with the shape."""

    @abstractmethod
    def readings(self, shape: QueryShape, bind: Binder, cut: Cut) -> list[str]:
        """The queries whose rows together are the request's, none twice."""

    def state_tables(self, shape: QueryShape, bind: Binder) -> list[str]:
        """The common table expressions that the state needs."""
        return []

    def tables(self, shape: QueryShape, bind: Binder) -> list[str]:
        """The common table expressions that stand before the queries."""
        return self.state_tables(shape, bind)

    def state(self, shape: QueryShape, bind: Binder) -> str | None:
        """An expression for the state (:class:`api.state.State`); None where rows are of no blocks."""
        return None

    def unserved(self, shape: QueryShape) -> str | None:
        """The conditions of the request that no index serves, for people; None if there are none."""
        return None

    def rows(self, shape: QueryShape, bind: Binder, cut: Cut) -> str:
        """The query of the rows in the order of reading."""
        each = self.readings(shape, bind, cut)
        if len(each) == 1:
            return each[0]
        merged = f"SELECT t.* FROM ({' UNION ALL '.join(f'({one})' for one in each)}) t"
        return cut.of(merged, self.order, bind, forward=shape.forward)

    def row(self, shape: QueryShape) -> str:
        """An expression for the JSON of a row."""
        return json_row(chosen(self.members, shape.fields))

    def token_addresses(self) -> str:
        """An expression for the addresses in a row ``t`` that may be tokens', an array."""
        return f"ARRAY[t.{self.address_column}]"

    def tokens(self, bind: Binder, sent: Callable[[], str]) -> str:
        """A query of the addresses of tokens that rows speak of.

        Args:
            bind: numbers the values.
            sent: makes the query of the rows.
        """
        return f"SELECT unnest(p.token_addresses) FROM ({sent()}) p"


def page_statement(source: Source, shape: QueryShape) -> Statement:
    """One page: state, rows, branches, tokens, count, transactions.

    The rows are one text: their positions, with blanks between, on its first line; then the JSON of each, with
    :data:`ROWS_BETWEEN` between them. One more than ``limit`` says that there is more. A newline cannot occur in JSON
    made by Postgres.
    """
    bind = Binder()
    order = source.order
    tables = source.tables(shape, bind)
    state = source.state(shape, bind)
    rows = source.rows(shape, bind, PAGE)
    carried = dict.fromkeys(order.columns)
    if shape.transactions:
        carried["tx_hash"] = None
    columns = ", ".join(f"t.{column}" for column in carried)
    if shape.tokens:
        columns += f", {source.token_addresses()} AS token_addresses"
    tables.append(f"""page AS MATERIALIZED (
    SELECT {columns}, ({order.position})::text AS position, {source.row(shape)} AS row
    FROM ({rows}) t)""")

    def sent() -> str:
        # The rows of the page without the one that only says that there is more.
        return f"SELECT t.* FROM page t {order.by(ascending=shape.forward)} LIMIT {bind('limit', 'bigint')}"

    counted = query_shape.counted(
        shape.count, lambda most: source.readings(shape.uncut(), bind, Cut(most=most, ordered=False))
    )
    in_order = order.by(ascending=shape.order == "asc")
    text = f"""WITH {", ".join(tables)}
SELECT {state or "NULL"},
    (SELECT string_agg(position, ' ' {in_order}) || chr(10) || string_agg(row, {_BETWEEN} {in_order}) FROM page t),
    {scope.branches(shape.chain_id, "page") if state and "block_number" in carried else "NULL"},
    {included_tokens(source.tokens(bind, sent)) if shape.tokens else "NULL"},
    {counted},
    {included_transactions(shape.chain_id, sent()) if shape.transactions else "NULL"}"""
    return Statement.of(text, bind)


def state_statement(source: Source, shape: QueryShape) -> Statement:
    """The state of a request without its rows: enough to say that nothing has changed."""
    bind = Binder()
    state = source.state(shape, bind)
    if state is None:
        return Statement(b"SELECT", ())
    tables = source.state_tables(shape, bind)
    return Statement.of(f"WITH {', '.join(tables)} SELECT {state}", bind)


def estimate_statement(source: Source, shape: QueryShape) -> Statement:
    """What the planner believes how many rows a request has."""
    bind = Binder()
    tables = source.tables(shape, bind)
    return query_shape.estimate(tables, source.readings(shape.uncut(), bind, Cut(ordered=False)), bind)


def export_query(source: Source, shape: QueryShape, bind: Binder, *, limited: bool, as_csv: bool) -> str:
    """All rows of a request: CSV's columns, or one of JSON. What the state does not allow must have been refused.

    Args:
        source: of the rows.
        shape: of the request.
        bind: writes the values.
        limited: whether the request has a limit.
        as_csv: which of both.
    """
    tables = source.tables(shape, bind)
    rows = source.rows(shape, bind, LIMITED if limited else ALL)
    shown = ", ".join(csv_names(source, shape).values()) if as_csv else source.row(shape)
    before = f"WITH {', '.join(tables)} " if tables else ""
    return f"{before}SELECT {shown} FROM ({rows}) t {source.order.by(ascending=shape.forward)}"


def csv_names(source: Source, shape: QueryShape) -> dict[str, str]:
    """The columns of a CSV: names, and expressions."""
    return csv_columns(chosen(source.members, shape.fields))


def csv_schemas(source: Source, shape: QueryShape) -> dict[str, Schema]:
    """The columns of a CSV: names, and the schemas of their values."""
    return column_schemas(chosen(source.members, shape.fields))


@dataclass(frozen=True, slots=True)
class TableFilter:
    """A condition that a parameter sets.

    Attributes:
        condition: SQL over a row ``t``, with ``{}`` for the value.
        pg_type: the value's type in Postgres.
    """

    condition: str
    pg_type: str


class CoveredSource(Source):
    """Rows of events: the coverage of the events' sources says how far they are indexed.

    Attributes:
        event_ids: the events.
        together: as in :func:`api.sql.scope.wanted`.
    """

    event_ids: Sequence[int]
    together: ClassVar[bool] = True

    def state_tables(self, shape: QueryShape, bind: Binder) -> list[str]:
        """``chain``, ``wanted`` and ``scope``."""
        return scope.ctes(
            shape.chain_id, self.event_ids, bind, given=shape.given, finality=shape.finality, together=self.together
        )

    def state(self, shape: QueryShape, bind: Binder) -> str | None:
        """The state, and what became of the cursor's block."""
        return scope.state(scope.event_versions(self.event_ids), [*self.facts(shape), *cursor_fact(shape, bind)])

    def facts(self, shape: QueryShape) -> Sequence[tuple[str, str]]:
        """Further members of the state: key and expression."""
        return ()


def cursor_fact(shape: QueryShape, bind: Binder) -> list[tuple[str, str]]:
    """The member of a state that judges the cursor, where that carries a branch."""
    return [("cursor", scope.cursor_check(shape.chain_id, bind))] if shape.branch else []


class TableSource(Source):
    """The rows of one table that has a ``chain_id``.

    Args:
        table: its qualified name in SQL.
        order: the order of its rows; an index must serve it.
        members: of a row.
        filters: by parameter.
    """

    def __init__(
        self, table: str, order: RowOrder, members: Sequence[Member], filters: Mapping[str, TableFilter] | None = None
    ) -> None:
        self.table = table
        self.order = order
        self.filters = filters or {}
        self.members = members

    @property
    def key(self) -> Hashable:
        """The table."""
        return self.table

    def blocks(self, shape: QueryShape, bind: Binder) -> Sequence[str]:
        """Conditions on the rows' blocks."""
        return ()

    def readings(self, shape: QueryShape, bind: Binder, cut: Cut) -> list[str]:
        """The one query of the table."""
        where = [f"t.chain_id = {shape.chain_id}", *self.blocks(shape, bind)]
        where += [f.condition.format(bind(name, f.pg_type)) for name, f in self.filters.items() if name in shape.given]
        if shape.cursor:
            where.append(self.order.beyond(bind, forward=shape.forward))
        query = f"SELECT t.* FROM {self.table} t WHERE {' AND '.join(where)}"
        return [cut.of(query, self.order, bind, forward=shape.forward)]


class CoveredTable(TableSource, CoveredSource):
    """The rows of one table that follow from events, and have a ``block_number``, the first key of their order.

    Args:
        table, order, members, filters: as of :class:`TableSource`.
        event_ids: the events.
    """

    def __init__(
        self,
        table: str,
        order: RowOrder,
        members: Sequence[Member],
        filters: Mapping[str, TableFilter] | None = None,
        *,
        event_ids: Sequence[int],
    ) -> None:
        super().__init__(table, order, members, filters)
        self.event_ids = tuple(event_ids)

    def blocks(self, shape: QueryShape, bind: Binder) -> Sequence[str]:
        """Those of the request."""
        return [scope.between(bind, cursor=shape.cursor is not None, forward=shape.forward)]


def page_values(values: Mapping[str, Any], limit: int, window: int) -> dict[str, Any]:
    """The values of a request's statements: with those of the page."""
    return {**values, "limit": limit, "take": limit + 1, "window": window}
