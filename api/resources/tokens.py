"""Tokens: what contracts say of themselves."""

from typing import ClassVar, Final

import falcon
import orjson

from api.errors import ApiError
from api.params import Param, Params
from api.resources import collection
from api.resources.base import Resource, body_tag, send_kept
from api.schemas import ADDRESS as ADDRESS_SCHEMA
from api.schemas import BLOCK, an_array, an_object, nullable, ref
from api.sql import json_text
from api.sql.statement import Binder, Statement
from api.values import ADDRESS, choice, list_of, text

#: Tokens are read once and seldom again.
KEPT: Final = "public, max-age=30"

_ROW: Final = json_text.object_text(
    [
        ("address", json_text.hex_text("t.address")),
        ("kind", "coalesce(to_json(t.kind)::text, 'null')"),
        ("name", "coalesce(to_json(t.name)::text, 'null')"),
        ("symbol", "coalesce(to_json(t.symbol)::text, 'null')"),
        ("decimals", "coalesce(t.decimals::text, 'null')"),
        ("problems", "coalesce(t.problems::text, 'null')"),
        ("block_number", "t.block_number::text"),
    ]
)

_AFTER: Final = "Tokens that follow this address in the answer's order."
_BEFORE: Final = "The tokens just before this address in the answer's order."


_TOKEN: Final = an_object(
    {
        "address": ADDRESS_SCHEMA,
        "kind": nullable({"type": "string", "enum": ["erc20", "erc721", "erc1155"]}),
        "name": nullable({"type": "string"}),
        "symbol": nullable({"type": "string"}),
        "decimals": nullable({"type": "integer", "description": "Null if unknown, which is neither 0 nor 18."}),
        "problems": nullable({"type": "object", "description": "What was odd, by field."}),
        "block_number": {**BLOCK, "description": "Read at this block."},
    }
)


class Tokens(Resource):
    """``/v1/tokens``: all tokens of a chain, by address."""

    summary: ClassVar = "The tokens of a chain"
    tag: ClassVar = "tokens"
    codes: ClassVar = ("INVALID_ADDRESS", "CHAIN_REQUIRED", "CHAIN_NOT_FOUND")
    conditional: ClassVar = True
    answer: ClassVar = an_object({"data": an_array(_TOKEN), "page": ref("Page"), "meta": ref("Meta")})

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
        )
    )

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with a page."""
        values = self.params.read(request.query_string)
        self.format(request)
        collection.check_together(values)
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        limit = values.get("limit", collection.DEFAULT_LIMIT)
        cursor = collection.cursor_side(values)
        given = frozenset(name for name in ("address", "kind", "symbol") if name in values)
        key = ("tokens", chain.chain_id, given, cursor, values["order"], limit)
        statement = catalog.once(key, lambda: _page(chain.chain_id, given, cursor, values["order"], limit))
        values["cursor"] = values.get(cursor or "")
        rows = self.context.database.query(statement.text, statement.values(values))[0][0]
        page = collection.Page(rows, limit, cursor, None)
        body = b"".join(
            [
                b'{"data":[',
                page.data,
                b'],"page":',
                orjson.dumps(page.described(limit)),
                b',"meta":',
                orjson.dumps({"chain_id": chain.chain_id}),
                b"}",
            ]
        )
        collection.link_next(request, response, page.next)
        send_kept(request, response, body, body_tag(body), KEPT)


class OneToken(Resource):
    """``/v1/tokens/{address}``: one token."""

    summary: ClassVar = "One token"
    tag: ClassVar = "tokens"
    codes: ClassVar = (*Tokens.codes, "NOT_FOUND")
    conditional: ClassVar = True
    answer: ClassVar = an_object({"data": _TOKEN, "meta": ref("Meta")})

    params: ClassVar = Params((collection.CHAIN,))

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the token."""
        values = self.params.read(request.query_string)
        self.format(request)
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        address = self.address(path["address"])
        found = self.context.database.query(
            f"SELECT {_ROW} FROM gapless.tokens t WHERE t.chain_id = {chain.chain_id} AND t.address = $1", [address]
        )
        if not found:
            raise ApiError("NOT_FOUND", f"0x{address.hex()} is not known as a token on {chain.name}")
        body = b'{"data":' + (found[0][0] or b"") + b',"meta":' + orjson.dumps({"chain_id": chain.chain_id}) + b"}"
        send_kept(request, response, body, body_tag(body), KEPT)


def _page(chain_id: int, given: frozenset[str], cursor: str | None, order: str, limit: int) -> Statement:
    bind = Binder()
    where = [f"t.chain_id = {chain_id}"]
    if "address" in given:
        where.append(f"t.address = ANY ({bind('address', 'bytea[]')})")
    where += [f"t.{name} = {bind(name, 'text')}" for name in ("kind", "symbol") if name in given]
    forward = (order == "asc") == (cursor != "before")
    if cursor:
        where.append(f"t.address {'>' if forward else '<'} {bind('cursor', 'bytea')}")
    rows = f"""SELECT t.address, '0x' || encode(t.address, 'hex') || chr(9) || {_ROW} AS row FROM gapless.tokens t
    WHERE {" AND ".join(where)} ORDER BY t.address {"ASC" if forward else "DESC"} LIMIT {limit + 1}"""
    return Statement.of(f"SELECT string_agg(row, chr(10) ORDER BY address {order}) FROM ({rows}) t", bind)
