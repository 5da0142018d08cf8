"""Interval algebra against sets of integers: the slow and obvious other opinion."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from indexer import intervals

ranges = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda p: (min(p), max(p))), max_size=8)
sets = ranges.map(intervals.normalise)


def blocks(range_set):
    return {n for first, last in range_set for n in range(first, last + 1)}


def is_normal(range_set):
    return all(a <= b for a, b in range_set) and all(left[1] + 1 < right[0] for left, right in pairwise(range_set))


@given(ranges)
def test_normalise_keeps_the_blocks(given_ranges):
    result = intervals.normalise(given_ranges)
    assert is_normal(result)
    assert blocks(result) == blocks(given_ranges)


@given(sets, sets)
def test_algebra_is_that_of_sets(left, right):
    for operation, expected in (
        (intervals.union, blocks(left) | blocks(right)),
        (intervals.intersect, blocks(left) & blocks(right)),
        (intervals.subtract, blocks(left) - blocks(right)),
    ):
        result = operation(left, right)
        assert is_normal(result)
        assert blocks(result) == expected
    assert intervals.size(left) == len(blocks(left))


@given(sets, st.integers(0, 45), st.integers(0, 45))
def test_contains_and_frontier(range_set, first, last):
    assert intervals.contains(range_set, (first, last)) == (set(range(first, last + 1)) <= blocks(range_set))
    reached = intervals.frontier(range_set, first)
    assert set(range(first, reached + 1)) <= blocks(range_set)
    assert reached + 1 not in blocks(range_set)


@given(sets, st.integers(1, 7))
def test_pieces_cover_once(range_set, length):
    cut = list(intervals.pieces(range_set, length))
    assert all(b - a + 1 <= length for a, b in cut)
    assert sum(b - a + 1 for a, b in cut) == len(blocks(cut)) == intervals.size(range_set)


@given(st.lists(sets, max_size=4))
def test_shared_names_the_owners_of_every_block(owned):
    seen = {}
    for (first, last), owners in intervals.shared(enumerate(owned)):
        for n in range(first, last + 1):
            assert n not in seen
            seen[n] = set(owners)
    assert seen == {
        n: {i for i, s in enumerate(owned) if n in blocks(s)} for n in set().union(*map(blocks, owned), set())
    }


def test_format_ranges():
    assert intervals.format_ranges(()) == "none"
    assert intervals.format_ranges(((1, 5), (9, 9))) == "1-5, 9"
    assert intervals.format_ranges(((1, 1), (3, 3), (5, 5)), most=2) == "1, 3 and 1 more"
