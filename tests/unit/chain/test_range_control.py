"""Width of ranges: converges under every limit, never loops, never exceeds what is known, never below one block."""

from bisect import bisect_left, bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.chain.records.errors import RangeError
from indexer.chain.records.range_control import BlockLimit, RangeController


def controller(**more: int) -> RangeController:
    return RangeController(
        **{"start_blocks": 10_000, "max_blocks": 1_000_000, "target_logs": 7_000, "target_bytes": 10**9, **more}
    )


class Provider:
    """A chain with logs at some blocks, and a limit."""

    def __init__(
        self, positions: list[int], *, blocks: int | None, logs: int | None, named: bool, suggests: bool
    ) -> None:
        self.positions = sorted(positions)
        self.blocks, self.logs, self.named, self.suggests = blocks, logs, named, suggests

    def count(self, first: int, last: int) -> int:
        return bisect_right(self.positions, last) - bisect_left(self.positions, first)

    def refuses(self, first: int, last: int) -> RangeError | None:
        if self.blocks is not None and last - first + 1 > self.blocks:
            return RangeError("too wide", limit="blocks", maximum=self.blocks if self.named else None)
        if self.logs is not None and last > first and self.count(first, last) > self.logs:
            suggested = None
            if self.suggests:
                end = self.positions[bisect_left(self.positions, first) + self.logs] - 1
                suggested = (first, end)  # may end before it begins: a single block that is too full
            return RangeError(
                "too many", limit="results", maximum=self.logs if self.named else None, suggested=suggested
            )
        return None


def read(
    provider: Provider, last_block: int, control: RangeController, *, most: int = 100_000
) -> list[tuple[int, int]]:
    """Reads everything, one request after the other. Returns all requests, refused ones included."""
    limit = BlockLimit()
    asked: list[tuple[int, int]] = []
    first = 0
    while first <= last_block:
        allowed = limit.allowed(0.0)
        width = control.width(first, allowed)
        assert width >= 1
        assert allowed is None or width <= allowed
        last = min(last_block, first + width - 1)
        while True:
            asked.append((first, last))
            assert len(asked) <= most, "it does not converge"
            error = provider.refuses(first, last)
            if error is None:
                break
            blocks = last - first + 1
            allowed = limit.failed(blocks, error.maximum, 0.0) if error.limit == "blocks" else limit.allowed(0.0)
            width = control.failed(first, last, error, allowed)
            assert 1 <= width < blocks, "a refused range must become smaller"
            last = first + width - 1
        limit.succeeded(last - first + 1, 0.0)
        logs = provider.count(first, last)
        control.succeeded(first, last, logs, logs * 700)
        first = last + 1
    return asked


@settings(max_examples=150, deadline=None)
@given(
    positions=st.lists(st.integers(0, 20_000), max_size=300),
    blocks=st.one_of(st.none(), st.integers(1, 30_000)),
    logs=st.one_of(st.none(), st.integers(1, 200)),
    named=st.booleans(),
    suggests=st.booleans(),
    start=st.integers(1, 50_000),
)
def test_it_reads_everything_under_any_limit(
    positions: list[int], blocks: int | None, logs: int | None, named: bool, suggests: bool, start: int
) -> None:
    provider = Provider(positions, blocks=blocks, logs=logs, named=named, suggests=suggests)
    asked = read(provider, 20_000, controller(start_blocks=start))
    answered = [(first, last) for first, last in asked if provider.refuses(first, last) is None]
    assert [first for first, _ in answered] == [0, *(last + 1 for _, last in answered[:-1])]
    assert answered[-1][1] == 20_000


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 50, 800, 1024, 2048, 3000, 10_000, 50_000])
def test_a_block_limit_is_found_within_a_few_requests(limit: int, named: bool) -> None:
    provider = Provider(list(range(0, 200_000, 40)), blocks=limit, logs=None, named=named, suggests=False)
    last = min(200_000, 500 * limit) - 1
    asked = read(provider, last, controller())
    least = -(-(last + 1) // limit)
    refused = sum(provider.refuses(*each) is not None for each in asked)
    assert refused <= (1 if named else 16)
    assert len(asked) <= 1.3 * least + 15


def test_a_known_limit_is_not_exceeded_again() -> None:
    limit = BlockLimit()
    assert limit.allowed(0.0) is None
    assert limit.failed(10_000, 2_000, 0.0) == 2_000
    assert limit.allowed(1.0) == 2_000


def test_a_limit_that_counts_otherwise_than_it_says_is_approached_by_one() -> None:
    limit = BlockLimit()
    assert limit.failed(5_000, 1_001, 0.0) == 1_001
    assert limit.failed(1_001, 1_001, 0.0) == 1_000


def test_a_limit_is_tried_upwards_once_an_hour() -> None:
    limit = BlockLimit()
    limit.failed(10_000, 1_000, 0.0)
    assert limit.allowed(3_599.0) == 1_000
    assert limit.allowed(3_601.0) == 2_000
    assert limit.allowed(3_602.0) == 1_000, "once, not by every thread"
    limit.succeeded(2_000, 3_603.0)
    assert limit.allowed(3_604.0) == 2_000


def test_a_limit_that_shrinks_is_followed_down() -> None:
    limit = BlockLimit()
    limit.succeeded(5_000, 0.0)
    assert limit.failed(5_000, None, 1.0) < 5_000
    assert limit.failed(10, None, 2.0) < 10
    assert limit.failed(1, None, 3.0) == 1


def test_a_suggestion_is_obeyed() -> None:
    error = RangeError("", limit="results", suggested=(100, 149))
    assert controller().failed(100, 999, error) == 50


def test_a_suggestion_shows_the_limit_behind_it() -> None:
    control = controller(target_logs=7_000)
    control.failed(0, 999, RangeError("", limit="results", suggested=(0, 99)))
    control.succeeded(0, 99, 6_000, 0)
    assert control.width(100) == 75, "three quarters of what was suggested"


@pytest.mark.parametrize("suggested", [(100, 999), (100, 1_500), (101, 500), (700, 500), (100, 99), (0, 50)])
def test_a_suggestion_that_cannot_help_is_halved_instead(suggested: tuple[int, int]) -> None:
    error = RangeError("", limit="results", suggested=suggested)
    assert controller().failed(100, 999, error) == 450


def test_the_width_follows_the_density() -> None:
    control = controller(target_logs=1_000)
    control.succeeded(0, 999, 500, 0)
    assert control.width(1_000) == 2_000
    control.succeeded(1_000, 2_999, 4_000, 0)
    assert control.width(3_000) == 500
    control.succeeded(3_000, 3_499, 0, 0)
    assert 500 < control.width(3_500) <= 2_000, "silence widens it, but not at once"


def test_bytes_bound_the_width_as_logs_do() -> None:
    control = controller(target_bytes=1_000_000)
    control.succeeded(0, 999, 10, 2_000_000)
    assert control.width(1_000) == 500


def test_a_slow_answer_narrows_the_next_range() -> None:
    control = controller()
    control.succeeded(0, 9_999, 0, 0, seconds=40.0)
    assert control.width(10_000) == 2_500


def test_a_limit_of_results_is_local() -> None:
    control = controller(target_logs=1_000)
    control.succeeded(0, 9_999, 10, 0)
    assert control.failed(10_000, 19_999, RangeError("", limit="results", maximum=2_000)) == 5_000
    control.succeeded(10_000, 14_999, 1_900, 0)
    control.succeeded(15_000, 19_999, 200, 0)
    for number in range(4):
        control.succeeded(20_000 + number, 20_000 + number, 0, 0)
    assert control.width(30_000) > 10_000


def test_a_limit_that_nothing_names_is_found_by_its_width_not_by_its_logs() -> None:
    control = controller()
    control.succeeded(0, 999, 900, 0)
    assert control.failed(1_000, 6_999, RangeError("?")) == 3_500
    control.succeeded(1_000, 4_499, 0, 0)
    assert 3_500 < control.width(4_500) < 6_000
    # What was granted once is not the limit: then it is the contents.
    control.succeeded(4_500, 9_999, 0, 0)
    assert control.failed(10_000, 14_999, RangeError("?")) == 2_500


def test_a_time_out_halves_at_once() -> None:
    control = controller()
    control.succeeded(0, 9_999, 0, 0)
    assert control.failed(10_000, 39_999, RangeError("?", timed_out=True)) == 15_000
    assert control.width(10_000) <= 15_000


@pytest.mark.parametrize("allowed", [1_000, 5_000, 999])
def test_a_refused_width_is_never_asked_again(allowed: int) -> None:
    assert controller().failed(0, 999, RangeError("", limit="blocks"), allowed) == 999


def test_it_never_asks_for_less_than_one_block() -> None:
    control = controller()
    assert control.failed(5, 5, RangeError("", limit="results")) == 1
    assert control.failed(5, 6, RangeError("", limit="blocks", maximum=0), 0) == 1
    control.succeeded(0, 0, 10**9, 10**12)
    assert control.width(1) == 1
