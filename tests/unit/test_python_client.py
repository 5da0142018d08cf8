"""The Python client against a server that does what a real one does seldom, and its tables at their edges."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

import httpx
import pyarrow as pa
import pytest

from gapless_client import (
    AsyncGapless,
    Connection,
    Gapless,
    GaplessError,
    Message,
    Reorged,
    Retries,
    Revert,
    Status,
    StreamRow,
    UnreachableError,
)
from gapless_client.document import RowSchema
from gapless_client.errors import refusal
from gapless_client.events import EventParser
from gapless_client.tables import arrow_table, data_frame

QUICK = Retries(first_delay=0.001)
URL = "http://gapless.test"
BIG = 2**256 - 1
META = {"chain_id": 1, "indexed_block": 9, "head_block": 9, "finalized_block": 5, "lag_seconds": 0}
DIGITS = {"type": "string", "pattern": "^(0|-?[1-9][0-9]*)$"}
UINT256 = {**DIGITS, "x-name": "uint256"}
HEX = {"type": "string", "pattern": "^0x([0-9a-f]{2})*$"}


def _answering(schema: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"responses": {"200": {"content": {"application/json": {"schema": schema}}}}}}


ROW = {"type": "object", "properties": {"id": {"type": "string"}, "args": {"$ref": "#/components/schemas/args"}}}
DOCUMENT = {
    "x-gapless": {"events": {"coins": {"Transfer": "coins.Transfer"}}, "series": {}},
    "components": {
        "schemas": {
            "coins.Transfer": {"allOf": [ROW]},
            "args": {"type": "object", "properties": {"value": {"$ref": "#/components/schemas/uint256"}}},
            "uint256": DIGITS,
        }
    },
    "paths": {
        "/v1/tokens/{address}/holders": _answering(
            {"properties": {"data": {"items": {"type": "object", "properties": {"balance": DIGITS}}}}}
        ),
        "/v1/contracts/{contract}/events/{event}": _answering(
            {
                "type": "object",
                "properties": {
                    "transactions": {
                        "type": "object",
                        "additionalProperties": {
                            "anyOf": [{"type": "object", "properties": {"value": DIGITS}}, {"type": "null"}]
                        },
                    }
                },
            }
        ),
    },
}


def row(row_id: str, value: int | str) -> dict[str, Any]:
    return {"id": row_id, "args": {"value": value}}


def page(*rows: Any, after: str | None = None, **more: Any) -> httpx.Response:
    turned = {"next": after, "prev": None, "last": None, "limit": 2} | more.pop("page", {})
    return httpx.Response(200, json={"data": rows, "page": turned, "meta": META} | more)


def refused(status: int, code: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    return httpx.Response(status, json={"error": "not now", "code": code, **more}, headers=headers)


def sse(cursor: str, name: str, data: Any) -> bytes:
    return f"id: {cursor}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        for byte in self._body:
            yield bytes([byte])
        raise httpx.ReadError("cut")

    async def __aiter__(self) -> Any:
        for byte in self._body:
            yield bytes([byte])
        raise httpx.ReadError("cut")


class Server:
    """Gives one answer after the other; the document whenever it is asked for."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/openapi.json":
            return httpx.Response(200, json=DOCUMENT)
        self.asked.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def later(self, request: httpx.Request) -> httpx.Response:
        return self(request)

    def client(self, **more: Any) -> Gapless:
        return Gapless(URL, http=httpx.Client(transport=httpx.MockTransport(self)), **{"retries": QUICK, **more})

    def async_client(self, **more: Any) -> AsyncGapless:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.later))
        return AsyncGapless(URL, http=http, **{"retries": QUICK, **more})

    @property
    def queries(self) -> list[str]:
        return [request.url.query.decode() for request in self.asked]


def test_a_walk_follows_the_pages_and_digits_become_int():
    server = Server(page(row("3-1", str(BIG)), after="a b"), page(row("2-1", "7")))
    rows = server.client().rows("coins", "Transfer", where={"value.gt": 5}, limit=1)
    assert list(rows) == [row("3-1", BIG), row("2-1", 7)]
    assert server.queries == ["limit=1&arg.value.gt=5", "limit=1&arg.value.gt=5&after=a+b"]


def test_a_reorganisation_during_a_walk_is_an_error_that_knows_where_to_go_on():
    gone = refused(409, "REORGED", {"X-Request-Id": "r1"}, common_block=17)
    walk = iter(Server(page(row("18-1", "1"), after="18-1.aa"), gone).client().rows("coins", "Transfer"))
    assert next(walk) == row("18-1", 1)
    with pytest.raises(Reorged) as error:
        next(walk)
    assert (error.value.common_block, error.value.code, error.value.request_id) == (17, "REORGED", "r1")


def test_what_passes_is_tried_again_as_the_server_says(monkeypatch: pytest.MonkeyPatch):
    slept: list[float] = []
    monkeypatch.setattr("gapless_client.client.time.sleep", slept.append)
    server = Server(
        refused(429, "RATE_LIMITED", {"Retry-After": "7"}),
        httpx.ConnectError("refused"),
        refused(503, "DATABASE_UNAVAILABLE"),
        page(row("3-1", "1")),
        refused(400, "INVALID_PARAMETER", details=[{"parameter": "limit", "message": "is no number"}]),
    )
    client = server.client()
    assert client.page("coins", "Transfer").rows == [row("3-1", 1)]
    assert len(slept) == 3
    assert slept[0] == 7
    assert all(0 < seconds < 0.01 for seconds in slept[1:])
    with pytest.raises(GaplessError, match="not now") as error:
        client.page("coins", "Transfer", limit="x")
    assert error.value.details == ({"parameter": "limit", "message": "is no number"},)


def test_attempts_and_patience_have_an_end():
    twice = Retries(attempts=2, first_delay=0.001)
    with pytest.raises(GaplessError, match="not now"):
        Server(refused(503, "OVERLOADED"), refused(503, "OVERLOADED")).client(retries=twice).page("coins", "Transfer")
    with pytest.raises(GaplessError) as error:
        Server(refused(503, "OVERLOADED", {"Retry-After": "3600"})).client().page("coins", "Transfer")
    assert error.value.retry_after == 3600
    with pytest.raises(UnreachableError, match="refused"):
        Server(*[httpx.ConnectError("refused")] * 5).client().page("coins", "Transfer")


def test_what_something_in_between_answers_is_an_error_too():
    with pytest.raises(GaplessError, match="404: <html>nothing here") as error:
        Server(httpx.Response(404, text="<html>nothing here")).client().get("/v1")
    assert error.value.code == "UNKNOWN"
    now = datetime(2024, 1, 1, tzinfo=UTC)
    dated = refusal(503, {"Retry-After": "Mon, 01 Jan 2024 00:00:09 GMT"}, "", now)
    assert dated.retry_after == 9
    assert refusal(503, {"Retry-After": "soon"}, "", now).retry_after is None


def test_holders_are_walked_as_of_one_block():
    def holders(balance: str, after: str | None) -> httpx.Response:
        return page({"balance": balance}, after=after, meta={**META, "at_block": 5})

    server = Server(holders("2", "c"), holders("1", None))
    path = "/v1/tokens/{address}/holders"
    assert list(server.client().all(path, address="0xaa", limit=1)) == [{"balance": 2}, {"balance": 1}]
    assert server.queries == ["limit=1&finality=finalized", "limit=1&finality=finalized&after=c&at_block=5"]
    with pytest.raises(TypeError, match="needs address"):
        server.client().list(path)


def test_wait_count_and_transactions_go_through():
    counted = {"count": 12, "count_is": "exact"}
    server = Server(page(row("3-1", "1"), page=counted, transactions={"0xaa": {"value": "5"}, "0xbb": None}))
    found = server.client().page("coins", "Transfer", include=["token", "tx"], count="exact", min_block=7, wait=10)
    assert (found.count, found.count_is, found.transactions) == (12, "exact", {"0xaa": {"value": 5}, "0xbb": None})
    assert server.queries == ["include=token%2Ctx&count=exact&min_block=7&wait=10"]


STATUS = {"through_block": 9, "waiting_for_block": None, "rewrites": 2, "meta": META}
FIRST = (
    b"retry: 10\n\n"
    + sse("9-0.aa", "status", STATUS)
    + sse("10-1.bb", "row", row("10-1", "5"))
    + b": heartbeat\nid: 11-9.cc\n\nid: 12-1.ee\nevent: row\nda"
)
SECOND = sse("9-0.aa", "revert", {"common_block": 9}) + sse("10-1.dd", "row", row("10-1", "6"))
SAID: list[Message] = [
    Status(9, None, 2, META, "9-0.aa"),
    StreamRow(row("10-1", 5), "10-1.bb"),
    Revert(9, "9-0.aa"),
    StreamRow(row("10-1", 6), "10-1.dd"),
]
STATES = [
    ("connecting", 1, "NoneType"),
    ("open", 1, "NoneType"),
    ("waiting", 1, "UnreachableError"),
    ("connecting", 2, "NoneType"),
    ("waiting", 2, "GaplessError"),
    ("connecting", 3, "NoneType"),
    ("open", 3, "NoneType"),
    ("closed", 0, "NoneType"),
]


def breaking() -> Server:
    return Server(
        httpx.Response(200, stream=Broken(FIRST)),
        refused(503, "STREAMS_FULL", {"Retry-After": "0"}),
        httpx.Response(200, content=SECOND),
    )


def _heard() -> tuple[list[tuple[str, int, str]], list[int | None], dict[str, Callable[..., Any]]]:
    states: list[tuple[str, int, str]] = []
    progress: list[int | None] = []

    def on_state(connection: Connection) -> None:
        states.append((connection.state, connection.attempt, type(connection.error).__name__))

    return states, progress, {"on_state": on_state, "on_progress": lambda status: progress.append(status.through)}


def test_a_stream_that_breaks_goes_on_where_it_was_and_says_so():
    server = breaking()
    states, progress, callbacks = _heard()
    stream = server.client().stream("coins", "Transfer", **callbacks)
    assert list(islice(stream, 4)) == SAID
    stream.close()  # type: ignore[attr-defined]
    assert [request.headers.get("Last-Event-ID") for request in server.asked] == [None, "11-9.cc", "11-9.cc"]
    assert states == STATES
    assert progress == [9]


def test_so_does_one_for_asyncio():
    server = breaking()
    states, progress, callbacks = _heard()

    async def listen() -> list[Message]:
        found: list[Message] = []
        stream = server.async_client().stream("coins", "Transfer", **callbacks)
        async for message in stream:
            found.append(message)
            if len(found) == 4:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        return found

    assert asyncio.run(listen()) == SAID
    assert [request.headers.get("Last-Event-ID") for request in server.asked] == [None, "11-9.cc", "11-9.cc"]
    assert (states, progress) == (STATES, [9])


def test_a_row_whose_type_cannot_be_read_just_now_is_not_lost():
    class Hesitating(Server):
        refusals = 5

        def __call__(self, request: httpx.Request) -> httpx.Response:
            if request.url.path == "/openapi.json" and self.refusals:
                self.refusals -= 1
                return refused(503, "OVERLOADED")
            return super().__call__(request)

    first, again = (httpx.Response(200, content=sse("9-1.aa", "row", row("9-1", "5"))) for _ in range(2))
    server = Hesitating(first, again)
    assert next(iter(server.client().stream("coins", "Transfer", after="8-1"))) == StreamRow(row("9-1", 5), "9-1.aa")
    assert [request.headers.get("Last-Event-ID") for request in server.asked] == ["8-1", "8-1"]


def test_without_a_callback_a_break_is_logged(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, "gapless_client"):
        assert list(islice(breaking().client().stream("coins", "Transfer"), 4)) == SAID
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "the stream broke (the server cannot be reached: cut)",
        "the stream broke (not now)",
    ]


def test_a_refused_stream_is_an_error():
    with pytest.raises(GaplessError) as error:
        next(iter(Server(refused(404, "EVENT_NOT_FOUND")).client().stream("coins", "Transfer")))
    assert error.value.code == "EVENT_NOT_FOUND"


def test_a_key_is_never_in_an_address():
    server = Server(
        page(),
        httpx.Response(200, json={"data": {"access_token": "short"}}),
        httpx.Response(200, content=sse("1-1", "row", row("1-1", "1"))),
    )
    client = server.client(key="gapless_secret")
    assert list(client.rows("coins", "Transfer")) == []
    next(iter(client.stream("coins", "Transfer")))
    assert [request.headers.get("Authorization") for request in server.asked] == ["Bearer gapless_secret"] * 2 + [None]
    assert server.queries[1:] == ["", "access_token=short"]


def test_asyncio_walks_and_tries_again_too():
    server = Server(page(row("3-1", "3"), after="c"), refused(429, "RATE_LIMITED"), page(row("2-1", str(BIG))))

    async def token() -> str:
        return "short"

    async def walked() -> Any:
        async with server.async_client(token=token) as client:
            return await client.rows("coins", "Transfer").to_arrow()

    table = asyncio.run(walked())
    assert table.column("args.value").to_pylist() == ["3", str(BIG)]
    assert {request.headers["Authorization"] for request in server.asked} == {"Bearer short"}


def test_events_are_parsed_however_they_are_cut():
    text = 'event: row\r\ndata: {"a":\r\ndata: "é"}\r\nid: 1\r\n\r\n: silence\n\nid: 2\n\ndata: 3\n\n'.encode()
    for size in (1, 2, 3, 7, len(text)):
        parser = EventParser()
        found = [event for at in range(0, len(text), size) for event in parser.feed(text[at : at + size])]
        assert [(e.name, e.data, e.cursor) for e in found] == [
            ("row", '{"a":\n"é"}', "1"),
            ("", "", "2"),
            ("", "3", ""),
        ]


def column(kind: dict[str, Any], *values: Any, binary: bool = False) -> pa.ChunkedArray:
    return arrow_table([[{"x": value} for value in values]], RowSchema({"x": kind}), binary=binary).column("x")


@pytest.mark.parametrize(
    ("name", "values", "arrow"),
    [
        ("uint64", [0, 2**64 - 1, None], "uint64"),
        ("int64", [-(2**63), 2**63 - 1], "int64"),
        ("uint56", [2**56 - 1], "uint64"),
        ("uint128", [2**128 - 1, None], "decimal256(39, 0)"),
        ("int128", [-(2**127)], "decimal256(39, 0)"),
        ("uint248", [2**248 - 1], "decimal256(75, 0)"),
        ("uint256", [0, 10**76 - 1], "decimal256(76, 0)"),
        ("uint256", [10**76, 1, None], "string"),
        ("uint256", [BIG], "string"),
        ("int256", [-(2**255)], "string"),
        ("", [10**75], "decimal256(76, 0)"),
        ("", [10**80], "string"),
    ],
)
def test_integers_are_exact_in_tables(name: str, values: list[int | None], arrow: str):
    kind = {**DIGITS, "x-name": name}
    found = column(kind, *values)
    assert str(found.type) == arrow
    assert [None if value is None else int(value) for value in found.to_pylist()] == values
    frame = data_frame([[{"x": value} for value in values]], RowSchema({"x": kind}))
    assert list(frame["x"]) == values
    assert all(value is None or type(value) is int for value in frame["x"])


def test_other_values_in_tables():
    fixed = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$", "x-name": "fixed128x18"}
    assert column(fixed, Decimal("-1.5")).to_pylist() == [Decimal("-1.500000000000000000")]
    assert column(HEX, "0x00ff", None).to_pylist() == ["0x00ff", None]
    assert column(HEX, "0x00ff", "0x", binary=True).to_pylist() == [b"\x00\xff", b""]
    pair = {"type": "object", "properties": {"y": UINT256, "z": HEX}}
    herd = {"type": "array", "items": pair}
    found = column(herd, [{"y": 7, "z": "0x01"}], [], None)
    assert str(found.type) == "list<item: struct<y: decimal256(76, 0), z: string>>"
    assert found.to_pylist() == [[{"y": Decimal(7), "z": "0x01"}], [], None]
    assert str(column(herd, [{"y": 7, "z": "0x"}, {"y": BIG, "z": "0x"}]).type).startswith(
        "list<item: struct<y: string"
    )
    assert column({"type": "object"}, {"a": [1]}, None).to_pylist() == ['{"a": [1]}', None]
    time = {"type": "string", "format": "date-time"}
    moment = datetime(2023, 4, 2, 9, 19, 24, tzinfo=UTC)
    assert column(time, "2023-04-02T09:19:24Z", None).to_pylist() == [moment, None]
    frame = data_frame([[{"x": "2023-04-02T09:19:24Z"}, {"x": None}]], RowSchema({"x": time}))
    assert str(frame["x"].dtype) == "datetime64[s, UTC]"
    assert frame["x"][0] == moment
    assert str(data_frame([], RowSchema({"x": {"type": "integer"}}))["x"].dtype) == "Int64"
    half = {"type": "number"}
    assert column(half, 0.5, None).to_pylist() == [0.5, None]
    assert str(data_frame([[{"x": 0.5}, {"x": None}]], RowSchema({"x": half}))["x"].dtype) == "Float64"


@pytest.mark.parametrize(
    ("values", "arrow"),
    [
        (["1.5", "-0.0000000000000000000000125", None], "decimal256(76, 25)"),
        (["7", "100"], "decimal256(76, 0)"),
        ([str(10**70), "0.0000001"], "string"),
        ([], "decimal256(76, 0)"),
    ],
)
def test_a_numeric_has_as_many_decimals_as_its_values(values: list[str | None], arrow: str):
    numeric = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?$"}
    exact = [None if value is None else Decimal(value) for value in values]
    found = column(numeric, *exact)
    assert str(found.type) == arrow
    assert [None if value is None else Decimal(value) for value in found.to_pylist()] == exact
    assert list(data_frame([[{"x": value} for value in exact]], RowSchema({"x": numeric}))["x"]) == exact


def test_columns_are_those_that_are_asked_for():
    members = {
        "id": {"type": "string"},
        "tx_index": {"type": "integer", "x-usual": False},
        "args": {"type": "object", "properties": {"a": UINT256, "b": UINT256}},
    }
    assert arrow_table([], RowSchema(members)).column_names == ["id", "args.a", "args.b"]
    chosen = RowSchema(members, frozenset(("tx_index", "args.b")))
    assert arrow_table([], chosen).column_names == ["tx_index", "args.b"]
    sums = {"sums": {"type": "object", "additionalProperties": DIGITS}}
    assert arrow_table([[{"sums": {"a": 1}}, {}]], RowSchema(sums)).to_pydict() == {"sums.a": [Decimal(1), None]}
