"""Snapshots: series of multicall reads."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import falcon

from api.catalog import Contract, Series
from api.errors import ApiError
from api.parameters import Parameters
from api.resources import common_parameters as common
from api.resources.base import Columns, Resource, send_json
from api.resources.collection import Collection
from api.resources.row_page import Query
from api.schemas import an_array, an_object
from api.sql.members import Member, field_names
from api.sql.series import BY_POINT, SeriesSource, series_members

_SERIES: Final = an_object(
    {
        "name": {"type": "string"},
        "calls": an_array({"type": "string"}),
        "every": {"type": "string"},
        "active": {"type": "boolean"},
        "values": an_array(
            an_object({"name": {"type": "string"}, "type": {"type": "string"}, "column": {"type": "string"}})
        ),
        "links": {"type": "object", "additionalProperties": {"type": "string"}},
    }
)


class SeriesList(Resource):
    """``/v1/contracts/{c}/snapshots``: the series of a contract."""

    summary: ClassVar = "The snapshot series of a contract"
    tag: ClassVar = "snapshots"
    codes: ClassVar = ("INVALID_ADDRESS", "CONTRACT_NOT_FOUND", "CHAIN_NOT_FOUND", "AMBIGUOUS_CONTRACT")
    params: ClassVar = common.ChainParameters
    answer: ClassVar = an_object({"data": an_array(_SERIES)})

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the list."""
        self.params.read(request.query_string)
        self.format(request)
        _, found = self.contract(path["contract"], request.query_string)
        send_json(
            response,
            {"data": [describe(series) for series in found.contract.series.values()]},
            cache_control="public, max-age=2",
        )


class SeriesRows(Collection):
    """``/v1/contracts/{c}/snapshots/{series}``: the rows of a series."""

    summary: ClassVar[str] = "The rows of a snapshot series"
    tag: ClassVar = "snapshots"
    codes: ClassVar = (
        "INVALID_ADDRESS",
        "INVALID_CURSOR",
        "CHAIN_REQUIRED",
        "CONTRACT_NOT_FOUND",
        "AMBIGUOUS_CONTRACT",
        "NOT_FOUND",
        "BLOCK_NOT_INDEXED",
        "REORGED",
    )
    filters: ClassVar[Sequence[type[Parameters]]] = (common.BoundParameters, common.AddressParameters)
    include: ClassVar = ("token",)
    order: ClassVar = BY_POINT
    fields: ClassVar = field_names(series_members(()))
    # A series has points, not coverage: what is missing between them is by design.
    unsaid: ClassVar = frozenset(("complete", "missing", "missing_ranges", "X-Complete"))
    #: Whether only the rows of the newest point are meant.
    latest: ClassVar = False

    @classmethod
    def members_of(cls, columns: Columns) -> Sequence[Member]:
        """The members of a row."""
        return series_members(columns)

    def query(self, text: str, path: Mapping[str, str]) -> Query:
        """Read a request."""
        catalog, found = self.contract(path["contract"], text)
        series = _series(found.contract, path["series"])
        values = self.params.read(text).given()
        chain = catalog.chain(values.get("chain"), found.contract.deployments)
        if found.address is not None:
            values["address"] = common.narrowed(values.get("address"), found.address)
        name = f"{series.contract}-{series.name}" + ("-latest" if self.latest else "")
        rows = SeriesSource(series, latest=self.latest)
        return Query(catalog, chain, values, rows, name=name, settles=False)


class SeriesLatest(SeriesRows):
    """``/v1/contracts/{c}/snapshots/{series}/latest``: the newest point, or the last one up to ``at_block``."""

    summary: ClassVar = "The newest point of a snapshot series"
    filters: ClassVar = (common.AddressParameters,)
    first: ClassVar = "asc"
    ordered_by: ClassVar = "By address."
    latest: ClassVar = True


def describe(series: Series) -> dict[str, Any]:
    """A series for a list."""
    link = f"/v1/contracts/{series.contract}/snapshots/{series.name}"
    return {
        "name": series.name,
        "calls": series.calls,
        "every": series.every,
        "active": series.active,
        "values": [{"name": c.argument, "type": c.abi_type, "column": c.name} for c in series.columns],
        "links": {"rows": link, "latest": f"{link}/latest"},
    }


def _series(contract: Contract, name: str) -> Series:
    if series := contract.series.get(name):
        return series
    names = ", ".join(contract.series) or "none"
    raise ApiError("NOT_FOUND", f"{contract.name} has no snapshot {name!r}; there is {names}")
