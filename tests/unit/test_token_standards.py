"""Which standard a Transfer event belongs to: ERC-20 and ERC-721 share its signature."""

from __future__ import annotations

import pytest

from indexer.abi.columns import event_columns
from indexer.abi.model import parse_abi
from indexer.store.catalog.catalog import CatalogEvent
from indexer.store.schema.layout import EventTable
from indexer.store.tokens.transfers import standard_of


def _event(types: str, indexed: int, *, name: str = "Transfer", anonymous: bool = False) -> CatalogEvent:
    """An event; so many of its arguments are indexed."""
    inputs = [{"name": f"a{n}", "type": one, "indexed": n < indexed} for n, one in enumerate(types.split(","))]
    item = {"type": "event", "name": name, "inputs": inputs, "anonymous": anonymous}
    event = parse_abi([item]).events[0]
    table = EventTable(1, "token", "transfer", event_columns(event))
    return CatalogEvent(1, 1, "token", name, name, event.signature, event.topic0, anonymous, item, table)


def _function(name: str, *types: str) -> dict[str, object]:
    return {"type": "function", "name": name, "inputs": [{"name": "", "type": one} for one in types]}


OWNER_OF, ALLOWANCE = _function("ownerOf", "uint256"), _function("allowance", "address", "address")
TRANSFER = "address,address,uint256"


@pytest.mark.parametrize(
    ("indexed", "abi", "standard"),
    [
        (2, [], "erc20"),
        (3, [], "erc721"),
        (0, [OWNER_OF], "erc721"),  # CryptoKitties indexes nothing
        (3, [ALLOWANCE], "erc20"),
        (0, [], "erc20"),
        (2, [ALLOWANCE, _function("ownerOf", "bytes32")], "erc20"),
    ],
)
def test_functions_tell_and_else_what_is_indexed(indexed, abi, standard):
    assert standard_of(_event(TRANSFER, indexed), abi) == standard


def test_both_events_of_erc1155():
    assert standard_of(_event("address,address,address,uint256,uint256", 3, name="TransferSingle"), []) == "erc1155"
    assert standard_of(_event("address,address,address,uint256[],uint256[]", 3, name="TransferBatch"), []) == "erc1155"


def test_what_only_looks_like_a_transfer_is_none():
    assert standard_of(_event(TRANSFER, 2, name="Moved"), []) is None
    assert standard_of(_event("address,address,uint128", 2), []) is None
    assert standard_of(_event(TRANSFER, 2, anonymous=True), []) is None
