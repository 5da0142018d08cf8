"""The window of requests under way, over ways to a node in made-up time."""

import heapq
import random

import pytest

from indexer.chain.rpc.window import Window


class Way:
    """A way to a node: each answer takes ``latency`` seconds, and all of them ``bandwidth`` bytes a second together.

    The window is always full, unless fewer requests are ``wanted``.
    """

    def __init__(self, window: Window, latency: float, bandwidth: float, *, noise: float = 0.0) -> None:
        self.window, self.latency, self.bandwidth = window, latency, bandwidth
        self.now = self._free = 0.0
        self._under_way: list[tuple[float, bool]] = []
        self._noise = noise
        self._random = random.Random(7)

    def run(self, seconds: float, *, size: int = 1_000_000, wanted: int = 1_000) -> float:
        """So many seconds of it. Returns the bytes a second of their later half."""
        end, late = self.now + seconds, 0
        while self.now < end:
            while len(self._under_way) < min(self.window.size, wanted):
                takes = size / self.bandwidth * self._random.uniform(1 - self._noise, 1 + self._noise)
                self._free = max(self._free, self.now) + takes
                heapq.heappush(self._under_way, (self._free + self.latency, self.window.size <= wanted))
            self.now, full = heapq.heappop(self._under_way)
            self.window.answered(self.now, 1, size, full=full)
            late += size if self.now > end - seconds / 2 else 0
        return late / (seconds / 2)


@pytest.mark.promise("N-10")
@pytest.mark.parametrize("latency", [0.0, 0.05, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_it_finds_as_many_requests_as_the_way_carries(latency: float, noise: float) -> None:
    window = Window(64)
    rate = Way(window, latency, 50e6, noise=noise).run(60 + 100 * latency)
    carried = 50e6 * latency / 1e6 + 1
    assert rate >= 0.8 * min(50e6, 64e6 / (latency or 0.01))
    assert window.size <= 2 * carried + 6, "more would only wait for each other"


def test_it_has_doubled_to_what_pays_after_a_few_round_trips() -> None:
    window = Window(64)
    Way(window, 0.3, 100e6).run(0.3 * 6)
    assert window.size >= 16


def test_it_shrinks_where_latency_grows_without_gain_and_grows_where_more_pay_again() -> None:
    window = Window(64)
    way = Way(window, 0.1, 200e6)
    way.run(60)
    wide = window.size
    way.bandwidth = 20e6
    way.run(200)
    assert window.size < wide / 2
    way.bandwidth = 200e6
    assert way.run(300) > 0.7 * 200e6


def test_rounds_with_places_left_empty_change_nothing() -> None:
    window = Window(64)
    way = Way(window, 0.1, 200e6)
    way.run(10, wanted=4)
    assert window.size <= 8, "it is not wider than what anybody wanted, but for the last doubling"


def test_a_refusal_halves_it_and_what_was_no_refusal_gives_it_back() -> None:
    window = Window(64)
    way = Way(window, 0.1, 100e6)
    way.run(1)
    before = window.size
    window.refused()
    assert window.size == before // 2
    window.restore(before)
    assert window.size == before
    for _ in range(10):
        window.refused()
    assert window.size == 1
    assert way.run(120) > 0.5 * 100e6, "it grows again"


def test_it_never_leaves_its_bounds() -> None:
    window = Window(3)
    Way(window, 1.0, 1e9).run(100)
    assert window.size == 3
    assert Window(0).size == 1
