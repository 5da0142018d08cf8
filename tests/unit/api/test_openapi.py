"""The size of the OpenAPI document, and the names in it."""

import re
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import ROUTES
from api.catalog import Catalog, Contract, Event
from api.openapi import document
from indexer.abi.columns import event_columns
from indexer.abi.model import parse_abi

TYPES = ("address", "address", "uint256", "bytes32", "string")


def catalog(contracts: dict[str, dict[str, list[dict[str, Any]]]]) -> Catalog:
    """What indexes these contracts: the inputs of their events by name."""
    made, number = {}, 0
    for name, events in contracts.items():
        found = {}
        for event, inputs in events.items():
            number += 1
            parsed = parse_abi([{"type": "event", "name": event, "inputs": inputs}]).events[0]
            found[event] = Event(
                event_id=number, contract=name, schema_name=name, table_name=event.lower(), name=event, api_name=event,
                signature=parsed.signature, topic0=b"", anonymous=False, columns=event_columns(parsed), active=True,
                ordered_by=frozenset(), addresses={}, standard=None,
            )  # fmt: skip
        made[name] = Contract(len(made), name, True, {}, found, {})
    return Catalog("1", {}, made)


def inputs(*names: str, types: Iterable[str] = TYPES) -> list[dict[str, Any]]:
    return [{"name": name, "type": abi_type, "indexed": False} for name, abi_type in zip(names, types, strict=False)]


def many(contracts: int, events: int) -> Catalog:
    """Contracts of which no two share an event or the name of an argument."""
    return catalog(
        {
            f"contract_number_{c}": {
                f"SomethingHappened{c}x{e}": inputs(*(f"argument_{c}_{e}_{a}" for a in range(5))) for e in range(events)
            }
            for c in range(contracts)
        }
    )


@pytest.mark.promise("A-07")
def test_fifty_contracts_of_ten_events_each_take_less_than_600_kb():
    described = document(many(50, 10), ROUTES)
    size = len(orjson.dumps(described))
    assert size < 600_000, f"{size} bytes"
    assert set(described["paths"]) == {template for template, _ in ROUTES}
    assert sum(map(len, described["x-gapless"]["events"].values())) == 500
    OpenAPIV31SpecValidator(document(many(2, 2), ROUTES)).validate()


def test_an_event_has_the_types_of_its_arguments_and_their_filters():
    described = document(catalog({"usdc": {"Transfer": inputs("from", "to", "value")}}), ROUTES)
    schemas = described["components"]["schemas"]
    row = schemas[described["x-gapless"]["events"]["usdc"]["Transfer"]]
    assert row["allOf"][0] == {"$ref": "#/components/schemas/Row"}
    arguments = row["allOf"][1]["properties"]["args"]["properties"]
    assert arguments == {
        "from": {"$ref": "#/components/schemas/address"},
        "to": {"$ref": "#/components/schemas/address"},
        "value": {"$ref": "#/components/schemas/uint256"},
    }
    assert schemas["address"]["x-filters"] == ["eq", "in", "ne"]
    assert schemas["uint256"]["x-filters"] == ["eq", "in", "ne", "gt", "gte", "lt", "lte"]


def test_names_that_differ_by_case_alone_are_different_names_of_components():
    once = inputs("value", "Value", "VALUE")
    described = document(
        catalog(
            {
                "coin": {"Transfer": once, "transfer": once, "TRANSFER": once, "TransferArgs": once},
                "coin_transfer": {"Args": once, "Transfer": once},
                "er": {"ror": once},
                "ro": {"w": once},
            }
        ),
        ROUTES,
    )
    names = [name for events in described["x-gapless"]["events"].values() for name in events.values()]
    folded = {re.sub("[^a-z0-9]", "", name.lower()) for name in names}
    assert len(folded) == len(names) == 8
    assert not folded & {"error", "row", "page", "meta", "cointransferargs"} - {"cointransferargs"}
    assert {name for name in described["components"]["schemas"] if name in names} == set(names)


def test_what_has_a_name_keeps_it_when_more_is_indexed():
    once = inputs("value")
    before = document(catalog({"coin": {"transfer": once}}), ROUTES)["x-gapless"]["events"]["coin"]["transfer"]
    after = document(catalog({"coin": {"transfer": once, "Transfer": once}}), ROUTES)["x-gapless"]["events"]["coin"]
    assert after["transfer"] == before
    assert after["Transfer"] != before


def test_tuples_are_components_with_names_of_their_own():
    def pair(name: str) -> dict[str, Any]:
        return {**inputs(name, types=("tuple",))[0], "components": [{"name": "x", "type": "uint8"}]}

    described = document(catalog({"coin": {"Odd": [pair("data"), pair("Data"), pair("DATA")]}}), ROUTES)
    args = described["components"]["schemas"]["coin.Odd"]["allOf"][1]["properties"]["args"]["properties"]
    names = [schema["$ref"].rpartition("/")[2] for schema in args.values()]
    assert len({re.sub("[^a-z0-9]", "", name.lower()) for name in names}) == 3
    assert set(names) < set(described["components"]["schemas"])


def test_every_reference_leads_somewhere():
    everything = inputs(*map(str, range(9)), types=("uint8", "int256[]", "bytes4[2]", "bool", "string", "bytes",
                                                    "function", "fixed128x18", "uint256[][]"))  # fmt: skip
    point = {
        "name": "point", "type": "tuple[]", "indexed": False,
        "components": [{"name": "x", "type": "int128"}, {"name": "data", "type": "bytes"}],
    }  # fmt: skip
    hashed = {"name": "key", "type": "string", "indexed": True}
    described = document(catalog({"zoo": {"Everything": [*everything, point, hashed], "Nothing": []}}), ROUTES)
    text = orjson.dumps(described).decode()
    for kind, name in set(re.findall(r'"#/components/(\w+)/([^"]+)"', text)):
        assert name in described["components"][kind]
