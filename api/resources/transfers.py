"""Transfers of tokens: those of one token, and those of one address."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from api.catalog import Catalog, Chain
from api.parameters import Parameters
from api.resources import common_parameters as common
from api.resources.collection import Collection
from api.resources.row_page import Query
from api.sql.query_shape import BY_BATCH_ITEM
from api.sql.transfers import MEMBERS, STANDARDS, TransferSource, TransferTable
from api.transfer_tables import tables_of
from api.values import ADDRESS, choice, integer, list_of

TOKEN_ID: Final = integer(0, 2**256 - 1)


class TokenIdParameters(Parameters):
    """Which token of a contract."""

    token_id: Annotated[int | None, TOKEN_ID] = Field(None, description="Which token of a collection.")


class PartyParameters(Parameters):
    """Who had a part in a transfer."""

    giver: Annotated[bytes | None, ADDRESS] = Field(None, alias="from", description="Who gave.")
    receiver: Annotated[bytes | None, ADDRESS] = Field(None, alias="to", description="Who received.")


class DirectionParameters(Parameters):
    """Which side of a transfer the address of the path is on."""

    direction: Annotated[Literal["in", "out", "any"], choice("in", "out", "any")] = Field(
        "any", description="What it received, what it gave, or both."
    )


class AssetParameters(Parameters):
    """Of which tokens."""

    token: Annotated[list[bytes] | None, list_of(ADDRESS)] = Field(
        None, description="Only of these tokens (comma list); 404 if one is not indexed."
    )
    kind: Annotated[str | None, choice(*STANDARDS)] = Field(None, description="Only of this standard.")


class _Transfers(Collection):
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
    include: ClassVar = ("token", "tx")
    order: ClassVar = BY_BATCH_ITEM
    members: ClassVar = MEMBERS

    def of(self, values: dict[str, Any], name: str) -> Query:
        """A request; its value ``address`` holds the tokens that it is about."""

        def tables(catalog: Catalog) -> tuple[Catalog, Chain, tuple[TransferTable, ...]]:
            chain = catalog.chain(values.get("chain"))
            database = self.context.database
            return catalog, chain, tables_of(catalog, chain, database, values.get("address"), kind=values.get("kind"))

        catalog, chain, found = self.looked_up(tables)
        return Query(catalog, chain, values, TransferSource(found, values.get("direction")), name=name)


class TokenTransfers(_Transfers):
    """``/v1/tokens/{address}/transfers``: the transfers of one token."""

    summary: ClassVar = "The transfers of a token"
    filters: ClassVar = (
        common.BoundParameters,
        PartyParameters,
        TokenIdParameters,
        common.TransactionParameters,
    )

    def query(self, text: str, path: Mapping[str, str]) -> Query:
        """Read a request."""
        values = self.params.read(text).given()
        token = self.address(path["address"])
        return self.of(values | {"token": token, "address": [token]}, f"transfers-0x{token.hex()}")


class AddressTransfers(_Transfers):
    """``/v1/addresses/{address}/transfers``: what an address gave and received, of any token."""

    summary: ClassVar = "The transfers from and to an address"
    filters: ClassVar = (
        common.BoundParameters,
        DirectionParameters,
        AssetParameters,
        common.TransactionParameters,
    )

    def query(self, text: str, path: Mapping[str, str]) -> Query:
        """Read a request."""
        values = self.params.read(text).given()
        participant = self.address(path["address"])
        values["participant"] = participant
        if (tokens := values.pop("token", None)) is not None:
            values |= {"token": tokens[0], "address": tokens}
        return self.of(values, f"transfers-of-0x{participant.hex()}")
