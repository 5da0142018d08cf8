"""How a day's credits are divided between the head and history."""

from __future__ import annotations

from dataclasses import replace

import pytest

from indexer.store.credits.budget import DAY, CreditDay, for_head, for_history, head_needs

NOON = DAY / 2


def spend_a_day(budget: int, *, head: float, cost: int, before: float | None, start: float = 0.0) -> CreditDay:
    """A day on which the head takes so much a second and history all that it gets; no process keeps anything."""
    day = CreditDay(0.0, start, before=before)
    now, owed = start, 0.0
    while now < DAY:
        owed += head * 30
        while owed >= 1:
            grant = for_head(day, budget, 1, 1, now)
            assert grant.credits, f"the head is refused at {now}"
            day = replace(day, head=day.head + grant.credits)
            owed -= grant.credits
        asks_at = now
        while asks_at < now + 30:
            grant = for_history(day, budget, cost, 50 * cost, asks_at)
            day = replace(day, history=day.history + grant.credits, history_from=grant.history_from)
            assert day.used <= budget
            asks_at += max(grant.wait, 0.1)
        now += 30
    return day


@pytest.mark.parametrize("cost", [1, 60])
@pytest.mark.parametrize(("head", "before"), [(0.0, None), (0.02, None), (0.2, 0.2), (0.6, 0.55), (0.6, 0.9)])
def test_the_head_is_never_refused_and_little_is_left(head, before, cost):
    budget = 100_000
    day = spend_a_day(budget, head=head, cost=cost, before=before)
    assert day.used > 0.93 * budget
    assert day.history > 0.9 * (budget - DAY * head) - 0.05 * budget


@pytest.mark.parametrize("start", [NOON, 0.9 * DAY])
def test_a_day_that_begins_late_is_spent_too(start):
    assert spend_a_day(100_000, head=0.1, cost=20, before=0.1, start=start).used > 93_000


def test_history_is_not_slowed_while_more_than_half_is_left():
    day = CreditDay(0.0, 0.0, head=10_000, history=39_000, history_from=NOON + 500)
    assert (for_history(day, 100_000, 60, 10**6, NOON).pace, for_history(day, 100_000, 60, 10**6, NOON).wait) == (
        "full",
        0.0,
    )
    slowed = for_history(replace(day, history=41_000), 100_000, 60, 10**6, NOON)
    assert (slowed.credits, slowed.pace, slowed.wait) == (0, "slowed", 500)
    later = for_history(replace(day, history=41_000), 100_000, 60, 10**6, NOON + 500)
    ours = 49_000 - head_needs(replace(day, history=41_000), 100_000, NOON + 500)
    assert later.credits == 60
    assert later.history_from == pytest.approx(NOON + 500 + 60 / (ours / (NOON - 500)))


def test_history_stops_at_what_the_head_will_take_and_the_head_goes_on():
    day = CreditDay(0.0, 0.0, head=20_000, history=62_000)
    assert for_history(day, 100_000, 60, 1, NOON).pace == "stopped"
    assert for_head(day, 100_000, 60, 1, NOON).credits == 60
    spent = for_head(replace(day, head=37_950), 100_000, 60, 1, NOON)
    assert (spent.credits, spent.pace) == (0, "spent")


def test_little_is_given_at_once():
    day = CreditDay(0.0, 0.0, history=20_000)
    assert for_history(day, 100_000, 1, 10**9, NOON).credits == 800
    assert for_head(day, 100_000, 1, 10**9, NOON).credits == 800
    assert for_head(day, 100_000, 5_000, 1, NOON).credits == 5_000, "one request may be dearer"


def test_a_clock_that_was_put_back_holds_nothing_up():
    day = CreditDay(0.0, 0.0, history=60_000, history_from=3 * DAY)
    assert for_history(day, 100_000, 1, 1, NOON).credits
