"""Looks at the head: soon after a block, and few between blocks."""

import random

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
        # A beat is set when the one before begins, by what was known then.
        now += max(pace.wait(now), took)
    return delays, count / len(arrivals)


def late(delays: list[float]) -> float:
    return sorted(delays)[len(delays) // 2]


def test_a_block_a_second() -> None:
    delays, count = looks([1.0] * 200, random.Random(1))
    assert late(delays[20:]) <= 0.12
    assert max(delays[20:]) <= 0.3
    assert count < 6  # of 10, if it looked every 100 ms


def test_ten_blocks_a_second() -> None:
    delays, count = looks([0.1] * 500, random.Random(2))
    assert max(delays[60:]) <= 0.25
    assert count <= 1.1


@pytest.mark.parametrize("seconds", [2.0, 12.0, 15.0])
def test_a_slow_chain_costs_less_than_a_look_each_half_second(seconds: float) -> None:
    delays, count = looks([seconds] * 60, random.Random(3))
    assert max(delays[8:]) <= ORDINARY + 0.05
    assert count < seconds / ORDINARY * 0.75 + 1


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
    assert pace.wait(19.9) == 0.1
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
        assert CLOSEST <= pace.wait(number * seconds) <= LONGEST
