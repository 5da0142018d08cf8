"""Scanning history: complete, in order, few requests, bounded, and stopped when nobody reads on."""

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.logs import sampling
from indexer.chain.logs.scan import Scan
from indexer.chain.records.errors import AnswerError, LaggingError, ProviderError
from indexer.chain.records.log_columns import LogChunk
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.rpc.config import EndpointConfig
from tests.posts import HttpAnswer
from tests.providers.history import GENESIS_TIME, TOKEN, TRANSFER, History, block_hash
from tests.providers.node import Fragments, Node, Refusal

Serve = Callable[..., Node]
Connect = Callable[..., ChainClient]

FILTER = LogFilter((TOKEN,), ((TRANSFER,),))


def rows(chunks: Sequence[LogChunk]) -> list[tuple[int, int]]:
    return [(log.block_number, log.log_index) for chunk in chunks for log in chunk.logs]


def truth(history: History, *ranges: tuple[int, int]) -> list[tuple[int, int]]:
    every = zip(history.positions, history.indices, strict=True)
    return [(block, index) for block, index in every if any(first <= block <= last for first, last in ranges)]


def check_whole(chunks: Sequence[LogChunk], history: History, *ranges: tuple[int, int]) -> None:
    """The chunks are the ranges, in order, with every row once and the right blocks."""
    assert rows(chunks) == truth(history, *sorted(ranges))
    assert [number for chunk in chunks for number in range(chunk.first, chunk.last + 1)] == [
        number for first, last in sorted(ranges) for number in range(first, last + 1)
    ]
    for chunk in chunks:
        assert set(chunk.blocks) == {log.block_number for log in chunk.logs} | {chunk.last}
        for number, (found, time) in chunk.blocks.items():
            assert ("0x" + found.hex(), time) == (block_hash(number), GENESIS_TIME + 12 * number)
        assert chunk.end.number == chunk.last
        assert chunk.requests >= 1
        assert chunk.bytes > 0


def test_one_small_range_is_one_request(serve: Serve, connect: Connect) -> None:
    node = serve()
    last = node.history.positions[-1]
    chunks = list(connect(node).scan([(100, last)], FILTER))
    check_whole(chunks, node.history, (100, last))
    assert (len(chunks), node.http_requests) == (1, 1)
    assert node.counts == {"eth_getLogs": 1, "eth_getBlockByNumber": 1}


def test_one_header_more_is_asked_for_where_the_end_bears_no_log(serve: Serve, connect: Connect) -> None:
    node = serve()
    check_whole(list(connect(node).scan([(100, 1_999)], FILTER)), node.history, (100, 1_999))
    assert node.counts == {"eth_getLogs": 1, "eth_getBlockByNumber": 2}


@pytest.mark.parametrize("in_flight", [1, 3, 8])
def test_several_ranges_in_many_pieces_come_in_order(serve: Serve, connect: Connect, in_flight: int) -> None:
    node = serve()
    client = connect(node, start_blocks=20, max_blocks=60, target_logs=20)
    ranges = [(1_500, 1_999), (0, 0), (3, 700), (900, 1_100)]
    check_whole(list(client.scan(ranges, FILTER, in_flight=in_flight)), node.history, *ranges)


def test_neighbouring_gaps_are_read_as_one(serve: Serve, connect: Connect) -> None:
    node = serve()
    check_whole(list(connect(node).scan([(0, 500), (501, 1_999)], FILTER)), node.history, (0, 1_999))
    assert node.ranges == [(0, 1_999)]


def test_nothing_to_read_asks_nothing(serve: Serve, connect: Connect) -> None:
    node = serve()
    assert list(connect(node).scan([], FILTER)) == []
    assert list(connect(node).scan([(5, 4)], FILTER)) == []
    assert node.http_requests == 0


def test_where_batches_are_refused_questions_go_one_after_the_other(serve: Serve, connect: Connect) -> None:
    node = serve(batches=0)
    client = connect(node, start_blocks=500, max_blocks=500)
    check_whole(list(client.scan([(0, 1_999)], FILTER)), node.history, (0, 1_999))
    assert node.counts["eth_getLogs"] <= 4 * 4 + 4, "two looks for a marker at the end, and what it costs to end there"


@pytest.mark.parametrize("batches", [1000, 7, 0])
def test_times_come_from_headers_where_logs_bear_none(
    serve: Serve, connect: Connect, fragments: Fragments, batches: int
) -> None:
    timeless = Fragments(fragments.history, timestamps=False)
    node = serve(fragments=timeless, batches=batches)
    check_whole(list(connect(node, batch_size=100).scan([(0, 499)], FILTER)), node.history, (0, 499))
    bearing = len({block for block, _ in truth(node.history, (0, 499))})
    assert bearing <= node.counts["eth_getBlockByNumber"] <= bearing + 2, "each header once"
    if batches == 1000:
        assert node.http_requests == 1 + -(-bearing // 100)


def test_headers_read_for_their_times_must_be_the_logs_own(
    serve: Serve, connect: Connect, fragments: Fragments
) -> None:
    node = serve(fragments=Fragments(fragments.history, timestamps=False))
    bearing = fragments.history.positions[3]
    node.answers["eth_getBlockByNumber"] = lambda params: (
        node.header(params[0]).replace(block_hash(bearing)[2:].encode(), b"11" * 32)
        if params[0] == hex(bearing)
        else node.header(params[0])
    )
    with pytest.raises(AnswerError, match="do not belong together"):
        list(connect(node, attempts=2).scan([(0, 1_999)], FILTER))


@pytest.mark.promise("N-09")
@pytest.mark.parametrize("digit", [b"4", b"7"])
def test_a_log_time_that_contradicts_the_header_is_not_believed(serve: Serve, connect: Connect, digit: bytes) -> None:
    node = serve()
    last = node.history.positions[-1]
    logs = node.get_logs

    def wrong(params: list[Any]) -> bytes:
        return logs(params[0]).replace(b'"blockTimestamp":"0x5', b'"blockTimestamp":"0x' + digit)

    node.answers["eth_getLogs"] = wrong
    check_whole(list(connect(node).scan([(0, last)], FILTER)), node.history, (0, last))


@pytest.mark.parametrize("which", [lambda _: True, lambda block: block > 900, lambda block: block == 1_001])
@pytest.mark.parametrize("batches", [1000, 0])
def test_a_log_time_is_compared_with_a_header_where_the_end_bears_no_log(
    serve: Serve, connect: Connect, which: Callable[[int], bool], batches: int
) -> None:
    """A day off: all of them, those behind some block, or those of one block."""
    history = History(2_000, tuple(range(1, 1_998, 20)))
    node = serve(fragments=Fragments(history), batches=batches)
    lie(
        lambda logs: [
            {**log, "blockTimestamp": hex(int(log["blockTimestamp"], 16) - 86_400 * which(int(log["blockNumber"], 16)))}
            for log in logs
        ]
    )(node)
    client = connect(node)
    check_whole(list(client.scan([(0, 1_999)], FILTER)), history, (0, 1_999))
    assert not client.pool.endpoints[0].log_times_hold


@pytest.mark.promise("N-09")
@pytest.mark.parametrize("first_wrong", [1, 7])
@pytest.mark.parametrize("step", [1, 20])
def test_a_log_time_is_compared_where_the_times_leap_to_an_end_that_bears_a_log(
    serve: Serve, connect: Connect, first_wrong: int, step: int
) -> None:
    """A day off in the first blocks: the times never go back, and meet the end's."""
    history = History(2_000, tuple(range(1, 400, step)))
    node = serve(fragments=Fragments(history))
    early = set(history.positions[:first_wrong])
    lie(
        lambda logs: [
            {
                **log,
                "blockTimestamp": hex(int(log["blockTimestamp"], 16) - 86_400 * (int(log["blockNumber"], 16) in early)),
            }
            for log in logs
        ]
    )(node)
    client = connect(node)
    last = history.positions[-1]
    check_whole(list(client.scan([(0, last)], FILTER)), history, (0, last))
    assert not client.pool.endpoints[0].log_times_hold


def test_no_header_is_asked_for_where_the_end_bears_a_log_and_no_time_leaps(serve: Serve, connect: Connect) -> None:
    history = History(2_000, (*range(1, 100, 3), *range(900, 1_000, 7)))
    node = serve(fragments=Fragments(history))
    last = history.positions[-1]
    check_whole(list(connect(node).scan([(0, last)], FILTER)), history, (0, last))
    assert node.counts["eth_getBlockByNumber"] <= 2


def full_block(node: Node, first: int, last: int) -> None:
    """Three logs at most, however small the range."""
    if node.history.count(first, last) > 3:
        raise Refusal(-32005, "query returned more than 3 results")


def test_a_single_block_that_is_too_full_is_read_from_its_receipts(serve: Serve, connect: Connect) -> None:
    node = serve(limit=full_block, fragments=Fragments(History(100, (3, 40, 40, 40, 40, 40, 41, 99))))
    check_whole(list(connect(node).scan([(0, 99)], FILTER)), node.history, (0, 99))
    assert node.counts["eth_getBlockReceipts"] == 1


def test_a_single_block_that_is_too_full_is_cut_by_address_first(serve: Serve, connect: Connect) -> None:
    history = History(10, (5,) * 8)
    node = serve(fragments=Fragments(history))
    seen: list[Any] = []

    def logs(params: list[Any]) -> bytes:
        seen.append(params[0]["address"])
        if not isinstance(params[0]["address"], str):
            raise Refusal(-32005, "query returned more than 3 results")
        return node.get_logs(params[0]) if params[0]["address"] == TOKEN else b"[]"

    node.answers["eth_getLogs"] = logs
    others = ("0x" + "11" * 20, "0x" + "22" * 20)
    filters = LogFilter((TOKEN, *others), ((TRANSFER,),))
    check_whole(list(connect(node).scan([(5, 5)], filters)), history, (5, 5))
    assert {address for address in seen if isinstance(address, str)} == {TOKEN, *others}
    assert node.counts["eth_getBlockReceipts"] == 0


def test_without_block_receipts_they_come_one_by_one(serve: Serve, connect: Connect) -> None:
    history = History(10, (5,) * 8)
    node = serve(fragments=Fragments(history), limit=full_block)

    def refuse(_: list[Any]) -> bytes:
        raise Refusal(-32601, "the method eth_getBlockReceipts does not exist")

    node.answers["eth_getBlockReceipts"] = refuse
    header = json.loads(node.header(hex(5))) | {"transactions": [f"0x{n:064x}" for n in range(4)]}
    node.answers["eth_getBlockByNumber"] = lambda _: json.dumps(header).encode()
    logs = json.loads(node.fragments.between(5, 5))
    node.answers["eth_getTransactionReceipt"] = lambda params: json.dumps(
        {"logs": logs[2 * int(params[0], 16) : 2 * int(params[0], 16) + 2]}
    ).encode()
    check_whole(list(connect(node).scan([(5, 5)], FILTER)), history, (5, 5))


def lie(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[Node], None]:
    def install(node: Node) -> None:
        node.answers["eth_getLogs"] = lambda params: json.dumps(change(json.loads(node.get_logs(params[0])))).encode()

    return install


def null_for_logs(node: Node) -> None:
    """Where there are logs; it writes no logs as an empty list."""
    node.answers["eth_getLogs"] = lambda params: b"null" if TOKEN in str(params) else b"[]"


def without_end(node: Node) -> None:
    node.head = 1_000


def other_end(node: Node) -> None:
    node.answers["eth_getBlockByNumber"] = lambda params: node.header(hex(int(params[0], 16) - 1))


LIES = {
    "a log of another contract": lie(lambda logs: [*logs, logs[0] | {"address": "0x" + "11" * 20}]),
    "a log of another topic": lie(lambda logs: [*logs, logs[0] | {"topics": ["0x" + "11" * 32]}]),
    "a log beyond the range": lie(lambda logs: [*logs, logs[0] | {"blockNumber": "0xffff"}]),
    "logs of another branch": lie(
        lambda logs: [
            log | {"blockHash": "0x" + "11" * 32} if log["blockNumber"] == logs[-1]["blockNumber"] else log
            for log in logs
        ]
    ),
    "two hashes of one block": lie(
        lambda logs: [*logs, logs[-1] | {"blockHash": "0x" + "11" * 32, "logIndex": "0xff"}]
    ),
    "two logs at one place": lie(lambda logs: [*logs, logs[0] | {"data": "0x"}]),
    "null for an answer": null_for_logs,
    "an object for an answer": lambda node: node.answers.update({"eth_getLogs": lambda _: b'{"a":1}'}),
    "a null end": without_end,
    "another end": other_end,
}


@pytest.mark.promise("N-01")
@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_never_believed_and_the_other_endpoint_asked(
    serve: Serve, connect: Connect, fragments: Fragments, name: str
) -> None:
    liar, honest = serve(), serve()
    LIES[name](liar)
    # Only the end's own block can show another branch; elsewhere a scan relies on finality, and on the audit.
    last = fragments.history.positions[-1] if name == "logs of another branch" else 1_999
    chunks = list(connect(liar, honest).scan([(0, last)], FILTER))
    check_whole(chunks, honest.history, (0, last))
    with pytest.raises((AnswerError, LaggingError)):
        list(connect(liar, attempts=2).scan([(0, last)], FILTER))


@pytest.mark.promise("N-02")
def test_disorder_duplicates_and_removed_logs_do_no_harm(serve: Serve, connect: Connect) -> None:
    node = serve()
    other = "0x" + "11" * 32  # a block of another branch
    lie(lambda logs: [*reversed(logs), *logs[:7], *({**log, "removed": True, "blockHash": other} for log in logs[:3])])(
        node
    )
    check_whole(list(connect(node).scan([(0, 1_999)], FILTER)), node.history, (0, 1_999))


@pytest.mark.parametrize("beside", [False, True], ids=["in its place", "beside itself"])
def test_a_removed_log_of_a_block_of_the_chain_is_a_contradiction(
    serve: Serve, connect: Connect, *, beside: bool
) -> None:
    """It is no row less: the answer is not believed, and the other endpoint is asked."""
    liar, honest = serve(), serve()

    def mark(logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        marked = [{**log, "removed": True} for log in logs[1:4]]
        return [*(logs[:4] if beside else logs[:1]), *marked, *logs[4:]]

    lie(mark)(liar)
    check_whole(list(connect(liar, honest).scan([(0, 1_999)], FILTER)), honest.history, (0, 1_999))
    with pytest.raises(AnswerError, match="as removed, and the block is part of the chain"):
        list(connect(liar, attempts=2).scan([(0, 1_999)], FILTER))


def test_closing_the_iterator_stops_asking(serve: Serve, connect: Connect) -> None:
    node = serve()
    client = connect(node, start_blocks=10, max_blocks=10)
    scan = client.scan([(0, 1_999)], FILTER, in_flight=4)
    next(scan)
    scan.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("demo-scan")]
    asked = node.http_requests
    assert asked < 30
    client.head()
    assert node.http_requests == asked + 1


def test_it_may_be_collected_by_one_of_its_own_threads(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(serve(), start_blocks=10, max_blocks=10)
    chunks = client.scan([(0, 1_999)], FILTER, in_flight=1)
    suspended, closed = threading.Event(), threading.Event()
    failures: list[BaseException] = []
    read = Scan._read

    def collect(self: Scan, piece: Any) -> LogChunk:
        if suspended.wait(0.2) and not closed.is_set():
            try:
                chunks.close()  # type: ignore[attr-defined]
            except RuntimeError as error:
                failures.append(error)
            closed.set()
        return read(self, piece)

    monkeypatch.setattr(Scan, "_read", collect)
    next(chunks)
    suspended.set()
    assert closed.wait(10.0)
    assert failures == []


def test_whoever_reads_slowly_is_not_overrun(serve: Serve, connect: Connect) -> None:
    node = serve()
    client = connect(node, start_blocks=10, max_blocks=10)
    scan = client.scan([(0, 1_999)], FILTER, in_flight=4)
    most = 0
    for read, _ in enumerate(scan, 1):
        threading.Event().wait(0.002)
        most = max(most, node.counts["eth_getLogs"] - read)
    assert most <= 4 + 2, "no more than are under way and may wait"


def test_a_stop_ends_it_between_chunks(serve: Serve, connect: Connect) -> None:
    stop = threading.Event()
    client = connect(serve(), start_blocks=10, max_blocks=10)
    chunks = []
    for chunk in client.scan([(0, 1_999)], FILTER, stop=stop):
        chunks.append(chunk)
        if len(chunks) == 3:
            stop.set()
    assert len(chunks) == 3
    assert (chunks[0].first, chunks[-1].last) == (0, 29)


def test_a_part_that_cannot_be_read_is_raised_after_what_could(serve: Serve, connect: Connect) -> None:
    def broken(_: Node, calls: list[dict[str, Any]]) -> None:
        if any(call["method"] == "eth_getLogs" and int(call["params"][0]["toBlock"], 16) >= 1_000 for call in calls):
            raise HttpAnswer(500, b"oops")

    node = serve(before=broken)
    client = connect(node, start_blocks=100, max_blocks=100)
    chunks: list[LogChunk] = []
    with pytest.raises(ProviderError):
        chunks.extend(client.scan([(0, 1_999)], FILTER, in_flight=3))
    check_whole(chunks, node.history, (0, 999))


def test_a_long_address_list_goes_in_slices_or_by_topic_as_is_cheaper(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node = serve()
    strangers = tuple(f"0x{number:040x}" for number in range(0x1000, 0x1000 + 2_500))
    filters = LogFilter((*strangers, TOKEN), ((TRANSFER,),))
    # All logs with the topic are wanted: 2,501 addresses would be sent for nothing.
    check_whole(list(connect(node).scan([(0, 1_999)], filters)), node.history, (0, 1_999))
    assert node.counts["eth_getLogs"] == 3 + 1
    assert "by topic alone" in caplog.text
    # None of the logs with the topic is wanted: better send the addresses.
    busy = serve(fragments=Fragments(History(2_000, tuple(n // 20 for n in range(40_000)))))
    get_logs = busy.get_logs
    busy.answers["eth_getLogs"] = lambda params: b"[]" if "address" in params[0] else get_logs(params[0])
    client = connect(busy)
    (chunk,) = client.scan([(0, 1_999)], LogFilter(strangers, ((TRANSFER,),)))
    assert chunk.logs == []
    assert busy.counts["eth_getLogs"] == 3 + 3
    assert busy.http_requests == 3 + 1, "slices travel in one batch"
    assert "in 3 slices" in caplog.text


def test_unknown_words_are_asked_twice_only_until_a_smaller_range_cured_them(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def narrow(_: Node, first: int, last: int) -> None:
        if last - first >= 100:
            raise Refusal(-31999, f"zu viele Blöcke: {last - first}")

    node = serve(limit=narrow)
    client = connect(node, start_blocks=400, first_backoff=0.001)
    check_whole(list(client.scan([(0, 1_999)], FILTER, in_flight=1)), node.history, (0, 1_999))
    asked = Counter(node.ranges)
    assert list(asked.values()).count(2) <= 2
    assert max(asked.values()) == 2
    assert caplog.text.count("no table knows these words") == 1
    assert "zu viele Blöcke: #" in caplog.text


def test_an_endpoint_that_dies_teaches_nothing_about_another(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def closes(_: Node, __: object) -> None:
        raise HttpAnswer(0, b"")

    dead, well = serve(before=closes), serve()
    client = connect(dead, well)
    check_whole(list(client.scan([(0, 1_999)], FILTER)), well.history, (0, 1_999))
    assert well.ranges == [(0, 1_999)], "no reason to ask for less"
    assert "no table knows" not in caplog.text


def test_an_estimate_extrapolates_its_samples(serve: Serve, connect: Connect) -> None:
    history = History(100_000, tuple(range(0, 100_000, 2)))
    node = serve(fragments=Fragments(history))
    estimate = sampling.estimate(connect(node), [(0, 49_999), (60_000, 99_999)], (FILTER,))
    assert (estimate.blocks, estimate.logs) == (90_000, 45_000)
    assert 5 <= estimate.requests <= 15
    per_log = len(node.fragments.logs[0])
    assert 0.9 < estimate.bytes / (45_000 * per_log) < 1.2
    assert estimate.sampled_requests == node.http_requests == 8
    assert estimate.sampled_blocks == 4_000
    assert sampling.estimate(connect(node), [], (FILTER,)).requests == 0


@pytest.mark.parametrize("check_history", ["none", "sample"])
def test_the_calls_that_are_foretold_are_those_that_are_made(
    serve: Serve, connect: Connect, check_history: str
) -> None:
    node = serve(fragments=Fragments(History(20_000, tuple(range(0, 20_000, 2))), timestamps=False))
    foretold = sampling.estimate(connect(node, check_history=check_history), [(0, 19_999)], (FILTER,)).calls
    node.counts.clear()
    list(connect(node, check_history=check_history).scan([(0, 19_999)], FILTER))
    assert node.counts["eth_getLogs"] <= 2 * foretold["eth_getLogs"] + 5
    assert foretold["eth_getBlockByNumber"] == pytest.approx(node.counts["eth_getBlockByNumber"], rel=0.1)


@pytest.mark.parametrize(
    ("include", "of_a_block"), [(["block"], 1), (["transaction"], 1), (["receipt"], 1), (["block", "receipt"], 2)]
)
def test_what_bears_the_logs_is_extrapolated(
    serve: Serve, connect: Connect, include: list[str], of_a_block: int
) -> None:
    # Three transactions in every tenth block: each kind of thing is one question a block.
    node = serve(fragments=Fragments(History(100_000, tuple(n - n % 10 for n in range(0, 100_000, 10) for _ in "abc"))))
    found = sampling.estimate_details(connect(node), [(0, 49_999), (60_000, 99_999)], (FILTER,), include)
    assert found.blocks == ("block" in include) * 9_000
    assert found.transactions == ("transaction" in include) * 27_000
    assert found.receipts == ("receipt" in include) * 27_000
    assert found.questions == of_a_block * 9_000
    assert sampling.estimate_details(connect(node), [], (FILTER,), include).questions == 0


def test_an_estimate_respects_a_limit_of_blocks(serve: Serve, connect: Connect) -> None:
    def narrow(_: Node, first: int, last: int) -> None:
        if last - first >= 100:
            raise Refusal(-32602, "query exceeds max block range 99")

    node = serve(limit=narrow)
    client = connect(node)
    assert list(client.scan([(0, 10)], FILTER))
    estimate = sampling.estimate(client, [(0, 1_999)], (FILTER,))
    assert estimate.requests >= 20


def test_three_endpoints_of_which_none_is_well(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """One lags, one dies half-way, one answers 429 half of the time: same rows, and a story in a dozen lines."""
    caplog.set_level(logging.INFO)
    lagging, dying, busy = serve(), serve(), serve()
    lagging.head = 1_000

    def dies(node: Node, _: object) -> None:
        if node.http_requests > 20:
            raise HttpAnswer(0, b"")

    def refuses_half(node: Node, _: object) -> None:
        if node.http_requests % 2:
            raise Refusal(429, "too many requests", status=429)

    dying.before, busy.before = dies, refuses_half
    endpoints = [EndpointConfig(node.url) for node in (lagging, dying, busy)]
    client = connect(*endpoints, start_blocks=20, max_blocks=20)
    client.check()
    client.head()
    chunks = list(client.scan([(0, 1_999)], FILTER))
    check_whole(chunks, lagging.history, (0, 1_999))
    assert {chunk.host for chunk in chunks} == {endpoint.host for endpoint in endpoints}
    assert 3 <= len(caplog.records) <= 14, caplog.text
    for words in ("lags", "left out for a while", "we ask too often"):
        assert words in caplog.text


def test_headers_of_one_chunk_are_asked_for_several_batches_at_once(serve: Serve, connect: Connect) -> None:
    """On a long way, batches one after the other would each wait a round trip; each block's header is asked once."""
    changed, at_once, together, asked = threading.Condition(), [0], [0], Counter[str]()
    in_vain: list[bool] = []

    def before(node: Node, calls: list[dict[str, Any]]) -> None:
        if any(call["method"] != "eth_getBlockByNumber" for call in calls) or len(calls) == 1:
            return
        with changed:
            asked.update(call["params"][0] for call in calls)
            at_once[0] += 1
            together[0] = max(together[0], at_once[0])
            changed.notify_all()
            # The first chunk asks one at a time: its endpoint has shown nothing yet. A wait in vain is not repeated.
            if len(node.ranges) > 1 and not in_vain:
                in_vain.extend([True] * (not changed.wait_for(lambda: together[0] > 1, timeout=10)))
            at_once[0] -= 1

    history = History(2_000, list(range(0, 2_000, 4)))
    node = serve(fragments=Fragments(history, timestamps=False), before=before)
    client = connect(node, batch_size=20, start_blocks=400, max_blocks=400)
    check_whole(list(client.scan([(0, 1_999)], FILTER, in_flight=1)), node.history, (0, 1_999))
    assert together[0] > 1
    assert set(asked.values()) == {1}


def test_a_batch_of_headers_that_is_refused_for_haste_costs_no_logs_again(serve: Serve, connect: Connect) -> None:
    refused: list[int] = []

    def before(node: Node, calls: list[dict[str, Any]]) -> None:
        only_headers = all(call["method"] == "eth_getBlockByNumber" for call in calls) and len(calls) > 1
        if only_headers and len(refused) < 2:
            refused.append(len(calls))
            raise Refusal(-32005, "rate limit exceeded", status=429)

    history = History(2_000, list(range(0, 2_000, 4)))
    node = serve(fragments=Fragments(history, timestamps=False), before=before)
    client = connect(node, batch_size=20, start_blocks=400, max_blocks=400)
    check_whole(list(client.scan([(0, 1_999)], FILTER, in_flight=2)), node.history, (0, 1_999))
    assert len(refused) == 2
    assert len(node.ranges) == len(set(node.ranges))


@pytest.mark.promise("N-10")
@pytest.mark.parametrize(("bound", "in_flight"), [(24, 32), (32, 6)])
def test_as_many_are_under_way_as_pay_and_never_more_than_the_bound(
    serve: Serve, connect: Connect, fragments: Fragments, bound: int, in_flight: int
) -> None:
    lock = threading.Lock()
    under_way: list[int] = []
    seen: list[int] = []

    def slowly(_: Node, calls: Sequence[Any]) -> None:
        with lock:
            under_way.append(1)
            seen.append(len(under_way))
        threading.Event().wait(0.05)
        with lock:
            under_way.pop()

    node = serve(before=slowly, fragments=Fragments(fragments.history, timestamps=bound > 24))
    client = connect(
        EndpointConfig(node.url, max_concurrency=bound), start_blocks=5, max_blocks=5, batch_size=2
    )  # headers of a chunk need several batches
    check_whole(list(client.scan([(0, 1_999)], FILTER, in_flight=in_flight)), node.history, (0, 1_999))
    assert max(seen) <= min(bound, in_flight if bound > 24 else bound)
    assert max(seen) > min(8, in_flight - 2), "an endless way pays for all that are allowed"
