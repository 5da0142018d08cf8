"""Looks at the head: soon after a block, and few between blocks."""

import random
from itertools import pairwise

import pytest

from indexer.sync.head.decisions import CLOSEST, LONGEST, ORDINARY, PollSchedule


def looks(block_times: list[float], rng: random.Random, took: float = 0.03) -> tuple[list[float], float]:
    """How long each block waited for a look, and looks a block, over a chain with these times between blocks."""
    arrivals, at = [], 0.0
    for each in block_times:
        at += each
        arrivals.append(at)
    pace, now, seen, count, delays = PollSchedule(), rng.random() * 0.1, 0, 0, []
    while seen < len(arrivals):
        count += 1
        new = sum(1 for arrival in arrivals[seen : seen + 100] if arrival <= now)
        delays += [now - arrival for arrival in arrivals[seen : seen + new]]
        seen += new
        if seen:
            pace.saw(seen, now + took)
        # A beat comes a little late.
        now += max(pace.wait(now), took) + rng.random() * 0.01
    return delays, count / len(arrivals)


def late(delays: list[float]) -> float:
    return sorted(delays)[len(delays) // 2]


def test_a_block_a_second() -> None:
    delays, count = looks([1.0] * 200, random.Random(1))
    assert late(delays[20:]) <= 0.1
    assert sorted(delays[20:])[int(0.99 * 180)] <= 0.25
    assert count <= 1.4


@pytest.mark.parametrize("jitter", [0.02, 0.1])
def test_blocks_that_come_a_little_unevenly(jitter: float) -> None:
    rng = random.Random(5)
    arrivals = [number + rng.random() * jitter for number in range(1, 300)]
    delays, count = looks([later - sooner for sooner, later in pairwise([0.0, *arrivals])], random.Random(6))
    assert late(delays[20:]) <= 0.12
    assert count <= 1.5


def test_a_chain_that_was_silent_for_very_long_is_looked_at_as_ever() -> None:
    pace = PollSchedule()
    for number in range(20):
        pace.saw(number, number * 1.0)
    for _ in range(5_000):
        pace.saw(19, 20.0)
    assert pace.wait(20.0) == pytest.approx(0.1)
    assert pace.is_late(21.2) is False
    assert pace.is_late(21.3)


def test_ten_blocks_a_second() -> None:
    delays, count = looks([0.1] * 500, random.Random(2))
    assert max(delays[60:]) <= 0.25
    assert count <= 1.1


@pytest.mark.parametrize("seconds", [2.0, 12.0, 15.0])
def test_a_slow_chain_costs_less_than_a_look_each_half_second(seconds: float) -> None:
    delays, count = looks([seconds] * 60, random.Random(3))
    assert max(delays[8:]) <= ORDINARY + 0.05
    assert count < 6


def test_irregular_blocks_are_not_missed() -> None:
    rng = random.Random(4)
    delays, _ = looks([rng.expovariate(1 / 5.0) for _ in range(300)], rng)
    assert late(delays) <= ORDINARY
    assert max(delays) <= LONGEST


def test_what_is_not_known_is_not_guessed() -> None:
    pace = PollSchedule()
    assert pace.wait(0.0) == ORDINARY
    for number in range(4):
        pace.saw(number, number * 0.01)
        assert pace.wait(number * 0.01) == ORDINARY


def test_a_silent_chain() -> None:
    pace = PollSchedule()
    for number in range(20):
        pace.saw(number, number * 1.0)
    assert pace.wait(19.5) == pytest.approx(0.3)
    pace.saw(19, 19.9)
    assert pace.wait(20.1) == pytest.approx(0.04)
    assert pace.wait(100.0) == ORDINARY
    # The same block again is no news, and neither is an older one.
    pace.saw(19, 100.0)
    pace.saw(5, 100.0)
    assert pace.wait(100.0) == ORDINARY


def test_catching_up_says_nothing_of_the_pace() -> None:
    pace = PollSchedule()
    for step in range(10):
        pace.saw(step * 64, step * 0.05)
    assert pace.wait(0.5) == ORDINARY


@pytest.mark.parametrize("seconds", [0.01, 0.1, 1.0, 600.0])
def test_within_its_bounds(seconds: float) -> None:
    pace = PollSchedule()
    for number in range(20):
        pace.saw(number, number * seconds)
        assert min(CLOSEST, seconds) <= pace.wait(number * seconds) <= max(LONGEST, seconds)
