"""Filters: as parameters, cut in parts, against blooms, and the price of long address lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.chain.logs.address_slices import HeadQuestions, samples, topic_only_is_cheaper
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.validation import RawLog, matcher

A, B, C = ("0x" + digit * 40 for digit in "abc")
T, U, V = ("0x" + digit * 64 for digit in "123")


def test_as_a_nodes_parameter() -> None:
    assert LogFilter().params() == {}
    assert LogFilter((A,), ((T,),)).params() == {"address": A, "topics": [[T]]}
    assert LogFilter((A, B), (None, (T, U), None)).params() == {"address": [A, B], "topics": [None, [T, U]]}
    assert LogFilter().between(16, 255) == {"fromBlock": "0x10", "toBlock": "0xff"}
    assert LogFilter((A,)).at(b"\x01" * 32) == {"address": A, "blockHash": "0x" + "01" * 32}


def test_an_empty_list_would_mean_any_to_a_node() -> None:
    with pytest.raises(ValueError, match="empty address list"):
        LogFilter(())
    with pytest.raises(ValueError, match="empty topic list"):
        LogFilter(None, ((),))


@given(st.sets(st.sampled_from([A, B, C]), min_size=1), st.sets(st.sampled_from([T, U, V]), min_size=1))
def test_halves_ask_for_the_same_together(addresses: set[str], topics: set[str]) -> None:
    whole = LogFilter(tuple(sorted(addresses)), (None, tuple(sorted(topics))))
    parts = [whole]
    while any(part.halves() for part in parts):
        parts = [half for part in parts for half in (part.halves() or (part,))]
    assert len(parts) == len(addresses) * len(topics)
    for address in (A, B, C):
        for topic in (T, U, V):
            hits = sum(matcher(part)(address, [V, topic]) for part in parts)
            assert hits == matcher(whole)(address, [V, topic])


def test_slices_keep_topics_and_miss_no_address() -> None:
    addresses = tuple(f"0x{number:040x}" for number in range(2_500))
    parts = list(LogFilter(addresses, ((T,),)).slices(1_000))
    assert [len(part.addresses or ()) for part in parts] == [1_000, 1_000, 500]
    assert [address for part in parts for address in part.addresses or ()] == list(addresses)
    assert {part.topics for part in parts} == {((T,),)}
    assert list(LogFilter(None).slices(10)) == [LogFilter(None)]


@pytest.mark.parametrize(
    ("addresses", "matching", "anybody", "blocks", "topic_only"),
    [
        # 300,000 pairs make most of all Swap events: their addresses would cost more than the other swaps.
        (300_000, 20.0, 25.0, 350.0, True),
        # Transfers of 300,000 pair tokens among all ERC-20 transfers of a chain: not to be downloaded.
        (300_000, 1.0, 300.0, 7_000.0, False),
        (2_000, 1.0, 300.0, 7_000.0, False),
        (2_000, 0.0, 0.0, 1_000_000.0, True),
        # 300 questions for each range of a provider that takes ten blocks.
        (300_000, 1.0, 300.0, 10.0, True),
    ],
)
def test_whichever_moves_fewer_bytes(
    addresses: int, matching: float, anybody: float, blocks: float, topic_only: bool
) -> None:
    slices = -(-addresses // 1_000)
    assert topic_only_is_cheaper(addresses, slices, matching, anybody, blocks) is topic_only


def listed(count: int) -> LogFilter:
    return LogFilter(tuple(f"0x{number:040x}" for number in range(count)), (("0x" + "ab" * 32,),))


def logs(count: int) -> list[RawLog]:
    words = "0x" + "00" * 32
    return [RawLog("0x" + "99" * 20, ["0x" + "ab" * 32], "0x", 1, words, words, 0, index) for index in range(count)]


@pytest.mark.parametrize(
    ("addresses", "anybody", "asked_for"),
    [
        (1_000, 300, 1),  # a list that fits one question is sent
        (3_000, 5, 1),  # few logs of strangers: cheaper than 135 kB of addresses
        (3_000, 5_000, 3),
        (300_000, 5_000, 1),  # never hundreds of questions for a block
    ],
)
def test_at_the_head_the_blocks_before_say_how_to_ask(addresses: int, anybody: int, asked_for: int) -> None:
    wanted, head = listed(addresses), HeadQuestions()
    for _ in range(20):
        asked = head.ask([wanted], 1_000, 1)
        head.learn(asked, logs(anybody), 1)
    assert len(asked) == asked_for
    assert {one.topics for one in asked} == {wanted.topics}
    assert (asked[0].addresses is None) == (asked_for == 1 and addresses > 1_000)


def test_at_the_head_the_first_question_and_one_now_and_then_is_by_topic() -> None:
    wanted, head = listed(3_000), HeadQuestions()
    by_topic = []
    for block in range(2_500):
        asked = head.ask([wanted], 1_000, 1)
        if asked[0].addresses is None:
            by_topic.append(block)
            head.learn(asked, logs(2_000), 1)
    assert by_topic == [0, 1_001, 2_002]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 100)), min_size=1, max_size=6),
    st.integers(1, 9),
    st.integers(1, 7),
)
def test_samples_lie_in_the_ranges_and_apart(pieces: list[tuple[int, int]], count: int, width: int) -> None:
    ranges, start = [], 0
    for gap, length in pieces:
        ranges.append((start + gap, start + gap + length - 1))
        start += gap + length
    taken = list(samples(ranges, count, width))
    assert 1 <= len(taken) <= count
    blocks = [number for first, last in taken for number in range(first, last + 1)]
    assert len(blocks) == len(set(blocks))
    wanted = {number for first, last in ranges for number in range(first, last + 1)}
    assert set(blocks) <= wanted
    assert all(last - first < width for first, last in taken)
