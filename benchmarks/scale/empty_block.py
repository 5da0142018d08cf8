"""A block in which nothing that is indexed happened, where thousands of events are."""

import statistics

from benchmarks.scale import Row
from benchmarks.scale._head import followed

_EVENTS, _FEW_EVENTS = 4000, 200
_BLOCKS = 20


def measure(server_url: str, *, small: bool) -> Row:
    """The median time of the transaction that appends it, in ms."""
    events = _FEW_EVENTS if small else _EVENTS
    with followed(server_url, events) as chain:
        took = statistics.median(chain.extend() for _ in range(_BLOCKS))
    return Row(f"an empty block, {events:,} events", took, 20, "ms")
