"""Balances: what an address has, and who has a token."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from api.catalog import Event
from api.errors import ApiError
from api.resources import common_parameters as common
from api.resources.collection import Collection
from api.resources.row_page import Query
from api.resources.transfers import AssetParameters, TokenIdParameters
from api.sql import balances as sql
from api.sql.balances import LedgerSource
from api.state import State
from api.transfer_tables import transfer_events
from api.values import BLOCK, choice
from indexer.abi import token_standards

_AT_BLOCK: Final = (
    "As of this block: later transfers are taken back. 409 if it is not counted yet, 422 if that is too many blocks."
)


class BalanceFreshness(common.FreshnessParameters):
    """Which state of the ledgers is answered from."""

    finality: Annotated[str, choice("latest", "safe", "finalized")] = Field(
        "latest", description="As of the newest block that is at least this final."
    )
    at_block: Annotated[int | None, BLOCK] = Field(None, description=_AT_BLOCK)


class _Ledgers(Collection):
    tag: ClassVar = "tokens"
    codes: ClassVar = (
        "INVALID_ADDRESS",
        "INVALID_CURSOR",
        "CHAIN_REQUIRED",
        "CHAIN_NOT_FOUND",
        "NOT_FOUND",
        "BLOCK_NOT_INDEXED",
    )
    freshness: ClassVar = BalanceFreshness
    include: ClassVar = ("token",)
    source: ClassVar[type[LedgerSource]]

    def of(self, values: dict[str, Any], name: str) -> Query:
        """A request for what its values say."""
        catalog = self.context.catalog.current()
        chain = catalog.chain(values.get("chain"))
        is_past = "at_block" in values or values["finality"] != "latest"
        past = transfer_events(catalog, chain) if is_past else None
        served = not self.source.of_token and all(map(_is_served, past or ()))
        return Query(catalog, chain, values, self.source(past, gated=not served), name=name)

    def check(self, query: Query, state: State) -> None:
        """Refuse what the state does not allow.

        Raises:
            ApiError: NOT_FOUND if it is not counted; BLOCK_NOT_INDEXED, QUERY_TOO_EXPENSIVE.
        """
        held = state.held
        assert held is not None
        if held.uncounted or held.furthest is None:
            of = ", ".join(held.uncounted) or ("0x" + query.values["token"].hex() if held.of_token else "any token")
            raise ApiError(
                "NOT_FOUND",
                f"balances of {of} are not kept on {query.chain.name}: name its contract in the manifest, as "
                '[balances] contracts = ["…"]',
            )
        super().check(query, state)
        rows = query.source
        if not isinstance(rows, LedgerSource) or rows.past is None:
            return
        last = -1 if state.last is None else state.last
        if stale := [one for one in held.ledgers if one["stale"] and (one["at_block"] or 0) > last]:
            others = "" if held.of_token else "; name others with token=…"
            raise ApiError(
                "BLOCK_NOT_INDEXED",
                f"balances of {stale[0]['contract']} are stale: they are known as of block "
                f"{stale[0]['at_block']} only; {stale[0]['remark']}{others}",
            )
        blocks = held.furthest - last
        window = self.context.settings.api_unindexed_window
        if rows.gated and blocks > window:
            raise ApiError(
                "QUERY_TOO_EXPENSIVE",
                f"block {last} is {blocks} blocks back: the transfers of at most {window} can be taken back",
            )


def _is_served(event: Event) -> bool:
    """Whether indexes lead to what an address gave and received."""
    parties = token_standards.parties(event.signature, event.columns)
    return all(column.name in event.ordered_by for column in parties)


class Balances(_Ledgers):
    """``/v1/addresses/{address}/balances``: what an address has of the tokens whose balances are kept."""

    summary: ClassVar = "What an address has"
    filters: ClassVar = (AssetParameters,)
    first: ClassVar = "asc"
    ordered_by: ClassVar = "By token and token id."
    order: ClassVar = sql.BY_TOKEN
    members: ClassVar = sql.BALANCE_MEMBERS
    source: ClassVar = sql.BalanceSource

    def query(self, text: str, path: Mapping[str, str]) -> Query:
        """Read a request."""
        values = self.params.read(text).given()
        holder = self.address(path["address"])
        if "token" in values:
            values["address"] = values["token"]
        return self.of(values | {"holder": holder}, f"balances-0x{holder.hex()}")


class Holders(_Ledgers):
    """``/v1/tokens/{address}/holders``: who has a token."""

    summary: ClassVar = "Who has a token"
    filters: ClassVar = (TokenIdParameters,)
    ordered_by: ClassVar = "By token id, then by balance."
    order: ClassVar = sql.BY_AMOUNT
    members: ClassVar = sql.HOLDER_MEMBERS
    source: ClassVar = sql.HolderSource

    def query(self, text: str, path: Mapping[str, str]) -> Query:
        """Read a request."""
        values = self.params.read(text).given()
        token = self.address(path["address"])
        return self.of(values | {"token": token}, f"holders-0x{token.hex()}")
