"""Streams without a server: the wire, and what one client is told."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
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
from api.live.topic import RenderedChanges
from api.state import State

STATE = State(
    head=9, indexed=9, safe=5, finalized=3, lag=0, first=0, last=9, span=9, missing=(), versions=(1, 0), cursor=None,
    tip_hash=None,
)  # fmt: skip
BRANCH = bytes.fromhex("9f2c41d07be3")


def changes(
    position: Position | None, *rows: Position, common: int | None = None, waiting: int | None = None
) -> RenderedChanges:
    made = [Row(place, SimpleNamespace(), b'{"id":"%s"}' % place.id.encode()) for place in rows]  # type: ignore[arg-type]
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
        topic = SimpleNamespace(signal=0, stirred=asyncio.Event(), scope=SimpleNamespace(chain_id=1))

        async def read(position: Position | None, executor: Any) -> RenderedChanges:
            answer = left.pop(0) if left else changes(position)
            topic.signal += bool(left)
            if isinstance(answer, ApiError):
                raise answer
            return answer

        async def send(data: bytes) -> None:
            sent.append(data)

        topic.read = read
        stream = SimpleNamespace(request=SimpleNamespace(position=asked), first=first)
        with ThreadPoolExecutor(1) as executor:
            carrier = Carrier(stream, topic, send, executor, heartbeat=heartbeat)  # type: ignore[arg-type]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(carrier.run(5), 0.3)

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
    slots.take()
    with pytest.raises(ApiError) as refused:
        slots.take()
    assert (refused.value.code, refused.value.status, refused.value.retry_after) == ("STREAMS_FULL", 503, 1)
    slots.give_back()
    with slots.taken():
        assert slots.used == 1
    assert slots.used == 0
