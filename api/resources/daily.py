"""Events by day."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Final

from pydantic import Field

from api.errors import ApiError
from api.parameters import Extra
from api.resources import common_parameters as common
from api.resources.base import Columns
from api.resources.events import Events
from api.resources.row_page import Query
from api.schemas import Schema
from api.sql import daily as sql
from api.sql.events import event_source
from api.sql.members import Member
from api.sql.source import ROWS_BETWEEN
from api.values import choice, words

_ANY_SUMS: Final[Schema] = {
    "name": "sum",
    "in": "query",
    "description": "Arguments to sum up (comma list): those that are integers.",
    "schema": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    "style": "form",
    "explode": False,
}


class DayCount(common.CountParameters):
    """Whether days are counted."""

    count: Annotated[str, choice("none", "estimated", "exact")] = Field(
        "none", description="Count all days of the request; exact up to 10,000 of them."
    )


class Daily(Events):
    """``/v1/contracts/{c}/events/{e}/daily``: how many events there were each day, and sums of their arguments."""

    summary: ClassVar = "Events by day (UTC)"
    tag: ClassVar = "events"
    codes: ClassVar = tuple(code for code in Events.codes if code not in ("REORGED", "INVALID_CURSOR"))
    include: ClassVar = ()
    unit: ClassVar = "Days"
    page_limit: ClassVar = 30
    counting: ClassVar = DayCount
    # Counting reads every row of the days, so a usual page is kept as long as nothing has changed.
    kept_seconds: ClassVar = 3600

    order: ClassVar = sql.BY_DAY

    @classmethod
    def members_of(cls, columns: Columns) -> Sequence[Member]:
        """The members of a day with all sums that there can be."""
        return sql.day_members(sql.summable(columns))

    @classmethod
    def extras(cls, columns: Columns) -> Sequence[Extra]:
        """The parameters that depend on the arguments of an event."""
        names = [column.argument for column in sql.summable(columns) if "," not in column.argument]
        sums = common.CollectionParameter("sum", words(names), "Arguments to sum up (comma list).")
        return [*([sums] if names else []), *super().extras(columns)]

    @classmethod
    def any_extras(cls) -> Sequence[Schema]:
        """The parameter objects for the arguments of any event."""
        return [_ANY_SUMS, *super().any_extras()]

    def is_kept(self, query: Query) -> bool:
        """Whether Redis keeps a page: the newest or oldest days, with one sum at most."""
        return super().is_kept(query) and len(query.values.get("sum", ())) <= 1

    def page_length(self, rows: bytes | None, limit: int) -> int:
        """As many days as are counted.

        Raises:
            ApiError: QUERY_TOO_EXPENSIVE if that is none.
        """
        first_line, _, days = (rows or b"").partition(b"\n")
        lines = days.split(ROWS_BETWEEN) if rows else []
        counted = [day for day in lines if day]
        if len(counted) == len(lines) or len(lines) > limit:
            return limit
        if not counted:
            name = first_line.decode()
            raise ApiError(
                "QUERY_TOO_EXPENSIVE",
                f"{name} has more than {sql.MOST_COUNTED:,} events: ask for a part of it (from_time, to_time), or "
                "filter on an indexed argument",
            )
        return len(counted)

    def query(self, text: str, path: Mapping[str, str]) -> Query:
        """Read a request."""
        catalog, contract, event = self.event(path["contract"], path["event"], text)
        values = self.event_parameters(event.columns).read(text).given()
        chain = catalog.chain(values.get("chain"), contract.contract.deployments)
        if contract.address is not None:
            values["address"] = common.narrowed(values.get("address"), contract.address)
        rows = sql.DailySource(event_source(catalog, event, chain.chain_id, values), values.get("sum", ()))
        name = f"{event.contract}-{event.api_name}-daily"
        return Query(catalog, chain, values, rows, name=name, limit=self.page_limit)
