"""The document: valid, and true of what the API does."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import ROUTES
from tests.integration.api.expanded import expanded
from tests.integration.api.world import MANIFEST


@pytest.fixture(scope="module")
def document(api) -> Any:
    return api.get("/openapi.json")


@pytest.fixture(scope="module")
def typed(document, api_context) -> Any:
    """The document as those see it who use the schemas of rows."""
    return expanded(document, api_context.catalog.current())


@pytest.mark.promise("A-07")
def test_it_is_valid(document):
    OpenAPIV31SpecValidator(document).validate()


def test_every_event_and_series_has_a_schema_of_its_own(document, api):
    kinds = document["x-gapless"]
    schemas = document["components"]["schemas"]
    names = []
    for contract in api.get("/v1/contracts")["data"]:
        names += [kinds["events"][contract["name"]][event] for event in contract["events"]]
        names += [kinds["series"][contract["name"]][series] for series in contract["snapshots"]]
    assert len(names) == len(set(names)) > 10
    assert set(names) <= set(schemas)
    assert set(document["paths"]) == {path for path, _ in ROUTES}


def test_filters_are_what_the_types_of_arguments_say(document, api):
    """A client knows all filters of an event from the schema of its rows."""
    schemas = document["components"]["schemas"]
    for contract, events in document["x-gapless"]["events"].items():
        listed = {event["name"]: event for event in api.get(f"/v1/contracts/{contract}/events")["data"]}
        for event, name in events.items():
            args = schemas[name]["allOf"][1]["properties"]["args"].get("properties", {})
            for argument in listed[event]["arguments"]:
                allowed = schemas[args[argument["name"]].get("$ref", "").rpartition("/")[2] or "Row"].get(
                    "x-filters", []
                )
                said = [f"arg.{argument['name']}" + (f".{one}" if one != "eq" else "") for one in allowed]
                assert said == argument["filters"]


def test_operations_have_names_of_their_own(document):
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


def _resolved(value: Any, document: Any) -> Any:
    """The schema with its references filled in."""
    if isinstance(value, dict):
        if "allOf" in value:
            parts = [_resolved(part, document) for part in value["allOf"]]
            return {"type": "object", "properties": {k: v for part in parts for k, v in part["properties"].items()}}
        if "$ref" in value:
            target = document
            for part in value["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            return _resolved(target, document)
        return {key: _resolved(item, document) for key, item in value.items()}
    return [_resolved(item, document) for item in value] if isinstance(value, list) else value


def _strict(schema: Any) -> Any:
    """The schema, with no member allowed that it does not name."""
    if isinstance(schema, dict):
        schema = {key: _strict(item) for key, item in schema.items()}
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        return schema
    return [_strict(item) for item in schema] if isinstance(schema, list) else schema


def _asked(document: Any) -> Iterator[tuple[str, str]]:
    """Every path, with what it needs to be answered."""
    values = {"contract": "coins", "id": "1100-1", "address": "0x" + "00" * 20, "number": "1100"}
    values |= {"key": "1", "job": "1"}
    for path, item in document["paths"].items():
        if "get" not in item:
            continue
        filled = path
        for name, value in values.items():
            filled = filled.replace(f"{{{name}}}", value)
        yield path, filled


@pytest.mark.promise("A-07")
def test_answers_are_what_the_document_says(typed, api):
    """Each path's answer against its schema; members that the schema does not name are errors too."""
    document = typed
    answered = 0
    for path, asked in _asked(document):
        for query in ("", "?chain=ethereum", "?chain=ethereum&include=token&count=exact&limit=5"):
            result = api.ask(asked + query)
            responses = document["paths"][path]["get"]["responses"]
            response = _resolved(responses[str(result.status_code)], document)
            schema = _strict(response["content"]["application/json"]["schema"])
            Draft202012Validator(schema).validate(result.json)
            answered += result.status_code == 200
    assert answered > 70


@pytest.mark.promise("A-07")
def test_errors_are_what_the_document_says(document, api):
    schema = _strict(_resolved(document["components"]["schemas"]["Error"], document))
    for asked in ("/v1/contracts/nobody", "/v1/contracts/usdc/events/Transfer?limit=x", "/nothing"):
        Draft202012Validator(schema).validate(json.loads(api.ask(asked).text))


def test_the_document_follows_the_catalog(make_client, seed):
    client = make_client()
    before = client.ask("/openapi.json")
    assert "tether" not in before.json["x-gapless"]["events"]
    tether = f'chain = "ethereum"\nabi = "erc20.json"\naddress = "0x{"77" * 20}"\nstart_block = 1\n'
    seed.declare(f"{MANIFEST}\n[contracts.tether]\n{tether}")
    # Asking for what is new is enough: what is not known is looked for.
    assert client.get("/v1/contracts/tether/events/Transfer")["data"] == []
    after = client.ask("/openapi.json")
    assert after.json["x-gapless"]["events"]["tether"]["Transfer"] in after.json["components"]["schemas"]
    assert after.headers["etag"] != before.headers["etag"]
