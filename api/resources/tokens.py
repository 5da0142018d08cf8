"""Tokens: what contracts say of themselves."""

from typing import Any, ClassVar, Final

import falcon
import orjson

from api.errors import ApiError
from api.params import Param, Params
from api.resources import collection
from api.resources.base import Resource, body_tag, send_kept
from api.resources.exporting import send_export
from api.schemas import ADDRESS as ADDRESS_SCHEMA
from api.schemas import BLOCK, LINKS, an_array, an_object, nullable, ref
from api.sql import counting
from api.sql import tokens as sql
from api.sql.statement import Statement
from api.values import ADDRESS, choice, list_of, text

#: Tokens are read once and seldom again.
KEPT: Final = "public, max-age=30"

_AFTER: Final = "Tokens that follow this address in the answer's order."
_BEFORE: Final = "The tokens just before this address in the answer's order."


_TOKEN: Final = {
    "address": ADDRESS_SCHEMA,
    "kind": nullable({"type": "string", "enum": ["erc20", "erc721", "erc1155"]}),
    "name": nullable({"type": "string"}),
    "symbol": nullable({"type": "string"}),
    "decimals": nullable({"type": "integer", "description": "Null if unknown, which is neither 0 nor 18."}),
    "problems": nullable({"type": "object", "description": "What was odd, by field."}),
    "block_number": {**BLOCK, "description": "Read at this block."},
}


class Tokens(Resource):
    """``/v1/tokens``: all tokens of a chain, by address."""

    summary: ClassVar = "The tokens of a chain"
    tag: ClassVar = "tokens"
    codes: ClassVar = ("INVALID_ADDRESS", "CHAIN_REQUIRED", "CHAIN_NOT_FOUND")
    conditional: ClassVar = True
    answer: ClassVar = an_object(
        {"data": an_array(an_object(_TOKEN, required=())), "page": ref("Page"), "meta": ref("Meta")}
    )
    formats: ClassVar = ("json", "csv", "ndjson")

    params: ClassVar = Params(
        (
            collection.CHAIN,
            collection.LIMIT,
            Param("after", ADDRESS, _AFTER),
            Param("before", ADDRESS, _BEFORE),
            Param("order", choice("asc", "desc"), "By address.", default="asc"),
            Param("address", list_of(ADDRESS), "Only these (comma list)."),
            Param("kind", choice("erc20", "erc721", "erc1155"), "Only of this standard."),
            Param("symbol", text(200), "Only with exactly this symbol; many may claim it."),
            collection.fields(sql.FIELDS),
            collection.COUNT,
            collection.FORMAT,
        )
    )

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with a page."""
        values = self.params.read(request.query_string)
        values["format"] = self.format(request, values.get("format"))
        collection.check_together(values)
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        cursor = collection.cursor_side(values)
        shape = sql.Shape(
            chain_id=chain.chain_id,
            given=frozenset(name for name in ("address", "kind", "symbol") if name in values),
            cursor=cursor,
            order=values["order"],
            limit=values.get("limit", collection.DEFAULT_LIMIT if values["format"] == "json" else None),
            fields=values.get("fields", frozenset()),
            count=values["count"],
        )
        values["cursor"] = values.get(cursor or "")
        if values["format"] != "json":
            self._export(request, response, shape, values)
            return
        statement = catalog.once(("tokens", shape), lambda: sql.page(shape))
        rows, counted = self.context.database.query(statement.text, statement.values(values))[0]

        def estimated() -> bytes | None:
            estimate = sql.estimate(shape)
            return self.context.database.query(estimate.text, estimate.values(values))[0][0]

        limit = shape.limit or collection.DEFAULT_LIMIT
        page = collection.Page(rows, limit, cursor, None)
        count = counting.told(counted, shape.count, estimated)
        body = collection.body(page, limit, {"chain_id": chain.chain_id}, count=count)
        collection.link_next(request, response, page.next)
        send_kept(request, response, body, body_tag(body), KEPT)

    def _export(
        self, request: falcon.Request, response: falcon.Response, shape: sql.Shape, values: dict[str, Any]
    ) -> None:
        send_export(
            self.context,
            request,
            response,
            # Tokens have no coverage of which to tell.
            first=Statement(b"SELECT", ()),
            values=values,
            told=lambda _: {},
            select=lambda bind: sql.export(shape, bind, as_csv=values["format"] == "csv"),
            names=list(sql.csv_columns(shape.fields)),
            name="tokens",
        )


class OneToken(Resource):
    """``/v1/tokens/{address}``: one token."""

    summary: ClassVar = "One token"
    tag: ClassVar = "tokens"
    codes: ClassVar = (*Tokens.codes, "NOT_FOUND")
    conditional: ClassVar = True
    answer: ClassVar = an_object({"data": an_object(_TOKEN), "meta": ref("Meta"), "links": LINKS})

    params: ClassVar = Params((collection.CHAIN,))

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the token."""
        values = self.params.read(request.query_string)
        self.format(request)
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        address = self.address(path["address"])
        found = self.context.tokens.one(chain.chain_id, address)
        if found is None:
            raise ApiError("NOT_FOUND", f"0x{address.hex()} is not known as a token on {chain.name}")
        link = f"/v1/tokens/0x{address.hex()}"
        links = {name: f"{link}/{name}?chain={chain.chain_id}" for name in ("transfers", "holders")}
        parts = [b'{"data":', orjson.dumps(found), b',"meta":', orjson.dumps({"chain_id": chain.chain_id})]
        body = b"".join([*parts, b',"links":', orjson.dumps(links), b"}"])
        send_kept(request, response, body, body_tag(body), KEPT)
