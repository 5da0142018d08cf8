"""The document: valid, and true of what the API does."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import ROUTES
from tests.integration.api.world import MANIFEST


@pytest.fixture(scope="module")
def document(api) -> Any:
    return api.get("/openapi.json")


@pytest.mark.promise("A-07")
def test_it_is_valid(document):
    OpenAPIV31SpecValidator(document).validate()


def test_every_event_and_series_has_paths_of_its_own(document, api):
    for contract in api.get("/v1/contracts")["data"]:
        for event in contract["events"]:
            assert f"/v1/contracts/{contract['name']}/events/{event}" in document["paths"]
        for series in contract["snapshots"]:
            assert f"/v1/contracts/{contract['name']}/snapshots/{series}/latest" in document["paths"]
    plain = {path for path, _ in ROUTES if "{event}" not in path and "{series}" not in path}
    assert plain <= set(document["paths"])


def test_arguments_are_parameters_with_their_types(document):
    operation = document["paths"]["/v1/contracts/usdc/events/Transfer"]["get"]
    named = {p["name"]: p for p in operation["parameters"] if "name" in p}
    assert named["arg.from"]["schema"]["pattern"] == "^0x[0-9a-fA-F]{40}$"
    assert named["arg.value.gte"]["schema"]["type"] == "string"
    assert named["arg.from.in"]["schema"]["type"] == "array"
    args = operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["data"]["items"][
        "properties"
    ]["args"]["properties"]
    assert list(args) == ["from", "to", "value"]


def test_operations_have_names_of_their_own(document):
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


def _resolved(value: Any, document: Any) -> Any:
    """The schema with its references filled in."""
    if isinstance(value, dict):
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
def test_answers_are_what_the_document_says(document, api):
    """Each path's answer against its schema; members that the schema does not name are errors too."""
    answered = 0
    for path, asked in _asked(document):
        for query in ("", "?chain=ethereum", "?chain=ethereum&include=token&count=exact&limit=5"):
            result = api.ask(asked + query)
            responses = document["paths"][path]["get"]["responses"]
            response = _resolved(responses[str(result.status_code)], document)
            schema = _strict(response["content"]["application/json"]["schema"])
            Draft202012Validator(schema).validate(result.json)
            answered += result.status_code == 200
    assert answered > 30


@pytest.mark.promise("A-07")
def test_errors_are_what_the_document_says(document, api):
    schema = _strict(_resolved(document["components"]["schemas"]["Error"], document))
    for asked in ("/v1/contracts/nobody", "/v1/contracts/usdc/events/Transfer?limit=x", "/nothing"):
        Draft202012Validator(schema).validate(json.loads(api.ask(asked).text))


def test_the_document_follows_the_catalog(make_client, seed):
    client = make_client()
    before = client.ask("/openapi.json")
    assert "/v1/contracts/tether/events/Transfer" not in before.json["paths"]
    tether = f'chain = "ethereum"\nabi = "erc20.json"\naddress = "0x{"77" * 20}"\nstart_block = 1\n'
    seed.declare(f"{MANIFEST}\n[contracts.tether]\n{tether}")
    # Asking for what is new is enough: what is not known is looked for.
    assert client.get("/v1/contracts/tether/events/Transfer")["data"] == []
    after = client.ask("/openapi.json")
    assert "/v1/contracts/tether/events/Transfer" in after.json["paths"]
    assert after.headers["etag"] != before.headers["etag"]
