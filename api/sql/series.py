"""Rows of snapshot series."""

from collections.abc import Hashable, Sequence
from typing import Final

from api.catalog import Series
from api.schemas import FINALITY, Schema, an_object, column_schema, nullable
from api.sql import members, scope, statement
from api.sql.events import BLOCK_NUMBER, BLOCK_TIME, CONTRACT_ADDRESS
from api.sql.members import Member
from api.sql.query_shape import Key, QueryShape, RowOrder
from api.sql.source import TableFilter, TableSource, cursor_fact
from api.sql.statement import Binder, identifier
from indexer.abi.columns import Column

BY_POINT: Final = RowOrder(
    Key("block_number", "bigint", "cursor_block"),
    Key("contract_address", "bytea"),
    Key("item", "integer"),
    branch=True,
)


def series_members(columns: Sequence[Column]) -> list[Member]:
    """The members of the rows of a series with such outputs."""
    return [
        members.plain("id", BY_POINT.position, {"type": "string"}),
        BLOCK_NUMBER,
        BLOCK_TIME,
        CONTRACT_ADDRESS,
        members.value("item", "t.item", {"type": "integer", "description": "Place in the list of arguments."}),
        members.plain("finality", statement.FINALITY, FINALITY),
        members.value("arguments", "t.arguments", nullable({"type": "object"}), null=True),
        members.group("values", map(members.of_column, columns), schema=values_schema(columns), fields=False),
        members.value(
            "failures",
            "t.failures",
            nullable({"type": "object", "description": "Why a value is null, by call."}),
            null=True,
        ),
    ]


def values_schema(columns: Sequence[Column]) -> Schema:
    """What a point's values look like: null where a call failed."""
    return an_object({column.argument: nullable(column_schema(column)) for column in columns})


class SeriesSource(TableSource):
    """The rows of a series.

    Args:
        series: the series.
        latest: whether only those of the newest point.
    """

    def __init__(self, series: Series, *, latest: bool = False) -> None:
        filters = {"address": TableFilter("t.contract_address = ANY ({})", "bytea[]")}
        table = identifier(series.schema_name, series.table_name)
        super().__init__(table, BY_POINT, series_members(series.columns), filters)
        self._series = series
        self.series_id = series.series_id
        self._latest = latest

    @property
    def key(self) -> Hashable:
        """The series, and which of its points."""
        return ("series", self._series.series_id, self._latest)

    def state_tables(self, shape: QueryShape, bind: Binder) -> list[str]:
        """The scope: a series has points, and no coverage."""
        newest = f"(SELECT max(p.block_number) {self._points(shape)})"
        given = shape.given - {"address"}
        return scope.ctes(shape.chain_id, [], bind, given=given, finality=shape.finality, newest=newest)

    def state(self, shape: QueryShape, bind: Binder) -> str | None:
        """The state, by the series' version."""
        version = f"(SELECT version FROM gapless.series WHERE id = {self._series.series_id})"
        return scope.state((version, "0"), cursor_fact(shape, bind))

    def blocks(self, shape: QueryShape, bind: Binder) -> Sequence[str]:
        """Those of the request, or the newest point's."""
        if self._latest:
            return [f"t.block_number = {self._newest(shape, bind)}"]
        return [scope.between(bind, cursor=shape.cursor is not None, forward=shape.forward)]

    def _points(self, shape: QueryShape) -> str:
        of_series = f"p.series_id = {self._series.series_id} AND p.chain_id = {shape.chain_id}"
        return f"FROM gapless.series_points p WHERE {of_series}"

    def _newest(self, shape: QueryShape, bind: Binder) -> str:
        """The block of the newest point. A page that follows another stays with the point of that one.

        Else a point that came between two pages would be sent from its beginning, or where the order is turned round
        not at all, as if nothing were left.
        """
        last = "(SELECT last FROM scope)"
        if shape.given & {"after", "before"}:
            last = f"least({last}, {bind('cursor_block', 'bigint')})"
        return f"(SELECT max(p.block_number) {self._points(shape)} AND p.block_number <= {last})"
