"""Blocks, as far as their headers are kept: those that bore an indexed event, and those that can still change."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Final

import falcon
import orjson
from pydantic import Field

from api import caching
from api.catalog import Chain
from api.errors import ApiError, Problem
from api.resources.base import Resource, body_tag, send_kept
from api.resources.common_parameters import ChainParameters
from api.schemas import BLOCK, FINALITY, HASH, TIME, an_object, nullable, ref
from api.sql import blocks as sql
from api.state import State
from api.values import BLOCK as NUMBER
from api.values import TIME as MOMENT
from api.values import BadValueError

NAMES: Final = ("latest", "safe", "finalized")

_BLOCK: Final = {
    "number": BLOCK,
    "hash": nullable(HASH),
    "parent_hash": nullable({**HASH, "description": "Null where only the block's logs were seen."}),
    "time": nullable(TIME),
    "finality": FINALITY,
}


class TimeParameters(ChainParameters):
    """A moment of a chain."""

    time: Annotated[datetime, MOMENT] = Field(description="The moment.")


class OneBlock(Resource):
    """``/v1/blocks/{number}``: a block by number or name."""

    summary: ClassVar = "A block by its number, or the latest, safe or finalized one"
    tag: ClassVar = "blocks"
    codes: ClassVar = ("CHAIN_REQUIRED", "CHAIN_NOT_FOUND", "NOT_FOUND", "BLOCK_NOT_INDEXED")
    conditional: ClassVar = True
    params: ClassVar = ChainParameters
    answer: ClassVar = an_object({"data": an_object(_BLOCK), "meta": ref("Meta")})

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the block."""
        values = self.params.read(request.query_string).given()
        self.format(request)
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        name = path["number"]
        if name in NAMES:
            statement = catalog.once(("block", chain.chain_id, name), lambda: sql.by_name(chain.chain_id, name))
        else:
            try:
                values["number"] = NUMBER.parse(name)
            except BadValueError:
                allowed = f"must be a block's number, or {', '.join(NAMES)}"
                raise ApiError.invalid([Problem("number", allowed)]) from None
            statement = catalog.once(("block", chain.chain_id), lambda: sql.by_number(chain.chain_id))
        raw, block = self.context.database.query(statement.text, statement.values(values))[0]
        state = State.read(raw or b"")
        if block is None:
            state.require_block(values.get("number"))
            raise ApiError(
                "NOT_FOUND",
                f"{chain.name} has no indexed block {name} yet"
                if name in NAMES
                else f"the header of block {name} is not kept: it bore no indexed event, or the number has no block",
            )
        data = orjson.loads(block)
        _send(request, response, chain, state, data, settled=name not in NAMES and data["finality"] == "finalized")


class BlockByTime(Resource):
    """``/v1/blocks?time=...``: time to block."""

    summary: ClassVar = "The newest known block at a time"
    tag: ClassVar = "blocks"
    codes: ClassVar = ("CHAIN_REQUIRED", "CHAIN_NOT_FOUND", "NOT_FOUND")
    conditional: ClassVar = True
    params: ClassVar = TimeParameters
    answer: ClassVar = an_object(
        {
            "data": an_object(
                {
                    **_BLOCK,
                    "exact": {
                        "type": "boolean",
                        "description": "Whether the next block is known too: else there may be newer ones at this "
                        "time, which bore no indexed event.",
                    },
                }
            ),
            "meta": ref("Meta"),
        }
    )

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the block."""
        values = self.params.read(request.query_string).given()
        self.format(request)
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        statement = catalog.once(("block at", chain.chain_id), lambda: sql.by_time(chain.chain_id))
        raw, block, following = self.context.database.query(statement.text, statement.values(values))[0]
        state = State.read(raw or b"")
        if block is None:
            raise ApiError("NOT_FOUND", f"no block of {chain.name} that is known here is that old")
        data = orjson.loads(block)
        # The newest of all is not exact: it is not known yet when the next one will be.
        data["exact"] = following is not None and int(following) - 1 == data["number"]
        _send(request, response, chain, state, data, settled=data["exact"] and data["finality"] == "finalized")


def _send(
    request: falcon.Request, response: falcon.Response, chain: Chain, state: State, data: Any, *, settled: bool
) -> None:
    meta = state.meta(chain.chain_id)
    # It is of one block that this speaks, not of a range of them.
    del meta["complete"], meta["missing"]
    body = orjson.dumps({"data": data, "meta": meta})
    tag = body_tag(orjson.dumps(data) if settled else body)
    send_kept(request, response, body, tag, caching.cache_control(settled=settled, block_seconds=chain.block_seconds))
