"""Whatever a portal answers, what is read of history is what the chain holds: without a database, fault by fault."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from indexer.chain.client import ChainClient
from indexer.chain.history.estimate import estimate
from indexer.chain.history.reader import SourcedHistory
from indexer.chain.history.source import Verify
from indexer.chain.history.usage import SourceCounts
from indexer.chain.portal.portal import Portal as PortalSource
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from tests.chaos.chain import CHAIN_ID, COINS, PEOPLE, TRANSFER, Chain
from tests.chaos.node import Node, Server, matches
from tests.chaos.node import serving as serving_nodes
from tests.chaos.simulation import Clock
from tests.providers.portal import Line, Portal, PortalAnswer, serving

LAST = 60
COIN = LogFilter((COINS[0],))
INFLOW = LogFilter(None, ((TRANSFER,), None, tuple("0x" + "00" * 12 + one[2:] for one in PEOPLE[:3])))
SETTINGS = ClientSettings(attempts=2, give_up_after=30.0, check_history="sample")


@dataclass
class Place:
    """A chain of which all is final, its node, and a portal beside it."""

    chain: Chain
    node: Node
    portal: Portal
    url: str
    portal_url: str
    clock: Clock = field(default_factory=Clock)
    counts: list[SourceCounts] = field(default_factory=list)

    def history(self, verify: Verify = "sample") -> SourcedHistory:
        client = ChainClient("sim", CHAIN_ID, [EndpointConfig(self.url)], settings=SETTINGS, clock=self.clock,
                             sleep=self.clock.sleep, random=Random(1), spawn=lambda job: job())  # fmt: skip
        source = PortalSource(self.portal_url, clock=self.clock, sleep=self.clock.sleep)
        return SourcedHistory(client, source, verify, clock=self.clock)

    def check(self, filters: LogFilter = COIN, verify: Verify = "sample", *, pieces: int | None = None) -> None:
        """Reads all of history; every block is covered once, in order, and every log is the chain's."""
        history = self.history(verify)
        found: list[tuple[int, int, str]] = []
        covered = -1
        ranges = [(0, LAST)] if pieces is None else [(a, min(LAST, a + pieces - 1)) for a in range(0, LAST + 1, pieces)]
        for block_range in ranges:
            for chunk in history.scan([block_range], filters):
                assert chunk.first == covered + 1
                covered = chunk.last
                found += [(log.block_number, log.log_index, log.data) for log in chunk.logs]
                for number, (block_hash, time) in chunk.blocks.items():
                    block = next(block for block in self.chain.canonical if block.number == number)
                    assert (block.hash, block.time) == (block_hash, time)
        assert covered == LAST
        assert found == [
            (block.number, int(log["logIndex"], 16), log["data"])
            for block in self.chain.canonical[: LAST + 1]
            for log in block.logs_json
            if matches(log, filters.params())
        ]
        self.counts = history.taken()
        history.close()


@pytest.fixture(scope="module")
def chain() -> Chain:
    made = Chain(Random(7), depth=30, hostile=0.1)
    made.mine(LAST)
    made.finalize(LAST)
    return made


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving_nodes() as one:
        yield one


_numbers = itertools.count()


@pytest.fixture
def place(chain: Chain, server: Server) -> Iterator[Place]:
    path = f"portal/{next(_numbers)}"
    node = Node(chain)
    portal = Portal(lambda: [(block.header_json, block.logs_json) for block in chain.canonical], lambda: LAST)
    with serving(portal) as url:
        yield Place(chain, node, portal, server.add(path, node), url)
    server.remove(path)


def once(answer: PortalAnswer, times: int = 1) -> Callable[[str, Line], None]:
    left = itertools.count()

    def before(path: str, question: Line) -> None:
        if path == "finalized-stream" and next(left) < times:
            raise answer

    return before


def always(answer: PortalAnswer) -> Callable[[str, Line], None]:
    def before(path: str, question: Line) -> None:
        raise answer

    return before


FAULTS: dict[str, tuple[Callable[[Portal], object], bool]] = {
    "ends early": (lambda portal: setattr(portal, "most_blocks", 3), True),
    "no gzip": (lambda portal: setattr(portal, "compresses", False), True),
    "null heads": (lambda portal: setattr(portal, "nulls", 2), True),
    "begins later": (lambda portal: setattr(portal, "start_block", 12), True),
    "is behind": (lambda portal: setattr(portal, "finalized", lambda: 20), True),
    "429": (lambda portal: setattr(portal, "before", once(PortalAnswer(429, b"", {"Retry-After": "2"}), 3)), True),
    "503": (lambda portal: setattr(portal, "before", once(PortalAnswer(503, b"busy"), 2)), True),
    "500": (lambda portal: setattr(portal, "before", once(PortalAnswer(500, b"oops"))), True),
    "hangs up": (lambda portal: setattr(portal, "before", once(PortalAnswer(0))), True),
    "204": (lambda portal: setattr(portal, "before", once(PortalAnswer(204))), True),
    "409": (lambda portal: setattr(portal, "before", once(PortalAnswer(409, b'{"previousBlocks": []}'))), True),
    "400": (lambda portal: setattr(portal, "before", once(PortalAnswer(400, b"no"))), True),
    "404": (lambda portal: setattr(portal, "before", always(PortalAnswer(404, b"no such data set"))), False),
    "429 for ever": (lambda portal: setattr(portal, "before", always(PortalAnswer(429))), False),
    "no JSON": (lambda portal: setattr(portal, "ending", lambda question, text: b"<html>\n"), False),
    "no first block": (lambda portal: setattr(portal, "lie", lambda question, lines: lines[1:] or lines), False),
    "nothing": (lambda portal: setattr(portal, "lie", lambda question, lines: []), False),
    "out of order": (lambda portal: setattr(portal, "lie", lambda question, lines: lines[::-1]), True),
    "no parents": (lambda portal: setattr(portal, "lie", lambda question, lines: [
        {**line, "header": {**line["header"], "parentHash": "0x" + "00" * 32}} for line in lines]), False),
}  # fmt: skip


@pytest.mark.promise("R-16")
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_a_portal_does_history_is_complete(place: Place, fault: str, caplog: Any) -> None:
    arrange, is_used = FAULTS[fault]
    arrange(place.portal)
    with caplog.at_level(logging.INFO):
        place.check(pieces=20)
    assert (sum(one.blocks for one in place.counts) > 0) == is_used
    if any(one.last_problem for one in place.counts):
        assert sum(one.fallback_blocks for one in place.counts)
        assert "are read from the nodes" in caplog.text
    assert "SECRETKEY" not in caplog.text
    assert "SECRETKEY" not in str(place.counts)


def other_branch(question: Line, lines: list[Line]) -> list[Line]:
    def other(header: Line) -> Line:
        return {**header, **{name: "0x" + header[name][:1:-1] for name in ("hash", "parentHash")}}

    return [{**line, "header": other(line["header"])} for line in lines]


@pytest.mark.parametrize("verify", ["all", "sample", "none"])
def test_even_unverified_it_must_be_this_chain(place: Place, verify: Verify, caplog: Any) -> None:
    place.portal.lie = other_branch
    place.check(verify=verify, pieces=20)
    assert "is it the data set of this chain?" in caplog.text
    assert sum(one.blocks for one in place.counts) == 0


def changed(change: Callable[[Line], Line]) -> Callable[[Line, list[Line]], list[Line]]:
    return lambda question, lines: [
        {**line, "logs": [change(log) for log in line["logs"]]} if "logs" in line else line for line in lines
    ]


@pytest.mark.parametrize("change", [
    lambda log: {**log, "data": log["data"][:-1] + ("1" if log["data"][-1] != "1" else "2")},
    lambda log: {**log, "transactionHash": "0x" + "12" * 32},
    lambda log: {**log, "transactionIndex": log["transactionIndex"] + 1},
    lambda log: {**log, "logIndex": log["logIndex"] + 7},
    lambda log: {**log, "topics": [*log["topics"][:1], *["0x" + "34" * 32 for _ in log["topics"][1:]]]},
])  # fmt: skip
def test_what_a_log_says_is_compared_in_the_densest_block(place: Place, change: Any, caplog: Any) -> None:
    place.portal.lie = changed(change)
    place.check()
    assert " differs; the chain's own node has it" in caplog.text or "is left out" in caplog.text
    assert sum(one.contradictions for one in place.counts)


def test_times_are_compared(place: Place, caplog: Any) -> None:
    place.portal.lie = lambda question, lines: [
        {**line, "header": {**line["header"], "timestamp": line["header"]["timestamp"] + 1}} for line in lines
    ]
    place.check()
    assert "the time of block" in caplog.text


def test_a_source_that_rests_is_tried_again(place: Place) -> None:
    failing = True

    def before(path: str, question: Line) -> None:
        if failing:
            raise PortalAnswer(500)

    place.portal.before = before
    place.check(pieces=10)
    assert sum(one.blocks for one in place.counts) == 0
    history = place.history()
    for _ in range(3):
        list(history.scan([(0, LAST)], COIN))
    failing = False
    asked = place.portal.counts["finalized-stream"]
    list(history.scan([(0, LAST)], COIN))
    assert place.portal.counts["finalized-stream"] == asked, "it rests"
    place.clock.sleep(700.0)
    list(history.scan([(0, LAST)], COIN))
    assert place.portal.counts["finalized-stream"] > asked
    history.close()


def test_transfers_of_any_address_come_filtered(place: Place) -> None:
    place.check(INFLOW)
    (item,) = {str(question["logs"]) for question in place.portal.questions}
    assert "topic0" in item
    assert "topic2" in item
    assert "address" not in item
    assert not place.node.ranges


def test_long_lists_are_asked_for_in_several_requests(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setattr("indexer.chain.portal.portal._MOST_VALUES", 2)
    place.portal.most_blocks = 17
    place.check(LogFilter(tuple(COINS)))
    assert not place.node.ranges
    assert len({str(question["logs"]) for question in place.portal.questions}) == 2


@pytest.mark.promise("R-16")
@pytest.mark.parametrize("compresses", [False, True])
def test_a_stream_that_ends_in_the_middle_of_a_line_counts_up_to_the_line_before(
    place: Place, compresses: bool
) -> None:
    place.portal.compresses = compresses
    cut = 40 if compresses else 10
    place.portal.ending = lambda question, text: (
        text[:-cut] if question["toBlock"] - question["fromBlock"] > 3 else text
    )
    place.check()
    (counts,) = place.counts
    assert (counts.contradictions, counts.fallback_blocks) == (0, 0)
    assert len(place.portal.questions) > 1
    assert {len(question.get("parentBlockHash", "0x")) for question in place.portal.questions} <= {2, 66}
    assert not place.node.ranges


def test_an_order_to_wait_is_obeyed(place: Place) -> None:
    place.portal.before = once(PortalAnswer(429, b"", {"Retry-After": "7"}))
    before = place.clock()
    place.check()
    assert place.clock() - before >= 7
    assert not place.node.ranges


def test_an_estimate_tells_requests_to_both(place: Place) -> None:
    history = place.history("all")
    found = estimate(history, [(0, LAST)], [COIN], in_flight=4)
    assert (found.blocks, found.requests, found.node_requests, found.problem) == (LAST + 1, 1, 2, None)
    assert found.logs > 0
    place.portal.before = always(PortalAnswer(404))
    assert "no such data set" in str(estimate(place.history(), [(0, LAST)], [COIN], in_flight=4).problem)
    history.close()
