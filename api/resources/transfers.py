"""Transfers of tokens: those of one token, and those of one address."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import falcon

from api.catalog import Catalog, Chain, Event, Series
from api.params import Param, Params
from api.resources import collection
from api.resources.base import Resource
from api.resources.events import BESIDE, fixed_members
from api.resources.rows import INCLUDE, RowsQuery, answer_rows
from api.schemas import ADDRESS as ADDRESS_SCHEMA
from api.schemas import DIGITS, Schema, an_array, an_object, nullable, ref
from api.sql import transfers as sql
from api.sql.statement import Binder, Statement
from api.state import State
from api.transfer_tables import tables_of
from api.values import ADDRESS, choice, integer, list_of

STANDARDS: Final = ("erc20", "erc721", "erc1155")
TOKEN_ID: Final = integer(0, 2**256 - 1)


class TransfersQuery(RowsQuery):
    """A request for transfers.

    Args:
        catalog: what is indexed.
        chain: the chain.
        values: what :meth:`Params.read` made of the query string, and the format; with ``token`` and ``address`` (a
            list) for one token, ``participant`` for somebody.
        tables: where they are.
        name: of the file that an export is saved as.
    """

    def __init__(
        self, catalog: Catalog, chain: Chain, values: dict[str, Any], tables: tuple[sql.Table, ...], name: str
    ) -> None:
        super().__init__(catalog, chain, values)
        self.name = name
        self.shape = self._shape()
        self._place_among_items()
        given = frozenset(name for name in ("from", "to", "token_id") if name in values)
        self.asked = sql.Asked(tables, values.get("direction"), given)
        self._key = (
            tuple((t.event.event_id, t.tokens, *(twin.event_id for twin in t.twins)) for t in tables),
            self.asked.direction,
            given,
            self.shape,
        )

    def state_statement(self) -> Statement:
        """The statement of the state alone."""
        return self._once("transfers state", lambda: sql.state_only(self.asked, self.shape))

    def page_statement(self, window: int) -> Statement:
        """The statement of the page."""
        return self._once("transfers page", lambda: sql.page(self.asked, self.shape, window))

    def estimate_statement(self) -> Statement:
        """The statement of the planner's estimate of how many rows there are."""
        return sql.estimate(self.asked, self.shape)

    def unserved(self) -> str | None:
        """The tables in which no index serves the conditions, or None."""
        gated = self._once("transfers gated", lambda: sql.unserved(self.asked, self.shape))
        return f"these filters in {', '.join(gated)}" if gated else None

    def etag(self, state: State, *salt: object) -> str:
        """The entity tag of an answer in this state; a factory's child that is found makes its tables part of it."""
        return super().etag(state, self.asked.event_ids, *salt)

    def csv_names(self) -> list[str]:
        """The columns of a CSV."""
        return list(sql.csv_columns(self.shape.fields))

    def export_query(self, bind: Binder, *, as_csv: bool) -> str:
        """The query of an export."""
        return sql.export(self.asked, self.shape, bind, limit=self.values.get("limit"), as_csv=as_csv)


def _params(*own: Param) -> Params:
    return Params(
        (
            collection.CHAIN,
            *collection.PAGING,
            *collection.BOUNDS,
            *own,
            collection.TX_HASH,
            *collection.FRESHNESS,
            INCLUDE,
            collection.fields(sql.FIELDS),
            collection.COUNT,
            collection.FORMAT,
        )
    )


class _Transfers(Resource):
    tag: ClassVar = "tokens"
    codes: ClassVar = (
        "INVALID_ADDRESS",
        "INVALID_CURSOR",
        "CHAIN_REQUIRED",
        "CHAIN_NOT_FOUND",
        "NOT_FOUND",
        "BLOCK_NOT_INDEXED",
        "REORGED",
    )
    conditional: ClassVar = True
    formats: ClassVar = ("json", "csv", "ndjson")

    @classmethod
    def described(
        cls, catalog: Catalog, *, event: Event | None = None, series: Series | None = None
    ) -> tuple[Sequence[Param], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        fixed = fixed_members()
        row = {
            **{name: fixed[name] for name in ("id", "block_number", "block_time", "tx_hash", "log_index")},
            "kind": {"type": "string", "enum": list(STANDARDS)},
            "token": ADDRESS_SCHEMA,
            "from": {**ADDRESS_SCHEMA, "description": "The zero address: minted."},
            "to": {**ADDRESS_SCHEMA, "description": "The zero address: burned."},
            "operator": nullable({**ADDRESS_SCHEMA, "description": "ERC-1155 alone says it."}),
            "token_id": nullable({**DIGITS, "description": "Null for ERC-20."}),
            "value": {**DIGITS, "description": "In the token's smallest unit; 1 for ERC-721."},
            "finality": fixed["finality"],
        }
        members = {"data": an_array(an_object(row, required=())), "page": ref("Page"), "meta": ref("Meta"), **BESIDE}
        return cls.params.all, an_object(members, required=("data", "page", "meta"))

    def _answer(self, request: falcon.Request, response: falcon.Response, values: dict[str, Any], name: str) -> None:
        """Answer with a page, or with an export.

        Args:
            request: the request.
            response: the response.
            values: of the request; ``address`` holds the tokens that it is about.
            name: of the file that an export is saved as.
        """
        values["format"] = self.format(request, values.get("format"))

        def tables(catalog: Catalog) -> tuple[Catalog, Chain, tuple[sql.Table, ...]]:
            chain = catalog.chain(values.get("chain"))
            database = self.context.database
            return catalog, chain, tables_of(catalog, chain, database, values.get("address"), kind=values.get("kind"))

        catalog, chain, found = self.looked_up(tables)
        answer_rows(self.context, request, response, TransfersQuery(catalog, chain, values, found, name))


class TokenTransfers(_Transfers):
    """``/v1/tokens/{address}/transfers``: the transfers of one token."""

    summary: ClassVar = "The transfers of a token"
    params: ClassVar = _params(
        Param("from", ADDRESS, "Who gave."),
        Param("to", ADDRESS, "Who received."),
        Param("token_id", TOKEN_ID, "Which token of a collection."),
    )

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with a page, or with an export."""
        values = self.params.read(request.query_string)
        token = self.address(path["address"])
        values |= {"token": token, "address": [token]}
        self._answer(request, response, values, f"transfers-0x{token.hex()}")


class AddressTransfers(_Transfers):
    """``/v1/addresses/{address}/transfers``: what an address gave and received, of any token."""

    summary: ClassVar = "The transfers from and to an address"
    params: ClassVar = _params(
        Param("direction", choice("in", "out", "any"), "What it received, what it gave, or both.", default="any"),
        Param("token", list_of(ADDRESS), "Only of these tokens (comma list)."),
        Param("kind", choice(*STANDARDS), "Only of this standard."),
    )

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with a page, or with an export."""
        values = self.params.read(request.query_string)
        somebody = self.address(path["address"])
        values["participant"] = somebody
        if (tokens := values.pop("token", None)) is not None:
            values |= {"token": tokens[0], "address": tokens}
        self._answer(request, response, values, f"transfers-of-0x{somebody.hex()}")
