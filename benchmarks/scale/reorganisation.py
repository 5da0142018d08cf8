"""A reorganisation of blocks that bore rows of a few events, where thousands are indexed."""

import statistics

from benchmarks.scale import Row
from benchmarks.scale._head import followed

_EVENTS, _FEW_EVENTS = 4000, 200
_BEARING, _DEPTH, _TIMES = 3, 3, 5


def measure(server_url: str, *, small: bool) -> Row:
    """The median time of the transaction that swaps branches, in ms."""
    events = _FEW_EVENTS if small else _EVENTS
    with followed(server_url, events) as chain:
        bearing = list(chain.events.values())[:_BEARING]
        for _ in range(2 * _DEPTH):
            chain.extend(*bearing)
        took = [chain.reorganise(_DEPTH, *bearing, branch=f"b{one}") for one in range(_TIMES)]
    return Row(f"one reorganisation, {events:,} events", statistics.median(took), 50, "ms")
