"""A collection that the API does not have: ``/v1/reserves``, how much pairs held, out of the rows of ``pair.Sync``."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from api.parameters import Parameters
from api.resources import common_parameters as common
from api.resources.collection import Collection
from api.resources.row_page import Query
from api.schemas import ADDRESS, BLOCK, DIGITS
from api.sql import members
from api.sql.query_shape import BY_LOG
from api.sql.source import CoveredTable, TableFilter
from api.values import integer


class ReserveFilters(Parameters):
    """Which reserves."""

    least: Annotated[int | None, integer(0, 2**112)] = Field(None, description="Only reserves of this or more.")


class Reserves(Collection):
    """``/v1/reserves``: the newest first."""

    summary: ClassVar = "What pairs held"
    tag: ClassVar = "tokens"
    codes: ClassVar = ("CHAIN_REQUIRED", "INVALID_CURSOR", "BLOCK_NOT_INDEXED", "REORGED")
    filters: ClassVar = (common.BoundParameters, common.AddressParameters, ReserveFilters)
    include: ClassVar = ("token",)
    order: ClassVar = BY_LOG
    members: ClassVar = (
        members.value("block_number", "t.block_number", BLOCK),
        members.hexadecimal("pair", "t.contract_address", ADDRESS),
        members.plain("first", "t.reserve0::text", DIGITS),
        members.plain("second", "t.reserve1::text", DIGITS),
    )

    def query(self, text: str, path: Mapping[str, str]) -> Query:
        """Read a request."""
        values = self.params.read(text).given()
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        rows = CoveredTable(
            "pair.sync",
            self.order,
            self.members,
            {
                "least": TableFilter("t.reserve0 >= {}", "numeric"),
                "address": TableFilter("t.contract_address = ANY ({})", "bytea[]"),
            },
            event_ids=[catalog.contracts["pair"].events["Sync"].event_id],
        )
        return Query(catalog, chain, values, rows, name="reserves")
