"""Balances: what an address has, and who has a token."""

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import falcon

from api.catalog import Catalog, Chain, Event, Series
from api.errors import ApiError
from api.params import Param, Params
from api.resources import collection
from api.resources.base import Resource
from api.resources.events import BESIDE
from api.resources.rows import INCLUDE_TOKEN, RowsQuery, answer_rows
from api.resources.transfers import STANDARDS, TOKEN_ID
from api.schemas import ADDRESS as ADDRESS_SCHEMA
from api.schemas import BLOCK, DIGITS, Schema, an_array, an_object, nullable, ref
from api.sql import balances as sql
from api.sql.statement import Binder, Statement
from api.state import State
from api.transfer_tables import transfer_events
from api.values import ADDRESS, BadValueError, Kind, choice, list_of
from indexer.abi import token_standards

_BIG: Final = r"(0|[1-9][0-9]{0,77})"
_OF_BALANCE: Final = re.compile(rf"0x([0-9a-f]{{40}})-{_BIG}")
_OF_HOLDER: Final = re.compile(rf"{_BIG}-(0|-?[1-9][0-9]{{0,98}})-0x([0-9a-f]{{40}})")


def _cursor(pattern: re.Pattern[str], read: Callable[[re.Match[str]], dict[str, Any]]) -> Kind[dict[str, Any]]:
    def parse(text: str) -> dict[str, Any]:
        match = pattern.fullmatch(text)
        if not match:
            raise BadValueError("must be page.next, page.prev or page.last as they were given", "INVALID_CURSOR")
        return read(match)

    return Kind(parse, {"type": "string"})


_BALANCE: Final = _cursor(_OF_BALANCE, lambda m: {"cursor_token": bytes.fromhex(m[1]), "cursor_token_id": int(m[2])})
_HOLDER: Final = _cursor(
    _OF_HOLDER,
    lambda m: {"cursor_token_id": int(m[1]), "cursor_amount": int(m[2]), "cursor_holder": bytes.fromhex(m[3])},
)


class HeldQuery(RowsQuery):
    """A request for balances.

    Args:
        catalog: what is indexed.
        chain: the chain.
        values: what :meth:`Params.read` made of the query string, and the format; with ``holder`` for the balances of
            an address, ``token`` for the holders of a token.
        of: which of both.
        name: of the file that an export is saved as.
    """

    def __init__(self, catalog: Catalog, chain: Chain, values: dict[str, Any], of: Any, name: str) -> None:
        super().__init__(catalog, chain, values)
        self.name = name
        self.shape = self._shape()
        is_past = "at_block" in values or values["finality"] != "latest"
        past = tuple(transfer_events(catalog, chain)) if is_past else None
        given = frozenset(name for name in ("token", "kind", "token_id") if name in values)
        served = of == "address" and all(_is_served(event) for event in past or ())
        self.asked = sql.Asked(of, given - {"token"} if of == "token" else given, past, gated=not served)
        self._key = (of, given, past is not None, self.shape)

    def _cursor_values(self, cursor: Any) -> dict[str, Any]:
        return cursor or {}

    def state_statement(self) -> Statement:
        """The statement of the state alone."""
        return self._once("balances state", lambda: sql.state_only(self.asked, self.shape))

    def page_statement(self, window: int) -> Statement:
        """The statement of the page."""
        return self._once("balances page", lambda: sql.page(self.asked, self.shape, window))

    def estimate_statement(self) -> Statement:
        """The statement of the planner's estimate of how many rows there are."""
        return sql.estimate(self.asked, self.shape)

    def unserved(self) -> str | None:
        """Nothing: the ledgers have all indexes."""
        return None

    def check(self, state: State, window: int) -> None:
        """Refuse what the state does not allow.

        Raises:
            ApiError: NOT_FOUND if nobody counts it; BLOCK_NOT_INDEXED, QUERY_TOO_EXPENSIVE.
        """
        held = state.held
        assert held is not None
        if held.uncounted or held.furthest is None:
            of = ", ".join(held.uncounted) or ("0x" + self.values["token"].hex() if held.of_token else "any token")
            raise ApiError(
                "NOT_FOUND",
                f"balances of {of} are not kept on {self.chain.name}: name its contract in the manifest, as "
                '[balances] contracts = ["…"]',
            )
        super().check(state, window)
        if self.asked.past is None:
            return
        last = -1 if state.last is None else state.last
        if stale := [one for one in held.ledgers if one["stale"] and (one["at_block"] or 0) > last]:
            others = "" if held.of_token else "; token=… asks for others"
            raise ApiError(
                "BLOCK_NOT_INDEXED",
                f"balances of {stale[0]['contract']} are stale, and can only be told as of block "
                f"{stale[0]['at_block']}: {stale[0]['remark']}{others}",
            )
        blocks = held.furthest - last
        if self.asked.gated and blocks > window:
            raise ApiError(
                "QUERY_TOO_EXPENSIVE",
                f"block {last} is {blocks} blocks back: the transfers of at most {window} can be taken back",
            )

    def etag(self, state: State, *salt: object) -> str:
        """The entity tag of an answer in this state."""
        return super().etag(state, state.held, *salt)

    def csv_names(self) -> list[str]:
        """The columns of a CSV."""
        return list(sql.csv_columns(self.asked, self.shape.fields))

    def export_query(self, bind: Binder, *, as_csv: bool) -> str:
        """The query of an export."""
        return sql.export(self.asked, self.shape, bind, limit=self.values.get("limit"), as_csv=as_csv)


def _is_served(event: Event) -> bool:
    """Whether indexes lead to what somebody gave and received."""
    parties = token_standards.parties(event.signature, event.columns)
    return all(column.name in event.ordered_by for column in parties)


class _Held(Resource):
    tag: ClassVar = "tokens"
    codes: ClassVar = (
        "INVALID_ADDRESS",
        "INVALID_CURSOR",
        "CHAIN_REQUIRED",
        "CHAIN_NOT_FOUND",
        "NOT_FOUND",
        "BLOCK_NOT_INDEXED",
    )
    conditional: ClassVar = True
    formats: ClassVar = ("json", "csv", "ndjson")
    row: ClassVar[Schema]

    @classmethod
    def described(
        cls, catalog: Catalog, *, event: Event | None = None, series: Series | None = None
    ) -> tuple[Sequence[Param], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        members = {"data": an_array(cls.row), "page": ref("Page"), "meta": ref("Meta"), "tokens": BESIDE["tokens"]}
        return cls.params.all, an_object(members, required=("data", "page", "meta"))

    @abstractmethod
    def query(self, catalog: Catalog, chain: Chain, values: dict[str, Any], address: bytes) -> HeldQuery:
        """The request for what has to do with an address."""

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with a page, or with an export."""
        values = self.params.read(request.query_string)
        address = self.address(path["address"])
        values["format"] = self.format(request, values.get("format"))
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        answer_rows(self.context, request, response, self.query(catalog, chain, values, address))


_AT_BLOCK: Final = Param(
    "at_block",
    collection.AT_BLOCK.kind,
    "As of this block: later transfers are taken back. 409 if it is not counted yet, 422 if that is too many blocks.",
)
_FINALITY: Final = Param(
    "finality",
    collection.FINALITY.kind,
    "As of the newest block that is at least this final.",
    default="latest",
)
_FRESHNESS: Final = (_FINALITY, _AT_BLOCK, collection.MIN_BLOCK, collection.WAIT)


class Balances(_Held):
    """``/v1/addresses/{address}/balances``: what an address has of the tokens whose balances are kept."""

    summary: ClassVar = "What an address has"
    params: ClassVar = Params(
        (
            collection.CHAIN,
            collection.LIMIT,
            Param("after", _BALANCE, "The rows that follow a cursor."),
            Param("before", _BALANCE, "The rows just before a cursor."),
            Param("order", choice("asc", "desc"), "By token and token id.", default="asc"),
            Param("token", list_of(ADDRESS), "Only of these tokens (comma list); 404 if one is not counted."),
            Param("kind", choice(*STANDARDS), "Only of this standard."),
            *_FRESHNESS,
            INCLUDE_TOKEN,
            collection.fields(sql.BALANCE_FIELDS),
            collection.COUNT,
            collection.FORMAT,
        )
    )
    row: ClassVar = an_object(
        {
            "token": ADDRESS_SCHEMA,
            "kind": {"type": "string", "enum": list(STANDARDS)},
            "token_id": nullable({**DIGITS, "description": "Null for ERC-20."}),
            "balance": {**DIGITS, "description": "In the token's smallest unit; 1 for ERC-721. Never 0."},
            "contract": {"type": "string", "description": "Name in the manifest."},
            "at_block": {**BLOCK, "description": "True at the end of this block."},
            "stale": {"type": "boolean", "description": "Its ledger goes no further; see meta.ledgers."},
            "exact": {"type": "boolean", "description": "The token's balances follow from its transfers."},
            "problem": nullable({"type": "string", "description": "Why not, as far as known."}),
        },
        required=(),
    )

    def query(self, catalog: Catalog, chain: Chain, values: dict[str, Any], address: bytes) -> HeldQuery:
        """The request for what the address has."""
        if "token" in values:
            values["address"] = values["token"]
        values["holder"] = address
        return HeldQuery(catalog, chain, values, "address", f"balances-0x{address.hex()}")


class Holders(_Held):
    """``/v1/tokens/{address}/holders``: who has a token."""

    summary: ClassVar = "Who has a token"
    params: ClassVar = Params(
        (
            collection.CHAIN,
            collection.LIMIT,
            Param("after", _HOLDER, "The rows that follow a cursor."),
            Param("before", _HOLDER, "The rows just before a cursor."),
            Param("order", choice("asc", "desc"), "By token id, then by balance.", default="desc"),
            Param("token_id", TOKEN_ID, "Which token of a collection."),
            *_FRESHNESS,
            INCLUDE_TOKEN,
            collection.fields(sql.HOLDER_FIELDS),
            collection.COUNT,
            collection.FORMAT,
        )
    )
    row: ClassVar = an_object(
        {
            "address": ADDRESS_SCHEMA,
            "token_id": nullable({**DIGITS, "description": "Null for ERC-20."}),
            "balance": {**DIGITS, "description": "In the token's smallest unit; 1 for ERC-721. Never 0."},
        },
        required=(),
    )

    def query(self, catalog: Catalog, chain: Chain, values: dict[str, Any], address: bytes) -> HeldQuery:
        """The request for who has the token."""
        return HeldQuery(catalog, chain, values | {"token": address}, "token", f"holders-0x{address.hex()}")
