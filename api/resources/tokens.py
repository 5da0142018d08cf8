"""Tokens: what contracts say of themselves."""

from typing import Annotated, ClassVar, Final

import falcon
import orjson
from pydantic import Field

from api.errors import ApiError
from api.parameters import Parameters
from api.resources import row_page
from api.resources.base import Resource, body_tag, send_kept
from api.resources.collection import Collection
from api.resources.common_parameters import ChainParameters
from api.schemas import ADDRESS, BLOCK, LINKS, an_object, nullable, ref
from api.sql import members
from api.sql.query_shape import Key, RowOrder
from api.sql.source import TableFilter, TableSource
from api.values import ADDRESS as ADDRESS_TEXT
from api.values import choice, list_of
from api.values import text as short_text

STANDARDS: Final = ("erc20", "erc721", "erc1155")
#: Tokens are read once and seldom again.
KEPT: Final = "public, max-age=30"
_TEXT: Final = nullable({"type": "string"})
_DECIMALS: Final = nullable({"type": "integer", "description": "Null if unknown, which is neither 0 nor 18."})
_ROWS: Final = TableSource(
    "gapless.tokens",
    RowOrder(Key("address", "bytea")),
    (
        members.hexadecimal("address", "t.address", ADDRESS),
        members.text("kind", "t.kind", nullable({"type": "string", "enum": list(STANDARDS)})),
        members.text("name", "t.name", _TEXT),
        members.text("symbol", "t.symbol", _TEXT),
        members.value("decimals", "t.decimals", _DECIMALS, null=True),
        members.value(
            "problems", "t.problems", nullable({"type": "object", "description": "What was odd, by field."}), null=True
        ),
        members.value("block_number", "t.block_number", {**BLOCK, "description": "Read at this block."}),
    ),
    {
        "address": TableFilter("t.address = ANY ({})", "bytea[]"),
        "kind": TableFilter("t.kind = {}", "text"),
        "symbol": TableFilter("t.symbol = {}", "text"),
    },
)


class TokenFilters(Parameters):
    """Which tokens."""

    address: Annotated[list[bytes] | None, list_of(ADDRESS_TEXT)] = Field(None, description="Only these (comma list).")
    kind: Annotated[str | None, choice(*STANDARDS)] = Field(None, description="Only of this standard.")
    symbol: Annotated[str | None, short_text(200)] = Field(
        None, description="Only with exactly this symbol; many may claim it."
    )


class Tokens(Collection):
    """``/v1/tokens``: all tokens of a chain, by address."""

    summary: ClassVar = "The tokens of a chain"
    tag: ClassVar = "tokens"
    codes: ClassVar = ("INVALID_ADDRESS", "CHAIN_REQUIRED", "CHAIN_NOT_FOUND")
    filters: ClassVar = (TokenFilters,)
    freshness: ClassVar = None
    first: ClassVar = "asc"
    ordered_by: ClassVar = "By address."
    kept: ClassVar = KEPT
    rows: ClassVar = _ROWS


class OneToken(Resource):
    """``/v1/tokens/{address}``: one token."""

    summary: ClassVar = "One token"
    tag: ClassVar = "tokens"
    codes: ClassVar = (*Tokens.codes, "NOT_FOUND")
    conditional: ClassVar = True
    answer: ClassVar = an_object(
        {"data": an_object({m.name: m.schema for m in _ROWS.members}), "meta": ref("Meta"), "links": LINKS}
    )
    params: ClassVar = ChainParameters

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the token."""
        parameters = ChainParameters.read(request.query_string)
        self.format(request)
        chain = self.context.catalog.current().chain(parameters.chain)
        address = self.address(path["address"])
        found = self.context.tokens.one(chain.chain_id, address)
        if found is None:
            raise ApiError("NOT_FOUND", f"0x{address.hex()} is not known as a token on {chain.name}")
        link = f"/v1/tokens/0x{address.hex()}"
        links = {name: f"{link}/{name}?chain={chain.chain_id}" for name in ("transfers", "holders")}
        begun = b'{"data":' + orjson.dumps(found)
        body = row_page.body(begun, {"chain_id": chain.chain_id}, {"links": orjson.dumps(links)})
        send_kept(request, response, body, body_tag(body), KEPT)
