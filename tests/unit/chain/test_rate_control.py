"""Pace and concurrency of an endpoint, in made-up time."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.chain.rpc.rate_control import RateControl
from indexer.chain.rpc.transport import retry_after_seconds

NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 1.5 ", 1.5),
        ("-3", 0.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        (None, None),
        ("1e99", 86_400.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, NOON) == seconds


def ask(rate: RateControl, now: float, calls: int = 1) -> None:
    rate.started(now, calls)
    rate.answered(now, rate.begun, calls, 1_000)
    rate.finished()
    rate.succeeded(now)


def test_the_window_doubles_where_it_is_full_and_halves_on_a_refusal() -> None:
    rate = RateControl(most=32)
    seen = []
    for now in range(5):
        seen.append(rate.window.size)
        begun = []
        while not rate.full():
            rate.started(float(now))
            begun.append(rate.begun)
        for one in begun:
            rate.answered(now + 0.5, one, 1, 1_000)
            rate.finished()
    assert seen == [4, 8, 16, 32, 32]
    for now in range(10, 40):
        ask(rate, float(now))
    assert rate.window.size == 32, "one at a time says nothing of 32"
    rate.limited(41.0, None, 0.0)
    assert rate.window.size == 16
    rate.forgiven(42.0)
    assert rate.window.size == 32


def test_full_when_so_many_are_under_way() -> None:
    rate = RateControl(most=1)
    assert not rate.full()
    rate.started(0.0)
    assert rate.full()
    rate.finished()
    assert not rate.full()


@pytest.mark.promise("N-04")
def test_retry_after_is_honoured_to_the_second() -> None:
    rate = RateControl()
    rate.limited(100.0, 30.0, 0.0)
    assert rate.delay(100.0) == 30.0
    assert rate.delay(129.5) == 0.5
    assert rate.delay(130.0) == 0.0


def test_without_retry_after_the_wait_doubles_until_an_answer() -> None:
    rate = RateControl()
    waits = []
    now = 0.0
    for _ in range(4):
        rate.limited(now, None, 0.0)
        waits.append(rate.delay(now))
        now += 100.0
    assert waits == [0.25, 0.5, 1.0, 2.0]
    ask(rate, now)
    rate.limited(now + 100, None, 0.0)
    assert rate.delay(now + 100) == 0.25


def test_a_refusal_halves_the_pace_and_answers_raise_it_slowly() -> None:
    rate = RateControl()
    for number in range(100):
        ask(rate, number * 0.05)  # 20 calls a second
    assert rate.pace is None
    assert rate.limited(5.0, None, 0.0)
    assert rate.pace == pytest.approx(10.0, rel=0.1)
    assert not rate.limited(5.1, None, 0.0), "refusals within a second tell one story"
    before = rate.pace
    ask(rate, 20.0)
    assert before < rate.pace < before + 0.2
    rate.limited(30.0, None, 0.0)
    assert rate.pace < before
    ask(rate, 10_000.0)
    assert rate.pace is None, "long ago is forgotten"


@pytest.mark.parametrize("calls", [1, 10, 100])
def test_the_pace_grows_by_the_second_whatever_a_request_holds(calls: int) -> None:
    rate = RateControl()
    rate.limited(0.0, None, 0.0)
    assert rate.pace == 3.0
    now = 0.0
    while now < 60.0:
        now += rate.delay(now)
        ask(rate, now, calls)
    assert 40.0 < rate.pace < 140.0, "a pace of three calls a second is not kept for long by who asks in batches"


@pytest.mark.promise("N-04")
@given(st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 20)), min_size=1, max_size=60), st.floats(0.5, 50))
def test_the_ceiling_holds_whatever_is_asked(requests: list[tuple[float, int]], ceiling: float) -> None:
    rate = RateControl(ceiling=ceiling)
    now = 0.0
    calls = 0
    for pause, size in requests:
        now += pause
        now += rate.delay(now)
        rate.started(now, size)
        rate.finished()
        calls += size
        last = size
    # The last request may have gone out at once; those before it have been paid for in time.
    assert now >= (calls - last) / ceiling - 1e-6
