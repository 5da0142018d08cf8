"""Bodies: what a model says is what is read, and what the OpenAPI document says."""

from typing import Annotated, Any, ClassVar

import falcon
import falcon.testing
import pytest
from pydantic import Field

from api.body import MAX_BYTES, Body, NoBody, Operation, request_body
from api.errors import ApiError, send


class Part(Body):
    name: str


class Thing(Body):
    title: Annotated[str, Field(max_length=5)]
    size: int = 3
    parts: tuple[Part, ...] = ()


MAKE = Operation("Make a thing", Thing, {"type": "object"}, status=201)
POKE = Operation("Poke", NoBody, None, status=204)


class Things:
    read: ClassVar[list[Any]] = []

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.read.append(MAKE.read(req))

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        self.read.append(POKE.read(req))


@pytest.fixture
def client() -> falcon.testing.TestClient:
    app: Any = falcon.App()
    app.add_error_handler(ApiError, lambda _, response, error, __: send(response, error))
    app.add_route("/", Things())
    return falcon.testing.TestClient(app)


def refused(client: falcon.testing.TestClient, body: str | bytes, **more: Any) -> tuple[int, str, list[Any]]:
    headers = {"Content-Type": "application/json", **more.pop("headers", {})}
    result = client.simulate_post("/", body=body, headers=headers, **more)
    return result.status_code, result.json["code"], [d["parameter"] for d in result.json.get("details", ())]


def test_reads_what_the_model_says(client):
    Things.read.clear()
    body = '{"title": "é", "parts": [{"name": "a"}]}'
    assert client.simulate_post("/", body=body, headers={"Content-Type": "application/json; charset=utf-8"}).status == (
        "200 OK"
    )
    assert Things.read == [Thing(title="é", parts=(Part(name="a"),))]


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        ("", "UNSUPPORTED_MEDIA_TYPE", []),
        ("{", "BAD_REQUEST", []),
        ("[]", "BAD_REQUEST", []),
        ("[" * 60_000, "BAD_REQUEST", []),
        (b'{"title": "\xff"}', "BAD_REQUEST", []),
        ('{"title": "a", "size": NaN}', "BAD_REQUEST", []),
        ('{"title": "a", "size": ' + "9" * 5000 + "}", "BAD_REQUEST", []),
        ("{}", "INVALID_PARAMETER", ["title"]),
        ('{"title": 5}', "INVALID_PARAMETER", ["title"]),
        ('{"title": "abcdef"}', "INVALID_PARAMETER", ["title"]),
        ('{"title": "a\\u0000"}', "INVALID_PARAMETER", ["title"]),
        ('{"title": "\\ud800"}', "INVALID_PARAMETER", ["title"]),
        ('{"title": "a", "size": "3"}', "INVALID_PARAMETER", ["size"]),
        ('{"title": "a", "size": 3.0}', "INVALID_PARAMETER", ["size"]),
        ('{"title": "a", "size": true}', "INVALID_PARAMETER", ["size"]),
        ('{"title": "a", "title": "b"}', "UNKNOWN_PARAMETER", ["title"]),
        ('{"title": "a", "titel": "b"}', "UNKNOWN_PARAMETER", ["titel"]),
        ('{"title": "a", "parts": [{"name": "a", "x": 1}]}', "UNKNOWN_PARAMETER", ["parts.0.x"]),
        ('{"title": 1, "titel": "b"}', "INVALID_PARAMETER", ["title", "titel"]),
    ],
)
def test_refuses_everything_else(client, body, code, named):
    headers = {} if body else {"Content-Type": "text/plain"}
    status = 415 if code == "UNSUPPORTED_MEDIA_TYPE" else 400
    assert refused(client, body, headers=headers) == (status, code, named)


def test_refuses_other_media_types_and_long_bodies(client):
    thing = '{"title": "a"}'
    assert refused(client, thing, headers={"Content-Type": "text/plain"})[:2] == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert refused(client, thing, headers={"Content-Encoding": "gzip"})[:2] == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert refused(client, thing + " " * MAX_BYTES)[:2] == (413, "PAYLOAD_TOO_LARGE")


def test_parameters_do_not_belong_in_the_url(client):
    assert refused(client, '{"title": "a"}', query_string="title=a") == (400, "UNKNOWN_PARAMETER", ["title"])


def test_an_operation_without_a_body_takes_none(client):
    Things.read.clear()
    assert client.simulate_delete("/").status == "200 OK"
    assert Things.read == [NoBody()]
    result = client.simulate_delete("/", body='{"a": 1}', headers={"Content-Type": "application/json"})
    assert (result.status_code, result.json["code"]) == (400, "UNKNOWN_PARAMETER")


def test_is_documented_from_the_same_model():
    known: dict[str, Any] = {}
    described = request_body(MAKE, known)
    assert described is not None
    assert described["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Thing"}
    assert known["Thing"]["additionalProperties"] is False
    assert known["Thing"]["required"] == ["title"]
    assert known["Thing"]["properties"]["parts"]["items"] == {"$ref": "#/components/schemas/Part"}
    assert known["Part"]["required"] == ["name"]
    assert request_body(POKE, known) is None
