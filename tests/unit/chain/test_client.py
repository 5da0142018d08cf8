"""All endpoints as one: retries, failover, lag, capabilities, and what is said about them."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.records.errors import (
    AnswerError,
    ChainMismatchError,
    FatalError,
    LaggingError,
    NoEndpointError,
    ProviderError,
    RateError,
    TransientError,
)
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.rpc.config import EndpointConfig
from indexer.sync.setup.deployment_block import DeploymentUnknownError, first_with_code
from tests.posts import HttpAnswer
from tests.providers.history import TOKEN, TRANSFER, block_hash
from tests.providers.node import Node, Refusal, header
from tests.unit.chain.test_error_table import OLD_STATE_IS_GONE

Serve = Callable[..., Node]
Connect = Callable[..., ChainClient]

FILTER = LogFilter((TOKEN,), ((TRANSFER,),))


def fails(times: int, error: Exception, *, only: str | None = None) -> Callable[[Node, list[dict[str, Any]]], None]:
    """Fails so many requests (of a method), then no more."""
    left = [times]

    def before(_: Node, calls: list[dict[str, Any]]) -> None:
        if left[0] > 0 and (only is None or any(call["method"] == only for call in calls)):
            left[0] -= 1
            raise error

    return before


ALWAYS = 10**9


@pytest.mark.parametrize(
    "error",
    [
        HttpAnswer(500, b"oops"),
        HttpAnswer(502, b"<html>Bad Gateway</html>"),
        HttpAnswer(200, b"<html>Welcome</html>"),
        HttpAnswer(0, b""),
        Refusal(-32603, "internal error"),
        Refusal(-1, "nobody knows these words"),
        Refusal(-32000, "header not found"),
    ],
)
def test_what_passes_is_asked_again(serve: Serve, connect: Connect, clock: Any, error: Exception) -> None:
    node = serve(before=fails(3, error))
    assert connect(node).head().number == 1_999
    assert node.http_requests == 4
    assert clock.sleeps, "the same endpoint gets a pause"


def test_the_pause_doubles_and_is_bounded(serve: Serve, connect: Connect, clock: Any) -> None:
    client = connect(
        serve(before=fails(ALWAYS, HttpAnswer(500, b""))), attempts=8, first_backoff=1.0, longest_backoff=8.0
    )
    start = clock()
    with pytest.raises(TransientError):
        client.head()
    pauses = clock() - start
    assert (1 + 2 + 4 + 8 + 8 + 8 + 8) / 2 <= pauses <= 39


def test_retrying_ends(serve: Serve, connect: Connect, clock: Any) -> None:
    node = serve(before=fails(ALWAYS, HttpAnswer(500, b"")))
    with pytest.raises(TransientError, match="HTTP 500") as caught:
        connect(node, attempts=5).head()
    assert node.http_requests == 5
    assert caught.value.host.endswith("/***")


def test_too_many_requests_is_waited_for_as_long_as_was_said(serve: Serve, connect: Connect, clock: Any) -> None:
    node = serve(before=fails(2, Refusal(429, "too many", status=429, headers={"Retry-After": "40"})))
    start = clock()
    assert connect(node).head().number == 1_999
    assert 80 <= clock() - start <= 110


def test_waiting_is_not_failing(serve: Serve, connect: Connect) -> None:
    node = serve(before=fails(12, Refusal(429, "too many", status=429, headers={"Retry-After": "1"})))
    assert connect(node, attempts=3).head().number == 1_999


def test_a_rate_error_never_shrinks_a_range(serve: Serve, connect: Connect) -> None:
    node = serve(before=fails(2, Refusal(-32005, "limit exceeded")))
    (chunk,) = connect(node).scan([(0, 1_999)], FILTER)
    assert (chunk.first, chunk.last) == (0, 1_999)
    assert set(node.ranges) == {(0, 1_999)}


def test_the_ceiling_of_the_operator_holds(serve: Serve, connect: Connect, clock: Any) -> None:
    client = connect(EndpointConfig(serve().url, requests_per_second=2.0))
    start = clock()
    for _ in range(11):
        client.head()
    assert clock() - start >= 5.0 - 1e-6


def test_it_fails_over_at_once_and_stays_there(
    serve: Serve, connect: Connect, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bad, good = serve(before=fails(ALWAYS, HttpAnswer(500, b""))), serve()
    client = connect(bad, good)
    assert client.header(5) is not None
    assert bad.http_requests == 1, "who has just failed is not asked again while there is another"
    for _ in range(20):
        assert client.head().number == 1_999
    assert not clock.sleeps, "there was always somebody else to ask"
    assert bad.http_requests <= 6
    states = [status.state for status in client.describe()]
    assert states == ["unhealthy", "healthy"]
    assert "it is left out for a while" in caplog.text
    assert f"the head is read from http://127.0.0.1:{good.url.split(':')[2].split('/')[0]}/*** now" in caplog.text
    assert len(caplog.records) <= 4


def test_it_returns_when_a_probe_succeeds(
    serve: Serve, connect: Connect, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, second = serve(before=fails(3, HttpAnswer(500, b""))), serve()
    client = connect(EndpointConfig(first.url, priority=0), EndpointConfig(second.url, priority=1))
    for _ in range(4):
        client.head()
    asked = first.http_requests
    clock.sleep(6.0)
    client.head()
    client.head()
    assert first.http_requests > asked
    assert client.describe()[0].state == "healthy"
    assert "is back" in caplog.text
    before = second.http_requests
    client.head()
    assert second.http_requests == before, "the one with the lower number is asked again"


def test_a_wrong_key_is_fatal_and_said_once_with_what_to_do(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = serve(before=fails(ALWAYS, HttpAnswer(401, b"who are you?"))), serve()
    client = connect(bad, good)
    for _ in range(5):
        client.head()
    assert bad.http_requests == 1
    assert caplog.text.count("check the key in this endpoint's URL") == 1
    alone = connect(bad)
    with pytest.raises(NoEndpointError, match="check the key") as caught:
        alone.head()
    assert caught.value.hint


def test_check_bans_an_endpoint_of_another_chain(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    wrong, right = serve(chain_id=5), serve()
    caplog.set_level(logging.INFO)
    client = connect(wrong, right)
    for _ in range(3):
        client.check()
    # Said once, however often it is checked; and an answer to the check does not bring it back.
    assert caplog.text.count("it serves chain id 5, the manifest says 424242") == 1
    assert "is back" not in caplog.text
    assert [one.state for one in client.describe()] == ["unhealthy", "healthy"]
    before = wrong.http_requests
    for _ in range(5):
        client.head()
    assert wrong.http_requests == before
    with pytest.raises(ChainMismatchError, match="serves chain id 5"):
        connect(wrong, wrong).check()


def test_check_says_why_nobody_answers(serve: Serve, connect: Connect) -> None:
    dead = EndpointConfig("http://127.0.0.1:9/v2/secret-key-of-mine")
    locked = serve(before=fails(ALWAYS, HttpAnswer(403, b"no")))
    with pytest.raises(NoEndpointError) as caught:
        connect(dead, locked).check()
    text = str(caught.value)
    assert "Connection refused" in text
    assert "HTTP 403" in text
    assert "secret-key-of-mine" not in text
    connect(dead, serve()).check()


def test_an_endpoint_that_lags_is_passed_over(serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    behind, ahead = serve(), serve()
    behind.head = 1_000
    client = connect(behind, ahead)
    assert client.head().number == 1_999
    assert client.head().number == 1_999
    assert [(chunk.first, chunk.last) for chunk in client.scan([(0, 1_999)], FILTER)] == [(0, 1_999)]
    branch = client.branch(1_500, 1_510, FILTER)
    assert branch.host == client.describe()[1].host
    assert client.header(1_999) is not None


@pytest.mark.promise("H-03")
def test_a_range_that_a_node_has_not_reached_is_not_an_empty_range(serve: Serve, connect: Connect) -> None:
    node = serve()
    node.head = 1_000
    client = connect(node, attempts=3)
    with pytest.raises(LaggingError, match="has not reached block 1,999"):
        list(client.scan([(0, 1_999)], FILTER))
    assert {last for _, last in node.ranges} == {1_999}, "lag is no reason to ask for less"


def test_a_null_at_or_below_the_head_is_asked_again_before_it_is_believed(serve: Serve, connect: Connect) -> None:
    node = serve()
    client = connect(node)
    client.head()
    nulls = [2]

    def shy(params: list[Any]) -> bytes:
        if params[0] == hex(1_500) and nulls[0]:
            nulls[0] -= 1
            return b"null"
        return node.header(params[0])

    node.answers["eth_getBlockByNumber"] = shy
    found = client.header(1_500)
    assert found is not None
    assert found.number == 1_500
    nulls[0] = ALWAYS
    assert client.header(1_500) is None, "asked often enough: the chain is shorter now"
    asked = node.http_requests
    assert client.header(5_000) is None
    assert node.http_requests == asked + 1, "beyond the head there is nothing to wonder at"


def test_headers_come_in_batches_and_without_what_is_beyond_the_head(serve: Serve, connect: Connect) -> None:
    node = serve()
    found = connect(node).headers([5, 1, 3, 3, 10_000])
    assert sorted(found) == [1, 3, 5]
    assert found[3].hash.hex() == block_hash(3)[2:]
    assert found[3].parent_hash.hex() == block_hash(2)[2:]
    assert node.http_requests == 1
    assert connect(node).headers([]) == {}


@pytest.mark.parametrize(
    "answer",
    [
        header(7),
        b'{"number":"0x5"}',
        b'"0x5"',
        b"[]",
        header(5).replace(b'"0x5"', b"null", 1),
        header(5).replace(block_hash(5).encode(), b"0x11"),
    ],
)
def test_a_block_that_was_not_asked_for_is_an_error_of_the_endpoint(
    serve: Serve, connect: Connect, answer: bytes
) -> None:
    liar, honest = serve(), serve()
    liar.answers["eth_getBlockByNumber"] = lambda _: answer
    with pytest.raises(AnswerError):
        connect(liar, attempts=2).header(5)
    found = connect(liar, honest).header(5)
    assert found is not None
    assert found.number == 5


def test_a_tag_that_a_node_does_not_know_is_none_but_trouble_is_trouble(serve: Serve, connect: Connect) -> None:
    node = serve()
    client = connect(node, attempts=2)
    assert client.tagged("finalized") is None
    node.finalized = 1_900
    tagged = client.tagged("finalized")
    assert tagged is not None
    assert tagged.number == 1_900
    node.before = fails(ALWAYS, HttpAnswer(500, b""))
    with pytest.raises(ProviderError):
        client.tagged("finalized")


def test_a_method_that_one_endpoint_lacks_goes_to_another_and_is_not_asked_there_again(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    without, having = serve(), serve()
    having.answers["eth_getBlockReceipts"] = lambda _: b"[]"

    def refuse(_: list[Any]) -> bytes:
        raise Refusal(-32601, "the method eth_getBlockReceipts does not exist")

    without.answers["eth_getBlockReceipts"] = refuse
    client = connect(without, having)
    for _ in range(3):
        assert client.receipts(5) == []
    assert without.counts["eth_getBlockReceipts"] == 1
    assert client.describe()[0].refuses == {"eth_getBlockReceipts": None}
    assert client.describe()[0].state == "healthy", "it serves all else"
    with pytest.raises(NoEndpointError, match="does not offer eth_getBlockReceipts"):
        connect(without).receipts(5)
    assert caplog.text.count("is not asked for eth_getBlockReceipts") == 2


def test_history_goes_to_the_archive_and_the_head_to_the_other(serve: Serve, connect: Connect) -> None:
    full, archive = serve(), serve()

    def code(params: list[Any]) -> bytes:
        if int(params[1], 16) < 1_900:
            raise Refusal(-32000, "missing trie node 5b7c (path )")
        return b'"0x60"'

    full.answers["eth_getCode"] = code
    archive.answers["eth_getCode"] = lambda _: b'"0x60"'
    client = connect(full, EndpointConfig(archive.url, priority=1))
    for _ in range(3):
        assert client.code(b"\x01" * 20, 5) == b"\x60"
        assert client.code(b"\x01" * 20, 1_950) == b"\x60"
    assert full.counts["eth_getCode"] == 4
    assert archive.counts["eth_getCode"] == 3
    with pytest.raises(NoEndpointError, match="keeps no such history up to block 5"):
        connect(full).code(b"\x01" * 20, 5)


@pytest.mark.parametrize("words", OLD_STATE_IS_GONE)
def test_whoever_no_longer_knows_a_state_is_passed_over_for_one_who_does(
    serve: Serve, connect: Connect, words: str
) -> None:
    full, archive = serve(), serve()

    def code(params: list[Any]) -> bytes:
        if params[1] != "latest" and int(params[1], 16) < 1_900:
            raise Refusal(-32000, words)
        return b'"0x60"'

    full.answers["eth_getCode"] = code
    archive.answers["eth_getCode"] = lambda params: b'"0x60"' if params[1] == "latest" else b'"0x"'
    both = connect(full, EndpointConfig(archive.url, priority=1))
    assert both.code(b"\x01" * 20, 5) == b""
    with pytest.raises(DeploymentUnknownError) as unknown:
        first_with_code(connect(full), b"\x01" * 20, 1_000, "coins on local")
    message = str(unknown.value)
    assert "coins on local: start_block" in message
    assert "needs an archive node" in message
    assert "block 500" in message
    assert "keeps no such history" in message
    assert unknown.value.hint is not None
    assert "as a number" in unknown.value.hint


def test_what_the_operator_knows_need_not_be_tried(serve: Serve, connect: Connect) -> None:
    full, archive = serve(), serve()
    for node in (full, archive):
        node.answers["eth_getCode"] = lambda _: b'"0x60"'
    known = EndpointConfig(full.url, archive=False)
    client = connect(known, EndpointConfig(archive.url, priority=1))
    client.head()
    assert client.code(b"\x01" * 20, 5) == b"\x60"
    assert full.counts["eth_getCode"] == 0
    assert client.code(b"\x01" * 20, 1_990) == b"\x60"
    assert full.counts["eth_getCode"] == 1
    alone = connect(known)
    alone.head()
    with pytest.raises(NoEndpointError, match="the manifest says that it is no archive"):
        alone.code(b"\x01" * 20, 5)


def test_missing_state_at_the_head_is_no_reason_to_give_a_method_up(serve: Serve, connect: Connect) -> None:
    node = serve(before=fails(2, Refusal(-32000, "missing trie node 5b7c")))
    node.answers["eth_getCode"] = lambda _: b'"0x60"'
    assert connect(node).code(b"\x01" * 20, "latest") == b"\x60"
    node.before = fails(ALWAYS, Refusal(-32000, "missing trie node 5b7c"))
    with pytest.raises(FatalError):
        connect(node, attempts=4).code(b"\x01" * 20, "latest")


def test_a_stop_ends_a_wait(serve: Serve) -> None:
    node = serve(before=fails(ALWAYS, Refusal(429, "later", status=429, headers={"Retry-After": "3600"})))
    stop = threading.Event()
    client = ChainClient("demo", 424242, [EndpointConfig(node.url)])  # in real time
    scan = client.scan([(0, 1_999)], FILTER, stop=stop)
    threading.Timer(0.2, stop.set).start()
    assert list(scan) == []


def test_rates_that_never_end_do(serve: Serve, connect: Connect) -> None:
    client = connect(serve(before=fails(ALWAYS, Refusal(429, "later", status=429))))
    with pytest.raises(RateError):
        client.head()


def test_raw_questions_are_retried_too(serve: Serve, connect: Connect) -> None:
    node = serve(before=fails(2, HttpAnswer(500, b"")))
    assert connect(node).raw("eth_chainId", []) == hex(424242)
