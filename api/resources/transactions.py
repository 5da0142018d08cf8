"""One transaction: all that is indexed of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import falcon
import orjson

from api import caching
from api.catalog import Catalog, Chain
from api.errors import ApiError, Problem
from api.resources.base import Resource, body_tag, send_kept
from api.resources.common_parameters import ChainParameters
from api.resources.feed import Feed, events_of, feed_query
from api.resources.row_page import Page, body, is_lacking
from api.schemas import BLOCK, HASH, TIME, an_array, an_object, nullable, ref
from api.sql.events import ANY_EVENT
from api.sql.feed import block_of_transaction
from api.sql.members import row_schema
from api.sql.source import MAX_LIMIT
from api.state import State
from api.values import HASH as HASH_TEXT
from api.values import BadValueError

#: Pages of events that are read of one transaction: more than a block has room for.
_MOST_PAGES: Final = 100

_ONE: Final = an_object(
    {
        "chain_id": {"type": "integer"},
        "chain": {"type": "string"},
        "tx_hash": HASH,
        "block_number": BLOCK,
        "block_time": nullable(TIME),
        "transaction": nullable({**ref("Transaction"), "description": "Where the manifest's include keeps it."}),
        "events": {**an_array(row_schema(ANY_EVENT)), "description": "In order; each log once."},
        "meta": ref("Meta"),
    }
)


@dataclass(frozen=True, slots=True)
class _Found:
    """What one chain has of a transaction.

    Attributes:
        begun: its JSON up to ``meta``, without its end.
        meta: how far the chain is indexed.
        settled: whether nothing but a rewrite can change it.
        block_seconds: between the chain's blocks; 0: not known.
    """

    begun: bytes
    meta: Mapping[str, Any]
    settled: bool
    block_seconds: float


class OneTransaction(Resource):
    """``/v1/transactions/{hash}``: all indexed events of a transaction, of all contracts, on each chain that has it."""

    summary: ClassVar = "A transaction with all of its indexed events"
    tag: ClassVar = "events"
    codes: ClassVar = ("CHAIN_NOT_FOUND", "NOT_FOUND")
    conditional: ClassVar = True
    params: ClassVar = ChainParameters
    answer: ClassVar = an_object({"data": an_array(_ONE)})

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with what each chain has of it; on nearly all hashes that is one."""
        values = self.params.read(request.query_string).given()
        self.format(request)
        try:
            tx_hash = HASH_TEXT.parse(path["hash"])
        except BadValueError as error:
            raise ApiError.invalid([Problem("hash", str(error))]) from None
        catalog = self.context.catalog.current()
        chains = [catalog.chain(values["chain"])] if "chain" in values else list(catalog.chains.values())
        found = [one for chain in chains if (one := self._on(catalog, chain, tx_hash)) is not None]
        if not found:
            where = chains[0].name if len(chains) == 1 else "any chain here"
            raise ApiError("NOT_FOUND", f"no indexed event of {where} is of the transaction 0x{tx_hash.hex()}")
        text = b'{"data":[' + b",".join(body(one.begun, one.meta) for one in found) + b"]}"
        settled = all(one.settled for one in found)
        # `meta` of a settled answer names the head at which it was made.
        tag = body_tag(b"".join(one.begun for one in found) if settled else text)
        seconds = min(one.block_seconds for one in found)
        send_kept(request, response, text, tag, caching.cache_control(settled=settled, block_seconds=seconds))

    def _on(self, catalog: Catalog, chain: Chain, tx_hash: bytes) -> "_Found | None":
        """What a chain has of it; None: nothing."""
        events = events_of(catalog, chain, {})
        place = catalog.for_shape(("transaction", chain.chain_id), lambda: block_of_transaction(events, chain.chain_id))
        rows = self.context.database.query(place.text, place.values({"tx_hash": tx_hash}))
        if not rows or rows[0][0] is None:
            return None
        number = int(rows[0][0])
        pages = list(self._pages(catalog, chain, tx_hash, number))
        events_text = b",".join(page.data for page, _, _ in pages if page.data)
        if not events_text:  # of a branch that has gone meanwhile
            return None
        _, state, transactions = pages[-1]
        first = orjson.loads(b"[" + pages[0][0].data + b"]")[0]
        begun = orjson.dumps(
            {
                "chain_id": chain.chain_id,
                "chain": chain.name,
                "tx_hash": f"0x{tx_hash.hex()}",
                "block_number": number,
                "block_time": first["block_time"],
                "transaction": orjson.loads(transactions).get(f"0x{tx_hash.hex()}"),
            }
        )
        return _Found(
            begun=begun[:-1] + b',"events":[' + events_text + b"]",
            meta=Feed(self.context).meta(state, chain),
            settled=state.settled(explicit_end=True) and not is_lacking({"transactions": transactions}),
            block_seconds=chain.block_seconds or 0,
        )

    def _pages(
        self, catalog: Catalog, chain: Chain, tx_hash: bytes, number: int
    ) -> Iterator[tuple[Page, State, bytes]]:
        """The pages of its events, each with its state and its transactions."""
        # Within one block no index is needed: tables without one on hashes are read too.
        values: dict[str, Any] = {
            "tx_hash": tx_hash,
            "from_block": number,
            "to_block": number,
            "order": "asc",
            "limit": MAX_LIMIT,
            "include": frozenset(("tx",)),
        }
        feed = Feed(self.context)
        for _ in range(_MOST_PAGES):
            query = feed_query(catalog, chain, events_of(catalog, chain, {}), values)
            query.values["window"] = self.context.settings.api_unindexed_window
            state, page, _, included = feed.page(query)
            assert state is not None
            yield page, state, included["transactions"]
            if page.next is None:
                return
            values["after"] = Feed.order.cursor.parse(page.next)
