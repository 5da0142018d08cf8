"""Server-sent events as they go over the wire (HTML Living Standard, 9.2), and what the API says with them."""

from collections.abc import Mapping
from typing import Any

import orjson

from api.live.changes import Changes, Row, StreamPosition


class Piece:
    """A part of a stream, in the form in which Falcon takes events.

    Args:
        data: one or more events or comments.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self, _: object = None) -> bytes:
        """What goes over the wire."""
        return self.data


def event(name: str, data: bytes, position: StreamPosition | None) -> bytes:
    """One event.

    Args:
        name: its type.
        data: JSON on one line.
        position: becomes the client's ``Last-Event-ID``.
    """
    return b"%sevent: %s\ndata: %s\n\n" % (_id(position), name.encode(), data)


def row(one: Row) -> bytes:
    """A row: the JSON that a page would have."""
    return event(one.kind, one.data, one.position)


def revert(common_block: int, position: StreamPosition | None) -> bytes:
    """Rows of blocks above ``common_block`` are void."""
    return event("revert", orjson.dumps({"common_block": common_block}), position)


def status(changes: Changes, position: StreamPosition | None, chain_id: int) -> bytes:
    """How far the stream is, and what it waits for.

    Args:
        changes: of which it says how far they go.
        position: where the client stands with this event.
        chain_id: the chain.
    """
    data: Mapping[str, Any] = {
        "position": None if position is None else str(position),
        "through_block": changes.through,
        "waiting_for_block": changes.waiting_for,
        "rewrites": changes.state.versions[1],
        "meta": {name: value for name, value in changes.state.meta(chain_id).items() if name not in changes.unsaid},
    }
    return event("status", orjson.dumps(data), position)


def heartbeat(position: StreamPosition | None) -> bytes:
    """A comment; with a position, one that moves ``Last-Event-ID`` without being an event."""
    return b": heartbeat\n%s\n" % _id(position)


def retry(milliseconds: int) -> bytes:
    """How long to wait before coming back after a break."""
    return b"retry: %d\n\n" % milliseconds


def _id(position: StreamPosition | None) -> bytes:
    return b"" if position is None else b"id: %s\n" % str(position).encode()
