"""Derived tables: what follows from events by rules of the manifest, served like everything else."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Final

import falcon
import orjson
from pydantic import Field

from api.catalog import Catalog, Derived
from api.errors import ApiError, Problem
from api.parameters import Extra, Parameters, joined, one_of
from api.resources import common_parameters as common
from api.resources.base import Resource, send_json
from api.resources.collection import Collection
from api.resources.row_page import Query
from api.schemas import Schema, an_array, an_object, nullable
from api.sql import derived as sql
from api.sql.members import field_names
from api.values import BLOCK, integer, text

_TEXT: Final[Schema] = {"type": "string"}
_TABLE: Final = an_object(
    {
        "name": _TEXT,
        "kind": {"type": "string", "enum": ["rows", "aggregate", "view", "program"]},
        "generation": {"type": "integer"},
        "stored": {
            "type": "boolean",
            "description": "Whether it is kept, and has a stream; else it is computed when read.",
        },
        "stale": {
            "type": "boolean",
            "description": "It is no longer what the manifest asks for, or what the rows say; `remark` or `problem` "
            "says why.",
        },
        "remark": nullable(_TEXT),
        "problem": nullable({**_TEXT, "description": "Why it goes no further."}),
        "comment": _TEXT,
        "key": an_array(_TEXT),
        "sort": an_array(_TEXT),
        "columns": an_array(an_object({"name": _TEXT, "type": _TEXT, "comment": _TEXT})),
        "links": {"type": "object", "additionalProperties": {"type": "string"}},
    }
)


class DerivedTables(Resource):
    """``/v1/derived``: what there is."""

    summary: ClassVar = "The derived tables"
    tag: ClassVar = "derived"
    answer: ClassVar = an_object({"data": an_array(_TABLE)})

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the list."""
        Parameters.read(request.query_string)
        self.format(request)
        tables = self.context.catalog.current().derived
        states = orjson.loads(self.context.database.query(sql.STATES)[0][0] or b"{}")
        listed = [describe(tables[name], states.get(name, {})) for name in sorted(tables)]
        send_json(response, {"data": listed}, cache_control="public, max-age=2")


def describe(one: Derived, state: Mapping[str, Any]) -> dict[str, Any]:
    """A derived table for a list, with what :data:`~api.sql.derived.STATES` says of it."""
    return {
        "name": one.name,
        "kind": one.kind,
        "generation": one.generation,
        "stored": one.stored,
        "stale": state.get("stale", False) or one.remark is not None or not one.active,
        "remark": one.remark,
        "problem": state.get("problem"),
        "comment": one.comment,
        "key": list(one.key),
        "sort": sql.sorts(one),
        "columns": [{"name": c.name, "type": c.pg_type, "comment": c.comment} for c in one.columns],
        "links": {
            "rows": f"/v1/derived/{one.name}",
            **({"stream": f"/v1/derived/{one.name}/stream"} if one.stored else {}),
        },
    }


class SortParameters(Parameters):
    """By what rows are sorted."""

    sort: Annotated[str, text()] = Field(
        "key",
        description="By what: `key`, or the columns of an index, as `sort` in `/v1/derived` has them.",
    )


class DerivedFreshness(Parameters):
    """Which state of the chain is answered from: the newest one, but for kinds whose rows are of blocks."""

    at_block: Annotated[int | None, BLOCK] = Field(
        None, description="Rows as they are at the end of this block: of the kind `rows` alone, else 422."
    )
    min_block: Annotated[int | None, BLOCK] = Field(
        None, description="Answer only once this block is indexed, else 409."
    )
    wait: Annotated[int | None, integer(0, common.MAX_WAIT)] = Field(None, description="Seconds to wait for min_block.")


class DerivedRows(Collection):
    """``/v1/derived/{table}``: the rows of a derived table, by its key or by an index."""

    summary: ClassVar[str] = "The rows of a derived table"
    tag: ClassVar = "derived"
    codes: ClassVar = ("INVALID_CURSOR", "CHAIN_REQUIRED", "CHAIN_NOT_FOUND", "NOT_FOUND", "BLOCK_NOT_INDEXED")
    filters: ClassVar = (SortParameters,)
    freshness: ClassVar = DerivedFreshness
    order: ClassVar = sql.ANY_ORDER
    ordered_by: ClassVar = "Ascending or descending by what they are sorted by."
    first: ClassVar = "asc"

    @classmethod
    def any_extras(cls) -> Sequence[Schema]:
        """The parameter objects for the columns of any table."""
        return [common.ANY_FIELDS, sql.ANY_FILTERS]

    def query(self, text: str, path: Mapping[str, str]) -> Query:
        """Read a request."""
        catalog = self.context.catalog.current()
        derived = table_of(catalog, path["table"])
        by = one_of(text, "sort") or "key"
        if by not in sql.sorts(derived):
            raise ApiError.invalid(
                [Problem("sort", f"is none of the orders of {derived.name}: {', '.join(sql.sorts(derived))}")]
            )
        sort = () if by == "key" else tuple(by.split(","))
        made = catalog.once(("derived", derived.name, sort), lambda: _Request(derived, sort))
        values = made.params.read(text).given()
        if "at_block" in values and derived.kind != "rows":
            raise ApiError(
                "KIND_UNSUPPORTED",
                f"{derived.name} has its newest state only, and not that of block {values['at_block']}: "
                f"{sql.instead_of_block(derived)}",
            )
        return Query(catalog, catalog.chain(values.get("chain")), values, made.rows, name=derived.name, settles=False)


class _Request:
    """What requests for a derived table in one order have in common: their parameters, and where the rows are."""

    def __init__(self, derived: Derived, sort: Sequence[str]) -> None:
        self.rows = sql.DerivedSource(derived, sort)
        attributes = {"order": self.rows.order, "__doc__": DerivedRows.__doc__, "__module__": __name__}
        ordered: Any = type("OrderedRows", (DerivedRows,), attributes)
        extras: list[Extra] = [common.chosen_fields(field_names(self.rows.members)), *sql.filters(derived).values()]
        self.params: type[Parameters] = joined("DerivedRows", ordered.params, extras=extras)


def table_of(catalog: Catalog, name: str) -> Derived:
    """A derived table that is served.

    Raises:
        ApiError: NOT_FOUND.
    """
    if (found := catalog.derived.get(name)) is None:
        close = get_close_matches(name, catalog.derived, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ApiError("NOT_FOUND", f"there is no derived table {name!r}{hint}")
    if "chain_id" not in {column.name for column in found.columns}:
        raise ApiError("NOT_FOUND", f"{name} is served in SQL alone: its rows have no chain_id")
    return found
