"""One endpoint and its vices: batches refused or mangled, wrong ids, pages in place of JSON, silence."""

import contextlib
import gzip
import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from indexer.chain.client import ChainClient
from indexer.chain.reads.questions import header_call, logs_call
from indexer.chain.records.errors import (
    AnswerError,
    FatalError,
    ProviderError,
    RangeError,
    RateError,
    RevertedError,
    TransientError,
)
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Call, parse_quantity
from indexer.chain.rpc.config import ClientSettings, EndpointConfig, RequestContext
from indexer.chain.rpc.endpoint import Endpoint
from indexer.chain.rpc.transport import Transport
from tests.posts import HttpAnswer
from tests.providers.node import CHAIN_ID, Node, Refusal

Serve = Callable[..., Node]
Connect = Callable[..., ChainClient]

CHAIN = Call("eth_chainId", ())


def numbers(answers: list[Any]) -> list[int]:
    for answer in answers:
        if isinstance(answer, ProviderError):
            raise answer
    return [int(json.loads(bytes(answer))["number"], 16) for answer in answers]


def ask_headers(endpoint: Endpoint, count: int) -> list[int]:
    return numbers(endpoint.ask([header_call(number) for number in range(count)], RequestContext()))


def test_answers_to_a_batch_are_matched_by_id(serve: Serve, connect: Connect) -> None:
    node = serve()  # it answers batches backwards
    assert ask_headers(connect(node).pool.endpoints[0], 50) == list(range(50))
    assert node.http_requests == 1


@pytest.mark.parametrize(("limit", "requests"), [(100, 3), (10, 25), (0, 251)])
def test_a_batch_limit_is_learned_once(serve: Serve, connect: Connect, limit: int, requests: int) -> None:
    node = serve(batches=limit)
    endpoint = connect(node).pool.endpoints[0]
    for _ in range(2):
        node.http_requests = 0
        assert ask_headers(endpoint, 250) == list(range(250))
    assert node.http_requests in (requests, requests - 1), "the second time nothing is tried in vain"
    assert endpoint.max_batch() == max(1, limit)


def test_a_batch_limit_without_words_is_found_by_halving(serve: Serve, connect: Connect) -> None:
    def refuse(_: Node, calls: list[Any]) -> None:
        if len(calls) > 30:
            raise HttpAnswer(413, b"")

    endpoint = connect(serve(before=refuse)).pool.endpoints[0]
    assert ask_headers(endpoint, 250) == list(range(250))
    assert 12 <= endpoint.max_batch() <= 30


def test_a_batch_limit_is_tried_upwards_an_hour_later(serve: Serve, connect: Connect, clock: Any) -> None:
    node = serve(batches=10)
    endpoint = connect(node).pool.endpoints[0]
    ask_headers(endpoint, 20)
    assert endpoint.max_batch() == 10
    node.batches = 1000
    clock.sleep(3601)
    assert endpoint.max_batch() == 20


def test_an_ill_node_is_not_taken_for_one_that_refuses_batches(serve: Serve, connect: Connect) -> None:
    def ill(_: Node, __: object) -> None:
        raise Refusal(-32000, "no comment")

    node = serve(before=ill)
    endpoint = connect(node).pool.endpoints[0]
    with pytest.raises(TransientError):
        ask_headers(endpoint, 4)
    assert endpoint.max_batch() == 100


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 429, 500])
def test_a_batch_refused_for_one_of_its_questions_is_not_taken_for_a_refusal_of_batches(
    serve: Serve, connect: Connect, status: int
) -> None:
    """The whole answer bears the status that the one question gets alone, too."""

    def refuse(params: dict[str, Any]) -> None:
        raise Refusal(-31996, "kein Zugriff", status=status)

    endpoint = connect(serve(question=refuse)).pool.endpoints[0]
    for _ in range(3):
        with contextlib.suppress(ProviderError):
            endpoint.ask([logs_call(0, 9, LogFilter()), header_call(9)], RequestContext())
    endpoint.forgive()
    assert endpoint.max_batch() == 100


Envelopes = list[dict[str, Any]]


def mangle(node: Node, lie: Callable[[Envelopes], Envelopes]) -> None:
    """Lets a node answer batches otherwise."""
    respond = node.respond

    def other(body: bytes) -> HttpAnswer:
        answer = respond(body)
        parsed = json.loads(answer.body)
        return replace(answer, body=json.dumps(lie(parsed) if isinstance(parsed, list) else parsed).encode())

    node.respond = other  # type: ignore[method-assign]


def first_twice_the_rest_missing(answers: Envelopes) -> Envelopes:
    return [answers[0], {**answers[0], "result": None}, *answers[2:]]


MANGLED: list[Callable[[Envelopes], Envelopes]] = [
    lambda answers: answers[:-1],
    lambda answers: answers[1:],
    lambda answers: answers[:1],
    lambda answers: answers[::2],
    lambda answers: [{**one, "id": 7} if at % 3 == 0 else one for at, one in enumerate(answers)],
    lambda answers: [{**one, "id": None} if at % 3 == 0 else one for at, one in enumerate(answers)],
    lambda answers: [{**one, "id": [1]} if at % 3 == 0 else one for at, one in enumerate(answers)],
    lambda answers: [{"id": one["id"], "jsonrpc": "2.0"} if at % 3 == 0 else one for at, one in enumerate(answers)],
    lambda answers: [*answers[:-1], {"id": None, "error": {"code": -32603, "message": "one of them failed"}}],
    lambda answers: [*answers, *answers],
    lambda answers: [*answers, {"id": 1, "jsonrpc": "2.0", "result": "0x1"}],
    first_twice_the_rest_missing,
]


@pytest.mark.parametrize("lie", MANGLED)
def test_of_a_batch_what_came_is_kept_and_the_rest_is_asked_for(
    serve: Serve, connect: Connect, lie: Callable[[Envelopes], Envelopes], caplog: pytest.LogCaptureFixture
) -> None:
    node = serve()
    mangle(node, lie)
    endpoint = connect(node).pool.endpoints[0]
    assert ask_headers(endpoint, 40) == list(range(40))
    assert node.counts["eth_getBlockByNumber"] <= 40 * 2 if lie is not MANGLED[2] else 40 * 41 // 2
    told = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) <= 1
    assert all(endpoint.host in record.getMessage() for record in told)


def test_batches_that_lack_some_answers_lose_no_progress(serve: Serve, connect: Connect) -> None:
    """Of every batch three in ten answers are absent."""
    node, source = serve(), random.Random(3)
    mangle(node, lambda answers: [one for one in answers if source.random() > 0.3])
    endpoint = connect(node).pool.endpoints[0]
    for _ in range(4):
        assert ask_headers(endpoint, 300) == list(range(300))
    assert node.counts["eth_getBlockByNumber"] <= 1.6 * 1_200, "each is asked for 1 / 0.7 times on average"
    assert node.http_requests <= 4 * 3 * 8
    assert endpoint.max_batch() == 100


def test_what_came_is_kept_where_the_rest_fails(serve: Serve, connect: Connect) -> None:
    node = serve()
    mangle(node, lambda answers: [one for one in answers if one["id"] % 2])

    def dies(one: Node, _: object) -> None:
        if one.http_requests > 1:
            raise HttpAnswer(502, b"<html>")

    node.before = dies
    endpoint = connect(node).pool.endpoints[0]
    answers = endpoint.ask([header_call(number) for number in range(10)], RequestContext())
    assert numbers(answers[1::2]) == [1, 3, 5, 7, 9]
    assert all(isinstance(answer, TransientError) for answer in answers[::2])


def test_batches_always_answered_up_to_the_same_place_become_as_short(serve: Serve, connect: Connect) -> None:
    node = serve()
    mangle(node, lambda answers: sorted(answers, key=lambda one: one["id"])[:10])
    endpoint = connect(node).pool.endpoints[0]
    for _ in range(3):
        assert ask_headers(endpoint, 60) == list(range(60))
    assert endpoint.max_batch() == 10


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"jsonrpc":"2.0","id":999999999,"result":"0x1"}', AnswerError),
        (b'{"jsonrpc":"2.0","result":"0x1"}', AnswerError),
        (b'{"jsonrpc":"2.0","id":4096}', AnswerError),
        (b'[{"jsonrpc":"2.0","id":4096,"result":"0x1"}]', AnswerError),
        (b"<html>Welcome</html>", TransientError),
        (b"", TransientError),
        (b'{"jsonrpc":"2.0","id":40', TransientError),
        (b'{"jsonrpc":"2.0","id":null,"error":"just words"}', TransientError),
        (b'{"jsonrpc":"2.0","id":null,"error":{"code":"-32005","message":"slow down"}}', RateError),
    ],
)
def test_an_answer_that_is_none(serve: Serve, connect: Connect, body: bytes, error: type[ProviderError]) -> None:
    def answer(_: Node, __: object) -> None:
        raise HttpAnswer(200, body)

    endpoint = connect(serve(before=answer)).pool.endpoints[0]
    with pytest.raises(error) as caught:
        endpoint.ask_one(CHAIN, RequestContext())
    assert type(caught.value) is error
    assert caught.value.host == endpoint.host


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (HttpAnswer(200, b'{"jsonrpc":"2.0","id":4096,"result":[{"addr'), RangeError),
        (HttpAnswer(200, b'{"jsonrpc":"2.0","id":4096,"result":[{"addr', cut=True), RangeError),
        (HttpAnswer(200, b"<html>Welcome</html>"), TransientError),
        (HttpAnswer(504, b"<html>Gateway Time-out</html>"), RangeError),
        (HttpAnswer(502, b"<html>Bad Gateway</html>"), TransientError),
        (HttpAnswer(0, b""), TransientError),
    ],
)
def test_what_a_range_of_logs_makes_of_it(
    serve: Serve, connect: Connect, answer: HttpAnswer, error: type[ProviderError]
) -> None:
    def broken(_: Node, __: object) -> None:
        raise answer

    endpoint = connect(serve(before=broken)).pool.endpoints[0]
    with pytest.raises(error) as caught:
        endpoint.ask_one(logs_call(0, 999, LogFilter()), RequestContext())
    assert type(caught.value) is error


def test_silence_on_a_range_is_a_range_error_and_counts_as_a_time_out(serve: Serve, connect: Connect) -> None:
    import threading

    patience = threading.Event()

    def silent(_: Node, __: object) -> None:
        patience.wait(5)

    node = serve(before=silent)
    endpoint = connect(node, read_timeout=0.2).pool.endpoints[0]
    with pytest.raises(RangeError) as caught:
        endpoint.ask_one(logs_call(0, 999, LogFilter()), RequestContext())
    assert caught.value.timed_out
    with pytest.raises(TransientError, match="no answer within"):
        endpoint.ask_one(CHAIN, RequestContext())
    patience.set()


def test_an_answer_without_end_is_not_read_to_its_end(serve: Serve, connect: Connect) -> None:
    endpoint = connect(serve(), max_bytes=10_000).pool.endpoints[0]
    with pytest.raises(RangeError, match="longer than 10,000 bytes") as caught:
        endpoint.ask_one(logs_call(0, 1_999, LogFilter()), RequestContext())
    assert caught.value.limit == "bytes"


def test_an_error_under_an_http_error_keeps_its_words(serve: Serve, connect: Connect) -> None:
    def refuse(_: Node, __: object) -> None:
        raise Refusal(-32602, "query exceeds max block range 50", status=400)

    endpoint = connect(serve(before=refuse)).pool.endpoints[0]
    with pytest.raises(RangeError) as caught:
        endpoint.ask_one(logs_call(0, 999, LogFilter()), RequestContext())
    assert caught.value.maximum == 51


def test_a_url_that_is_none_is_fatal(connect: Connect) -> None:
    endpoint = connect(EndpointConfig("nonsense://nowhere")).pool.endpoints[0]
    with pytest.raises(FatalError) as caught:
        endpoint.ask_one(CHAIN, RequestContext())
    assert caught.value.hint


def test_costs_are_counted_by_method(serve: Serve, connect: Connect) -> None:
    node = serve()
    node.answers["eth_blockNumber"] = lambda _: b'"0x10"'
    endpoint = connect(node).pool.endpoints[0]
    context = RequestContext()
    ask_headers(endpoint, 5)
    assert parse_quantity(endpoint.ask_one(Call("eth_blockNumber", ()), context)) == 16
    with pytest.raises(FatalError):
        endpoint.ask_one(Call("eth_nonsense", ()), context)
    status = endpoint.status()
    assert {name: (count.requests, count.errors) for name, count in status.counts.items()} == {
        "eth_blockNumber": (1, 0),
        "eth_getBlockByNumber": (5, 0),
        "eth_nonsense": (1, 1),
    }
    assert status.counts["eth_blockNumber"].bytes == len('"0x10"')
    assert status.http_requests == node.http_requests == 3
    assert context.requests == 2
    assert context.bytes > 50
    assert status.latency is not None


def test_refusals_for_haste_are_counted_and_reverts_are_no_errors(serve: Serve, connect: Connect) -> None:
    def refuse(_: Node, calls: list[Any]) -> None:
        if calls[0]["method"] == "eth_call":
            raise Refusal(3, "execution reverted")
        raise HttpAnswer(429, b"")

    endpoint = connect(serve(before=refuse)).pool.endpoints[0]
    with pytest.raises(RateError):
        endpoint.ask_one(CHAIN, RequestContext())
    with pytest.raises(RevertedError):
        endpoint.ask_one(Call("eth_call", ({}, "latest")), RequestContext())
    counts = endpoint.status().counts
    assert (counts["eth_chainId"].errors, counts["eth_chainId"].limited) == (1, 1)
    assert (counts["eth_call"].requests, counts["eth_call"].errors, counts["eth_call"].limited) == (1, 0, 0)


def test_headers_of_the_configuration_travel_along(serve: Serve, connect: Connect) -> None:
    node = serve()
    config = EndpointConfig(node.url, headers={"Authorization": "Bearer hunter2"})
    endpoint = connect(config).pool.endpoints[0]
    sent = endpoint.provider.get_request_kwargs()["headers"]
    assert sent["Authorization"] == "Bearer hunter2"
    assert sent["Content-Type"] == "application/json"
    endpoint.ask_one(CHAIN, RequestContext())


def test_web3_itself_can_use_the_provider(serve: Serve, connect: Connect) -> None:
    from web3 import Web3

    provider = connect(serve()).pool.endpoints[0].provider
    assert Web3(provider).eth.chain_id == CHAIN_ID


def test_msgspec_raw_results_outlive_the_request(serve: Serve, connect: Connect) -> None:
    endpoint = connect(serve()).pool.endpoints[0]
    raw = endpoint.ask_one(CHAIN, RequestContext())
    assert isinstance(raw, msgspec.Raw)
    assert bytes(raw) == json.dumps(hex(CHAIN_ID)).encode()


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("https://node.example/v2/key", "gzip"),
        ("http://10.0.0.5:8545", "gzip"),
        ("http://127.0.0.1:8545", "identity"),
        ("http://[::1]:8545", "identity"),
        ("http://localhost:8545/key", "identity"),
    ],
)
def test_answers_are_packed_on_the_way_from_other_machines_alone(url: str, accepted: str) -> None:
    headers = Transport(EndpointConfig(url), ClientSettings()).get_request_kwargs()["headers"]
    assert headers["Accept-Encoding"] == accepted


def test_a_packed_answer_is_read_and_bounded_by_its_unpacked_length(serve: Serve, connect: Connect) -> None:
    def pack(_: Node, calls: list[dict[str, Any]]) -> None:
        text = json.dumps({"jsonrpc": "2.0", "id": calls[0]["id"], "result": f"0x{1:09000x}"}).encode()
        raise HttpAnswer(200, gzip.compress(text), {"Content-Encoding": "gzip"})

    node = serve(before=pack)
    endpoint = connect(node).pool.endpoints[0]
    assert parse_quantity(endpoint.ask_one(CHAIN, RequestContext())) == 1
    endpoint = connect(node, max_bytes=5_000).pool.endpoints[0]
    with pytest.raises(TransientError, match="longer than 5,000 bytes"):
        endpoint.ask_one(CHAIN, RequestContext())
