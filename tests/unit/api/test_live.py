"""Streams without a server: the wire, and what one client is told."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from api.context import Slots
from api.cursors import Position
from api.errors import ApiError
from api.live import sse
from api.live.carrier import Carrier
from api.live.changes import Changes, Row, end_of
from api.live.server import is_asgi
from api.live.topic import RenderedChanges
from api.live.waits import MARGIN, Awaited, Waits
from api.state import State

STATE = State(
    head=9, indexed=9, safe=5, finalized=3, lag=0, first=0, last=9, span=9, missing=(), versions=(1, 0), cursor=None,
    tip_hash=None,
)  # fmt: skip
BRANCH = bytes.fromhex("9f2c41d07be3")


def changes(
    position: Position | None, *rows: Position, common: int | None = None, waiting: int | None = None
) -> RenderedChanges:
    made = [Row(place, b'{"id":"%s"}' % place.id.encode()) for place in rows]
    told = Changes(position, common, made, False, 9, waiting, STATE)
    return RenderedChanges(told, b"".join(map(sse.row, made)))


def test_the_wire():
    assert sse.retry(1500) == b"retry: 1500\n\n"
    assert sse.heartbeat(None) == b": heartbeat\n\n"
    assert sse.heartbeat(end_of(7)) == b": heartbeat\nid: 7-9223372036854775807\n\n"
    assert sse.revert(7, Position(7, 2**63 - 1, None, BRANCH)) == (
        b'id: 7-9223372036854775807.9f2c41d07be3\nevent: revert\ndata: {"common_block":7}\n\n'
    )
    lines = sse.status(changes(None).changes, None, 1).decode().splitlines()
    assert lines[0] == "event: status"
    data = orjson.loads(lines[1].removeprefix("data: "))
    assert (data["position"], data["through_block"], data["meta"]["chain_id"]) == (None, 9, 1)


def test_the_end_of_a_block_is_a_cursor():
    assert Position.parse(str(end_of(7, BRANCH))) == end_of(7, BRANCH)
    assert end_of(7) > Position(7, 5)


def told_to(
    asked: Position | None, first: RenderedChanges, *answers: RenderedChanges | ApiError, heartbeat: float = 15.0
) -> list[bytes]:
    """What a client gets until the topic has no more answers, and then a while."""
    sent: list[bytes] = []

    async def play() -> None:
        left = list(answers)
        topic = SimpleNamespace(signal=0, waiting=set(), scope=SimpleNamespace(chain_id=1))

        async def read(position: Position | None, executor: Any) -> RenderedChanges:
            answer = left.pop(0) if left else changes(position)
            topic.signal += bool(left)
            if isinstance(answer, ApiError):
                raise answer
            return answer

        topic.read = read
        stream = SimpleNamespace(request=SimpleNamespace(position=asked, path="/", private=False), first=first)
        with ThreadPoolExecutor(1) as executor:
            carrier = Carrier(stream, topic, executor, heartbeat=heartbeat)  # type: ignore[arg-type]
            asyncio.get_running_loop().call_later(0.3, carrier.end)
            async for piece in carrier.pieces(5):
                sent.append(piece.serialize())

    asyncio.run(play())
    return sent


def events(sent: list[bytes]) -> list[tuple[str, str]]:
    found = []
    for block in b"".join(sent).decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "event" in fields:
            found.append((fields["event"], fields.get("id", "")))
    return found


def test_what_was_told_to_others_meanwhile_is_not_missed():
    """Who joins a topic looked before, and the topic may have been stirred since: nobody stirs it again for that."""
    sent = told_to(None, changes(end_of(7)), changes(end_of(8), Position(8, 1)))
    assert events(sent) == [("status", "7-9223372036854775807"), ("row", "8-1")]


def test_a_reorganisation_is_told_to_whom_it_concerns():
    reverted = changes(end_of(6), common=6)
    assert ("revert", "6-9223372036854775807") in events(told_to(Position(7, 1), changes(end_of(8)), reverted))
    assert ("revert", "6-9223372036854775807") not in events(told_to(None, changes(end_of(8)), reverted))
    assert ("revert", "6-9223372036854775807") not in events(told_to(Position(6, 1), changes(end_of(8)), reverted))
    with_row = changes(end_of(8), Position(7, 1))
    assert ("revert", "6-9223372036854775807") in events(told_to(Position(6, 1), with_row, reverted))


def test_a_heartbeat_moves_the_position_once():
    sent = told_to(Position(3, 1), changes(end_of(7)), heartbeat=0.05)
    beats = [piece for piece in sent if piece.startswith(b":")]
    assert beats[0] == b": heartbeat\nid: 7-9223372036854775807\n\n"
    assert set(beats[1:]) == {b": heartbeat\n\n"}


def test_who_waits_hears_so_again_and_again():
    sent = told_to(Position(3, 1), changes(end_of(7), waiting=8), changes(end_of(7), waiting=8), heartbeat=0.05)
    assert [name for name, _ in events(sent)].count("status") > 2


def test_slots():
    slots = Slots(1, "streams", "STREAMS_FULL")
    slots.take("one")
    with pytest.raises(ApiError) as refused:
        slots.take()
    assert (refused.value.code, refused.value.status, refused.value.retry_after) == ("STREAMS_FULL", 503, 1)
    slots.give_back("one")
    with slots.taken():
        assert slots.used == 1
    assert slots.used == 0


def test_a_client_gets_a_further_slot_only_while_more_are_free_than_it_holds():
    slots = Slots(10, "streams", "STREAMS_FULL")
    for _ in range(5):
        slots.take("greedy")
    with pytest.raises(ApiError, match="of one client"):
        slots.take("greedy")
    for other in ("a", "b", "c", "d"):
        slots.take(other)
    with pytest.raises(ApiError):
        slots.take("a")
    slots.take("e")
    with pytest.raises(ApiError, match="at once"):
        slots.take("f")
    slots.give_back("greedy")
    slots.take("f")
    assert slots.used == 10


def awaited(block: int, seconds: float = 10, block_seconds: float | None = 12.0) -> Awaited:
    return Awaited(1, block, seconds, block_seconds, lambda: STATE)


@pytest.mark.parametrize(
    ("block", "block_seconds"), [(10, 12.0), (9 + 1 + MARGIN, 12.0), (9 + 40 + MARGIN, 0.25), (9 + 100 + MARGIN, None)]
)
def test_a_block_that_may_come_is_waited_for(block, block_seconds):
    awaited(block, block_seconds=block_seconds).require_reach(STATE)


@pytest.mark.parametrize(
    ("block", "block_seconds", "retry_after"),
    [(9 + 2 + MARGIN, 12.0, 12 * (2 + MARGIN)), (9 + 41 + MARGIN, 0.25, 36), (2**62, 12.0, 3600), (2**62, None, 3600)],
)
def test_a_block_that_cannot_come_in_time_is_not(block, block_seconds, retry_after):
    with pytest.raises(ApiError, match=f"min_block={block} is {block - 9} blocks above the chain's head") as refused:
        awaited(block, block_seconds=block_seconds).require_reach(STATE)
    assert (refused.value.code, refused.value.retry_after) == ("BLOCK_NOT_INDEXED", retry_after)


def test_where_nothing_is_known_of_the_head_any_block_is_waited_for():
    awaited(2**62).require_reach(replace(STATE, head=None, indexed=None))
    awaited(10 + MARGIN).require_reach(replace(STATE, head=None))


@pytest.mark.parametrize(
    ("chain", "wakes"),
    [
        ({"latest": "9/aa", "tip": 9, "counted": 1}, False),
        ({"latest": "10/bb", "tip": 10, "counted": 1}, True),
        ({"latest": "12/cc", "tip": 12, "counted": 1}, True),
        # Where backfill makes the newest block, or balances are asked for, only a look can tell.
        ({"latest": "10/bb/7", "tip": None, "counted": 1}, True),
        ({"latest": "9/aa", "tip": None, "counted": 2}, True),
        ({}, False),
    ],
)
def test_only_what_may_have_brought_the_block_wakes_a_request(chain, wakes):
    async def play() -> int:
        waits, looks = Waits(), 0
        waits.compare({1: {"latest": "9/aa", "tip": 9, "counted": 1}}, 0.0)

        async def look() -> State:
            nonlocal looks
            looks += 1
            return STATE

        connection = SimpleNamespace(is_lost=False)
        waiting = asyncio.ensure_future(waits.until(awaited(10, 5), look, nullcontext(), connection))  # type: ignore[arg-type]
        while not looks:
            await asyncio.sleep(0)
        waits.compare({1: chain} if chain else {1: {"latest": "9/aa", "tip": 9, "counted": 1}}, 1.0)
        for _ in range(5):
            await asyncio.sleep(0)
        looked = looks
        waits.end()
        await waiting
        assert waits.count == 0
        return looked

    assert asyncio.run(play()) == 1 + wakes


def test_a_block_is_due_by_the_chains_pace_and_not_for_ever():
    async def play() -> list[float | None]:
        waits = Waits()
        chain = {"latest": "9/aa", "tip": 9, "counted": 1}
        waits.compare({1: chain}, 100.0)
        due = [waits.due_in(100.0)]  # no request waits

        async def look() -> State:
            return STATE

        connection = SimpleNamespace(is_lost=False)
        wait = waits.until(awaited(10, 5), look, nullcontext(), connection)  # type: ignore[arg-type]
        waiting = asyncio.ensure_future(wait)
        while not waits.count:
            await asyncio.sleep(0)
        due += [waits.due_in(at) for at in (100.0, 108.0, 109.0, 138.0, 138.1)]
        waits.compare({1: chain}, 130.0)  # the same block
        due.append(waits.due_in(138.1))
        waits.compare({1: {**chain, "latest": "8/bb", "tip": 8}}, 140.0)  # two blocks away
        due.append(waits.due_in(149.0))
        waits.end()
        await waiting
        return due

    without, *due, away = asyncio.run(play())
    assert (without, away) == (None, None)
    assert due == [pytest.approx(8.4), pytest.approx(0.4), 0.0, 0.0, None, None]


@pytest.mark.parametrize(
    ("method", "path", "query", "is_ours"),
    [
        ("GET", "/v1/events/stream", "", True),
        ("HEAD", "/v1/events/stream", "chain=1", True),
        ("GET", "/v1/events", "min_block=5&wait=1", True),
        ("GET", "/v1/events", "wait=1", True),
        ("GET", "/v1/events", "await=1&min_block=5", False),
        ("GET", "/v1/events", "", False),
        ("POST", "/v1/events/stream", "wait=1", False),
        ("OPTIONS", "/v1/events/stream", "", False),
    ],
)
def test_what_the_event_loop_answers(method, path, query, is_ours):
    assert is_asgi(SimpleNamespace(method=method, path=path, query=query)) is is_ours
