"""When a head that went backwards is believed: it stood still for long, and everybody said so at the end."""

from __future__ import annotations

from indexer.sync.head.decisions import AGREED, STANDS_FOR, ShorterChain

ONE, OTHER = b"\1" * 32, b"\2" * 32


def look(patience: ShorterChain, now: float, *, block_hash: bytes = ONE, agreed: bool = True) -> bool:
    return patience.half_over(block_hash, now) and patience.over(agreed, now)


def test_it_takes_time_and_several_looks() -> None:
    patience = ShorterChain()
    ends = [now for now in range(0, 300, 10) if look(patience, float(now))]
    assert ends[0] == STANDS_FOR


def test_a_pause_between_two_looks_is_not_several_looks() -> None:
    patience = ShorterChain()
    assert not look(patience, 0.0)
    outcomes = [look(patience, 10 * STANDS_FOR + i) for i in range(AGREED)]
    assert outcomes == [False] * (AGREED - 1) + [True]


def test_a_head_that_moves_begins_anew() -> None:
    patience = ShorterChain()
    hashes = [bytes([i]) * 32 for i in range(100)]
    assert not any(look(patience, 50.0 * i, block_hash=one) for i, one in enumerate(hashes))


def test_one_who_disagrees_begins_anew() -> None:
    patience = ShorterChain()
    assert not any(look(patience, 10.0 * i, agreed=i % 12 != 11) for i in range(12))
    assert not any(look(patience, 120.0 + 10.0 * i) for i in range(12))
    assert look(patience, 240.0)


def test_a_head_that_is_not_behind_begins_anew() -> None:
    patience = ShorterChain()
    assert not any(look(patience, 10.0 * i) for i in range(12))
    patience.lose()
    assert not look(patience, 120.0)
