"""What a refusal of one question means where its words do not tell, and what is remembered of it."""

import contextlib
import json
import logging
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.logs.block_logs import logs_of_blocks
from indexer.chain.reads.questions import header_call
from indexer.chain.records.errors import (
    FatalError,
    NoEndpointError,
    NoHistoryError,
    ProviderError,
    RateError,
    TransientError,
    is_too_old,
)
from indexer.chain.records.log_columns import LogChunk
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Call
from indexer.chain.rpc.config import EndpointConfig, RequestContext
from indexer.chain.rpc.list_limits import ListLimits, ListSizes
from indexer.chain.rpc.rate_control import RateControl
from tests.posts import HttpAnswer
from tests.providers.history import TOKEN, TRANSFER
from tests.providers.node import Node, Refusal
from tests.unit.chain.conftest import Clock
from tests.unit.chain.test_scan import check_whole

Serve = Callable[..., Node]
Connect = Callable[..., ChainClient]

FILTER = LogFilter((TOKEN,), ((TRANSFER,),))
STRANGERS = tuple(f"0x{number:040x}" for number in range(0x1000, 0x1000 + 399))
LONG = LogFilter((*STRANGERS, TOKEN), ((TRANSFER,),))


def logs_asked(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [call["params"][0] for call in calls if call["method"] == "eth_getLogs"]


# -- haste


def bucket(clock: Clock, most: int, rate: float, seen: list[tuple[float, int]]) -> Callable[[Node, list[Any]], None]:
    level, at = float(most), clock()

    def take(_: Node, calls: list[Any]) -> None:
        nonlocal level, at
        now = clock()
        level, at = min(float(most), level + (now - at) * rate), now
        if len(calls) > level:
            raise Refusal(429, "too many requests", status=429)
        level -= len(calls)
        seen.append((now, len(calls)))

    return take


def test_a_bucket_smaller_than_a_batch_lets_everything_through_in_the_end(
    serve: Serve, connect: Connect, clock: Clock
) -> None:
    node = serve(before=bucket(clock, 25, 25.0, []))
    client = connect(node)
    assert sorted(client.headers(range(166))) == list(range(166))
    assert node.http_requests < 100


def test_what_came_before_a_refusal_for_haste_is_not_asked_for_again(
    serve: Serve, connect: Connect, clock: Clock
) -> None:
    seen: list[tuple[float, int]] = []
    node = serve(before=bucket(clock, 25, 25.0, seen))
    client = connect(node, batch_size=10)
    client.headers(range(166))
    assert node.counts["eth_getBlockByNumber"] == sum(calls for _, calls in seen) == 166


def test_calls_of_a_batch_that_were_refused_for_haste_are_asked_for_again(serve: Serve, connect: Connect) -> None:
    node = serve()
    answered: list[str] = []

    def some(params: list[Any]) -> bytes:
        # Every third call of the first batch is one too many.
        answered.append(params[0])
        if len(answered) <= 30 and len(answered) % 3 == 0:
            raise Refusal(-32005, "you have exceeded the rate limit")
        return node.header(params[0])

    node.answers["eth_getBlockByNumber"] = some
    assert sorted(connect(node).headers(range(30))) == list(range(30))
    assert len(answered) == 40


@pytest.mark.promise("N-04")
@pytest.mark.parametrize("ceiling", [25.0, 3.0, 1.0, 0.5])
def test_a_ceiling_holds_in_every_second(serve: Serve, connect: Connect, clock: Clock, ceiling: float) -> None:
    seen: list[tuple[float, int]] = []

    def note(_: Node, calls: list[Any]) -> None:
        seen.append((clock(), len(calls)))

    client = connect(EndpointConfig(serve(before=note).url, requests_per_second=ceiling))
    for number in range(5):
        client.header(number)
    client.headers(range(66))
    client.header(1)
    client.headers(range(7))
    for at, _ in seen:
        within = sum(calls for other, calls in seen if at <= other < at + 1.0)
        assert within <= max(1.0, ceiling)


def test_no_batch_is_above_the_pace() -> None:
    rate = RateControl(ceiling=25.0)
    assert rate.largest_batch() == 12
    assert RateControl(ceiling=0.5).largest_batch() == 1
    rate = RateControl()
    assert rate.largest_batch() is None
    rate.started(0.0, 66)
    rate.limited(0.0, None, 0.0, 66)
    pace = rate.pace
    assert pace is not None
    assert rate.largest_batch() == int(pace / 2)
    rate.limited(0.1, None, 0.0, 3)
    assert rate.largest_batch() == 2, "one call may prove another"
    for attempt in range(3):
        rate.limited(0.2 + attempt, None, 0.0, 2)
    assert rate.largest_batch() == 1, "it takes no two calls at once"


# -- wide ranges in the words of a rate


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(-32005, "limit exceeded"),
        Refusal(429, "Too Many Requests", status=429),
        Refusal(-32000, "throttled: request quota used up"),
        Refusal(-32600, "please slow down: rate limited", status=403),
    ],
)
def test_a_wide_range_refused_in_the_words_of_a_rate_becomes_smaller(
    serve: Serve, connect: Connect, refusal: Refusal
) -> None:
    def narrow(_: Node, first: int, last: int) -> None:
        if last - first >= 100:
            raise refusal

    node = serve(limit=narrow)
    client = connect(node)
    check_whole(list(client.scan([(0, 1_999)], FILTER, in_flight=1)), node.history, (0, 1_999))
    assert len(node.ranges) <= 1.3 * 20 + 15
    assert client.pool.endpoints[0].rate.pace is None, "it was not asked too often"


def test_a_node_that_is_asked_too_often_is_not_asked_for_less(serve: Serve, connect: Connect, clock: Clock) -> None:
    start = clock()

    def busy(_: Node, __: object) -> None:
        if clock() < start + 20.0:
            raise Refusal(429, "Too Many Requests", status=429)

    node = serve(before=busy)
    check_whole(list(connect(node).scan([(0, 1_999)], FILTER)), node.history, (0, 1_999))
    # Asked one by one after many refusals, the range ends with its last log; what follows is a range of its own.
    assert (0, node.history.positions[-1]) in node.ranges or (0, 1_999) in node.ranges
    assert len(node.ranges) <= 6


# -- lists


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        ("exceed max addresses or topics per search position", -32602, 200),
        ("400 addresses asked for, 100 allowed", -32602, 200),
        ("troppi indirizzi", -31000, 200),
        ("query is too complex", -32602, 400),
        ("", 0, 403),
        ("", 0, 413),
        ("limit exceeded", -32005, 200),
        ("Request Entity Too Large", -32000, 500),
    ],
)
def test_a_list_that_is_too_long_is_cut_and_the_limit_remembered(
    serve: Serve, connect: Connect, words: str, code: int, status: int
) -> None:
    asked: list[int] = []

    def short(params: dict[str, Any]) -> None:
        addresses = params.get("address", [])
        asked.append(1 if isinstance(addresses, str) else len(addresses))
        if asked[-1] > 100:
            raise Refusal(code, words, status=status)

    node = serve(question=short)
    client = connect(node)
    check_whole(list(client.scan([(0, 1_999)], LONG, in_flight=1)), node.history, (0, 1_999))
    assert len(asked) <= 25
    asked.clear()
    branch = client.branch(1_990, 1_999, LONG, blooms=False)
    assert len(branch.logs) == node.history.count(1_990, 1_999)
    assert max(asked) <= 100, "what a scan has learned holds at the head"


def test_where_a_list_would_take_many_questions_it_is_asked_for_by_topic_alone(serve: Serve, connect: Connect) -> None:
    """A provider that takes few addresses is found out amid a scan: 200 questions for each range would be asked."""
    asked: list[int] = []

    def short(params: dict[str, Any]) -> None:
        addresses = params.get("address", [])
        asked.append(1 if isinstance(addresses, str) else len(addresses))
        if asked[-1] > 2:
            raise Refusal(-32000, "too many addresses: maximum is 2")

    def narrow(_: Node, first: int, last: int) -> None:
        if last - first >= 100:
            raise Refusal(-32000, "query exceeds max block range 100")

    node = serve(limit=narrow, question=short)
    client = connect(node)
    check_whole(list(client.scan([(0, 1_999)], LONG, in_flight=1)), node.history, (0, 1_999))
    assert len(asked) <= 800, "the first range in slices, of 20"
    asked.clear()
    check_whole(list(client.scan([(0, 1_999)], LONG, in_flight=1)), node.history, (0, 1_999))
    assert len(asked) <= 50


def test_at_the_head_too_a_list_is_cut(serve: Serve, connect: Connect) -> None:
    def short(params: dict[str, Any]) -> None:
        if len(params["address"]) > 100 and not isinstance(params["address"], str):
            raise Refusal(-31000, "troppi indirizzi")

    node = serve(question=short)
    branch = connect(node).branch(1_990, 1_999, LONG)
    assert len(branch.logs) == node.history.count(1_990, 1_999)


def test_lists_of_topics_are_cut_too(serve: Serve, connect: Connect) -> None:
    asked: list[int] = []

    def short(params: dict[str, Any]) -> None:
        asked.append(len(params["topics"][0]))
        if asked[-1] > 70:
            raise Refusal(-31000, "trop de valeurs")

    node = serve(question=short)
    topics = (*(f"0x{number:064x}" for number in range(299)), TRANSFER)
    check_whole(list(connect(node).scan([(0, 1_999)], LogFilter((TOKEN,), (topics,)))), node.history, (0, 1_999))
    assert asked[-1] <= 70
    assert len(asked) <= 25


def test_a_range_that_is_too_wide_does_not_cut_lists(serve: Serve, connect: Connect) -> None:
    def narrow(_: Node, first: int, last: int) -> None:
        if last - first >= 100:
            raise Refusal(-31999, "zu viel")

    node = serve(limit=narrow)
    client = connect(node)
    check_whole(list(client.scan([(0, 1_999)], LONG, in_flight=1)), node.history, (0, 1_999))
    assert client.pool.endpoints[0].lists.addresses is None
    assert node.counts["eth_getLogs"] <= 1.3 * 20 + 15


def test_both_a_range_and_a_list_may_be_too_long(serve: Serve, connect: Connect) -> None:
    def narrow(_: Node, first: int, last: int) -> None:
        if last - first >= 200:
            raise Refusal(-31999, "zu viel")

    def short(params: dict[str, Any]) -> None:
        if not isinstance(params["address"], str) and len(params["address"]) > 50:
            raise Refusal(-31999, "zu viel")

    node = serve(limit=narrow, question=short)
    check_whole(list(connect(node).scan([(0, 1_999)], LONG, in_flight=1)), node.history, (0, 1_999))


def test_longer_lists_are_tried_again_an_hour_later() -> None:
    limits = ListLimits()
    limits.learned(ListSizes(100, 1), ListSizes(400, 1), now=0.0)
    assert [len(part.addresses or ()) for part in limits.cut(LONG, 10.0)] == [100] * 4
    assert limits.cut(LONG, 3_601.0) == [LONG]
    assert limits.in_doubt(ListSizes(400, 1))


# -- kinds of questions


@pytest.mark.parametrize("words", ["Please specify an address in your request", "an address filter is required"])
def test_what_is_refused_of_one_kind_of_question_is_asked_for_otherwise(
    serve: Serve, connect: Connect, words: str
) -> None:
    def picky(params: dict[str, Any]) -> None:
        if "address" not in params:
            raise Refusal(-32701, words, status=403)

    node, other = serve(question=picky), serve()
    client = connect(node)
    anyone = LogFilter(None, ((TRANSFER,),))
    with pytest.raises(NoEndpointError, match="of any address"):
        list(client.scan([(0, 1_999)], anyone))
    asked = node.counts["eth_getLogs"]
    with pytest.raises(NoEndpointError):
        list(client.scan([(0, 1_999)], anyone))
    assert node.counts["eth_getLogs"] == asked, "it is known now"
    check_whole(list(client.scan([(0, 1_999)], FILTER)), node.history, (0, 1_999))
    assert client.head().number == node.head
    assert client.describe()[0].state == "healthy"
    check_whole(list(connect(node, other).scan([(0, 1_999)], anyone)), other.history, (0, 1_999))


def test_a_question_forbidden_in_unknown_words_does_not_close_the_endpoint(serve: Serve, connect: Connect) -> None:
    def forbids(params: dict[str, Any]) -> None:
        if "address" not in params:
            raise HttpAnswer(403, b"<html>no</html>")

    node = serve(question=forbids)
    client = connect(node, attempts=3)
    with pytest.raises(ProviderError):
        client.branch(10, 20, LogFilter(None, ((TRANSFER,),)))
    assert client.head().number == node.head
    check_whole(list(client.scan([(0, 1_999)], FILTER)), node.history, (0, 1_999))


def test_a_wrong_key_still_closes_the_endpoint(serve: Serve, connect: Connect) -> None:
    def forbids(_: Node, __: object) -> None:
        raise HttpAnswer(403, b"no")

    client = connect(serve(before=forbids))
    with pytest.raises((FatalError, NoEndpointError)):
        list(client.scan([(0, 1_999)], FILTER))
    assert client.describe()[0].state == "unhealthy"


# -- history


def pruned(kept: int) -> Callable[[Node, int, int], None]:
    def limit(_: Node, first: int, __: int) -> None:
        if first < kept:
            raise Refusal(4444, "pruned history unavailable")

    return limit


def test_history_is_closed_only_as_far_as_it_is_gone(serve: Serve, connect: Connect) -> None:
    node = serve(limit=pruned(700))
    client = connect(node)
    client.head()
    chunks: list[LogChunk] = []
    with pytest.raises(ProviderError) as caught:
        chunks.extend(client.scan([(0, 1_999)], FILTER))
    assert is_too_old(caught.value)
    check_whole(chunks, node.history, (700, 1_999))
    assert client.describe()[0].refuses == {"eth_getLogs": 699}
    assert node.counts["eth_getLogs"] <= 20
    with pytest.raises(NoHistoryError):
        list(client.scan([(0, 699)], FILTER))


class WordedAsLag:
    """A node that has no blocks below some number, and says so as one does that has not come so far."""

    def __init__(self, node: Node, kept: int, words: str | None, silent_logs: bool = False) -> None:
        self.kept, self.words = kept, words
        self.header, self.get_logs, self.silent_logs = node.header, node.get_logs, silent_logs
        node.header, node.get_logs = self.header_or_words, self.logs_or_words  # type: ignore[method-assign]

    def header_or_words(self, tag: str) -> bytes:
        return self.header(tag) if not tag.startswith("0x") or int(tag, 16) >= self.kept else self.gone(b"null")

    def logs_or_words(self, params: dict[str, Any]) -> bytes:
        if int(params.get("fromBlock", hex(self.kept)), 16) < self.kept and not self.silent_logs:
            self.gone(b"[]")
        return self.get_logs(params)

    def gone(self, otherwise: bytes) -> bytes:
        if self.words is not None:
            raise Refusal(-32000, self.words)
        return otherwise


@pytest.mark.parametrize("batches", [1000, 0])
@pytest.mark.parametrize(
    ("words", "silent_logs"),
    [("header not found", False), ("block not found", False), ("unknown block", False), (None, False), (None, True)],
)
def test_pruning_in_the_words_of_a_lag_closes_history_only_as_far_as_it_is_gone(
    serve: Serve, connect: Connect, words: str | None, silent_logs: bool, batches: int
) -> None:
    node = serve(batches=batches)
    WordedAsLag(node, 700, words, silent_logs)
    client = connect(node, start_blocks=200, max_blocks=200)
    client.head()
    chunks: list[LogChunk] = []
    with pytest.raises(ProviderError) as caught:
        chunks.extend(client.scan([(0, 1_999)], FILTER, in_flight=1))
    assert is_too_old(caught.value)
    assert caught.value.blocks == (0, 699), "all that is gone is one range, not one for each question"
    check_whole(chunks, node.history, (700, 1_999))
    assert client.describe()[0].refuses == {"eth_getLogs": 699}
    with pytest.raises(NoHistoryError):
        list(client.scan([(0, 699)], FILTER))
    assert node.http_requests <= (70 if batches else 110), node.http_requests


def test_a_machine_that_lags_is_not_taken_for_one_that_prunes(serve: Serve, connect: Connect) -> None:
    """It has the old blocks of a range and lacks its end, also where another machine has come further."""
    node = serve()
    turns = iter(range(10_000))

    def lags(params: list[Any]) -> bytes:
        if params[0].startswith("0x") and int(params[0], 16) > 900 and next(turns) % 3:
            raise Refusal(-32000, "header not found")
        return node.header(params[0])

    node.answers["eth_getBlockByNumber"] = lags
    client = connect(node)
    client.head()
    check_whole(list(client.scan([(0, 1_999)], FILTER, in_flight=1)), node.history, (0, 1_999))
    assert client.describe()[0].refuses == {}


def test_another_endpoint_has_what_is_gone_here(serve: Serve, connect: Connect) -> None:
    full, archive = serve(limit=pruned(1_000)), serve()
    client = connect(EndpointConfig(full.url), EndpointConfig(archive.url, priority=1), start_blocks=50, max_blocks=50)
    client.head()
    check_whole(list(client.scan([(0, 1_999)], FILTER, in_flight=1)), full.history, (0, 1_999))
    assert archive.counts["eth_getLogs"] == 20
    assert full.counts["eth_getLogs"] <= 20 + 15


# -- shapes


def test_http_500_to_batches_leads_to_single_questions(serve: Serve, connect: Connect) -> None:
    def refuse(_: Node, calls: list[Any]) -> None:
        if len(calls) > 1:
            raise HttpAnswer(500, b"Internal Server Error")

    node = serve(before=refuse)
    client = connect(node)
    check_whole(list(client.scan([(0, 1_999)], FILTER)), node.history, (0, 1_999))
    endpoint = client.pool.endpoints[0]
    assert sorted(client.headers(range(40))) == list(range(40))
    assert endpoint.max_batch() == 1
    assert endpoint.health.state == "healthy"


@pytest.mark.parametrize(
    "answer",
    [HttpAnswer(0, b""), HttpAnswer(502, b"<html>"), HttpAnswer(403, b""), HttpAnswer(200, b"<html>")],
    ids=["closed", "502", "403", "a page"],
)
def test_batches_refused_in_any_way_lead_to_smaller_ones(serve: Serve, connect: Connect, answer: HttpAnswer) -> None:
    def refuse(_: Node, calls: list[Any]) -> None:
        if len(calls) > 8:
            raise answer

    client = connect(serve(before=refuse))
    assert sorted(client.headers(range(64))) == list(range(64))
    assert 4 <= client.pool.endpoints[0].max_batch() <= 8


def test_an_ill_node_is_not_asked_a_hundred_times_for_a_batch_of_a_hundred(serve: Serve, connect: Connect) -> None:
    def ill(_: Node, __: object) -> None:
        raise HttpAnswer(500, b"")

    node = serve(before=ill)
    endpoint = connect(node).pool.endpoints[0]
    with pytest.raises(TransientError):
        endpoint.ask([header_call(number) for number in range(100)], RequestContext())
    assert node.http_requests == 2
    assert endpoint.max_batch() == 100


@pytest.mark.parametrize("shape", ["{}.0", '"{}"', '"{}.0"', "{}e0", '"0x{:x}"'])
@pytest.mark.parametrize("count", [1, 20])
def test_ids_that_mean_ours_are_ours(serve: Serve, connect: Connect, shape: str, count: int) -> None:
    node = serve()
    answer = node.answer

    def other(call: dict[str, Any]) -> bytes:
        written = shape.format(call["id"]).encode()
        return answer(call).replace(b'"id":' + json.dumps(call["id"]).encode(), b'"id":' + written)

    node.answer = other  # type: ignore[method-assign]
    assert sorted(connect(node).headers(range(count))) == list(range(count))


def test_every_error_names_host_and_method(serve: Serve, connect: Connect) -> None:
    node = serve()
    client = connect(node, attempts=1)
    host = client.pool.endpoints[0].host
    node.answers["eth_getBlockByNumber"] = lambda _: b'"nonsense"'
    node.answers["eth_getCode"] = lambda _: b"17"
    node.answers["eth_getLogs"] = lambda _: b'{"a":1}'
    questions: list[tuple[str, Callable[[], object]]] = [
        ("eth_getBlockByNumber", client.head),
        ("eth_getBlockByNumber", lambda: client.header(5)),
        ("eth_getCode", lambda: client.code(b"\1" * 20)),
        ("eth_getLogs", lambda: client.earliest_log(b"\1" * 20, 100)),
    ]
    for method, question in questions:
        with pytest.raises(ProviderError) as caught:
            question()
        assert host in str(caught.value)
        assert method in str(caught.value)


def test_a_refusal_for_haste_is_raised_when_nothing_has_come_yet(serve: Serve, connect: Connect) -> None:
    def busy(_: Node, __: object) -> None:
        raise Refusal(429, "slow down", status=429)

    endpoint = connect(serve(before=busy)).pool.endpoints[0]
    with pytest.raises(RateError) as caught:
        endpoint.ask([Call("eth_chainId", ())] * 5, RequestContext())
    assert caught.value.calls == 5


@pytest.mark.promise("N-08")
def test_unknown_words_at_the_head_do_not_stop_it(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def narrow(_: Node, first: int, last: int) -> None:
        if last - first >= 10:
            raise Refusal(-31999, "zu viele Blöcke auf einmal")

    node = serve(limit=narrow)
    branch = connect(node).branch(1_900, 1_999, FILTER)
    assert len(branch.logs) == node.history.count(1_900, 1_999)


def test_the_proxy_of_the_environment_is_named(monkeypatch: pytest.MonkeyPatch, connect: Connect) -> None:
    monkeypatch.setenv("http_proxy", "http://user:SECRET@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ProviderError) as caught:
        connect(EndpointConfig("http://node.example/key-of-mine"), attempts=1).head()
    text = str(caught.value)
    assert "through the proxy http://127.0.0.1:9/***, which the environment names" in text
    assert "http://node.example/***" in text
    assert "eth_getBlockByNumber" in text
    assert "SECRET" not in text


class ShortLists:
    """A node's refusal of more than two addresses, in the words of a range; and the lengths that it was asked for."""

    def __init__(self, words: str = "block range too large", most: int = 2, code: int = -32602) -> None:
        self.words = words
        self.code = code
        self.most = most
        self.asked: list[int] = []

    def __call__(self, params: dict[str, Any]) -> None:
        addresses = params.get("address")
        if addresses is None:
            return
        self.asked.append(1 if isinstance(addresses, str) else len(addresses))
        if self.asked[-1] > self.most:
            raise Refusal(self.code, self.words)


def in_haste(_: Node, first: int, last: int) -> None:
    if last - first >= 10:
        raise Refusal(-32005, "limit exceeded")


TWENTY = LogFilter((*STRANGERS[:19], TOKEN), ((TRANSFER,),))
RANGE_WORDS = ("block range too large", "exceed maximum block range: 10", "zu lange Listen")


@pytest.mark.parametrize("words", RANGE_WORDS)
@pytest.mark.parametrize("batches", [0, 100])
def test_lists_refused_as_wide_ranges_are_found_out_once_in_history(
    serve: Serve, connect: Connect, words: str, batches: int
) -> None:
    short = ShortLists(words)
    node = serve(question=short, limit=in_haste, batches=batches)
    client = connect(node)
    check_whole(list(client.scan([(1_000, 1_199)], TWENTY, in_flight=1)), node.history, (1_000, 1_199))
    # Without batches each list is of one address and the marker of the range's end, and ranges end with a log.
    least = 20 * 10 if batches else 40 * 20
    assert len(short.asked) <= least + 150, "fifteen refused ranges of ten lists each are the search for their width"
    assert client.pool.endpoints[0].block_limit.known is None, "no words for a range were about ranges"


@pytest.mark.parametrize("words", RANGE_WORDS)
@pytest.mark.parametrize("batches", [0, 100])
@pytest.mark.parametrize("by_hash", [True, False])
def test_lists_refused_as_wide_ranges_are_found_out_once_at_the_head(
    serve: Serve, connect: Connect, words: str, batches: int, by_hash: bool
) -> None:
    short = ShortLists(words)

    def question(params: dict[str, Any]) -> None:
        if not by_hash and "blockHash" in params:
            raise Refusal(-32602, "unknown field blockHash")
        short(params)

    node = serve(question=question, limit=in_haste, batches=batches)
    client = connect(node)
    for number in range(1_970, 2_000):
        branch = client.branch(number, number, TWENTY, blooms=False)
        assert len(branch.logs) == node.history.count(number, number)
    # A block without logs is asked for twice, since its bloom is not trusted.
    assert len(short.asked) <= 2 * 30 * 10 + 20
    assert max(short.asked[20:], default=0) <= 2, "most are asked for by topic alone, in one question"


def test_lists_refused_as_haste_are_found_out_although_another_endpoint_may_answer(
    serve: Serve, connect: Connect
) -> None:
    def spent(_: dict[str, Any]) -> None:
        raise Refusal(429, "Too Many Requests")

    node, other = serve(question=ShortLists("limit exceeded", code=-32005), batches=0), serve(question=spent)
    client = connect(node, other, give_up_after=40.0)
    # Silence has shown that a log must prove the end of each range: questions are of several parts from then on.
    assert not any(chunk.count for chunk in client.scan([(0, 99)], LogFilter(STRANGERS[:1], ((TRANSFER,),))))
    for first in range(0, 1_000, 100):
        # History is read in pieces, each by itself: what one that failed has shown is of use to the next.
        with contextlib.suppress(ProviderError):
            check_whole(list(client.scan([(first, first + 99)], TWENTY)), node.history, (first, first + 99))
            return
    pytest.fail("no piece of history was read")


@pytest.mark.parametrize("seed", range(10))
def test_half_of_all_questions_refused_for_haste_are_no_reason_for_narrow_ranges(
    serve: Serve, connect: Connect, seed: int
) -> None:
    random = Random(seed)

    def half(node: Node, _: object) -> None:
        if random.random() < 0.5:
            raise Refusal(429, "too many requests", status=429)

    node = serve(before=half)
    client = connect(node, start_blocks=2, max_blocks=64, give_up_after=1e9)
    chunks = list(client.scan([(0, 1_999)], FILTER, in_flight=1))
    check_whole(chunks, node.history, (0, 1_999))
    assert len(chunks) <= 80, "ranges became much narrower than the widest that is asked for"


def test_a_limit_of_lists_that_comes_later_is_found_out_in_one_block(serve: Serve, connect: Connect) -> None:
    short = ShortLists(most=20)
    node = serve(question=short)
    client = connect(node, start_blocks=100, max_blocks=100)
    check_whole(list(client.scan([(0, 199)], TWENTY, in_flight=1)), node.history, (0, 199))
    short.most = 2
    short.asked.clear()
    check_whole(list(client.scan([(200, 1_999)], TWENTY, in_flight=1)), node.history, (200, 1_999))
    assert len(short.asked) <= 18 * 10 + 100
    assert client.pool.endpoints[0].block_limit.known is None


def test_words_for_a_range_are_doubted_at_once_where_lists_are_long(serve: Serve, connect: Connect) -> None:
    short, ranges = ShortLists(), set()

    def question(params: dict[str, Any]) -> None:
        ranges.add((int(params["fromBlock"], 16), int(params["toBlock"], 16)))
        short(params)

    node = serve(question=question)
    client = connect(node, start_blocks=100, max_blocks=100)
    check_whole(list(client.scan([(0, 199)], TWENTY, in_flight=1)), node.history, (0, 199))
    others = {(first, last) for first, last in ranges if last - first != 4}  # than samples for the plan made anew
    assert others == {(0, 99), (0, 0), (100, 199)}, "one block is the experiment; no range became narrower"


@pytest.mark.parametrize("by_hash", [True, False])
def test_blocks_asked_for_one_by_one_are_cut_to_a_limit_found_once(
    serve: Serve, connect: Connect, by_hash: bool
) -> None:
    short = ShortLists()
    by_number: list[bool] = []

    def question(params: dict[str, Any]) -> None:
        if not by_hash and "blockHash" in params:
            raise Refusal(-32602, "unknown field blockHash")
        by_number.append("blockHash" not in params)
        short(params)

    node = serve(question=question)
    client = connect(node)
    headers = client.headers(range(1_970, 2_000))
    questions = [(headers[number], TWENTY) for number in sorted(headers)]
    found = client.run(lambda endpoint: logs_of_blocks(endpoint, questions, RequestContext()), "eth_getLogs")
    assert sum(map(len, found)) == node.history.count(1_970, 1_999)
    if by_hash:
        assert not any(by_number), "a question by hash proves more"
        assert len(short.asked) <= 30 + 30 * 10 + 20, "thirty questions are in the batch that is refused"
    else:
        assert len(short.asked) <= 30 * 10 + 20
        assert max(short.asked[20:], default=0) <= 2, "most are asked for by topic alone, in one question"
