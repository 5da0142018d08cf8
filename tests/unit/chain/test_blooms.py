"""What a bloom says of logs that an answer lacks."""

import pytest
from eth_utils.crypto import keccak

from indexer.chain.records.completeness import BloomTrust, unaccounted
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import Header
from indexer.chain.records.validation import RawLog

A, B, C = ("0x" + digit * 40 for digit in "abc")
T, U, V = ("0x" + digit * 64 for digit in "123")
KEPT = BloomTrust(kept=True)


def bloom_of(*values: str) -> bytes:
    """Byte by byte, as the yellow paper numbers the bits: from the end."""
    bloom = bytearray(256)
    for value in values:
        digest = keccak(hexstr=value)
        for start in (0, 2, 4):
            bit = (digest[start] << 8 | digest[start + 1]) % 2048
            bloom[255 - bit // 8] |= 1 << bit % 8
    return bytes(bloom)


def header(*values: str) -> Header:
    return Header(5, b"\5" * 32, b"\4" * 32, 0, bloom_of(*values))


def log(address: str, *topics: str) -> RawLog:
    return RawLog(address, list(topics), "0x", 5, "0x" + "05" * 32, "0x" + "07" * 32, 0, 0)


@pytest.mark.parametrize(
    ("filters", "values", "logs", "lacking"),
    [
        (LogFilter((A,), ((T,), (U,))), (A, T, U), [], LogFilter((A,), ((T,), (U,)))),
        (LogFilter((B, A), ((V, T),)), (A, T, U), [], LogFilter((A,), ((T,),))),
        (LogFilter(), (A, T), [], LogFilter()),
        (LogFilter((B,), ((T,),)), (A, T, U), [], None),
        (LogFilter((A,), ((V,),)), (A, T, U), [], None),
        (LogFilter(), (), [], None),
        # Some of its logs came: what none of them shows is asked for.
        (LogFilter((A, B), ((T, U),)), (A, B, T, U), [log(A, T), log(A, U), log(B, T)], LogFilter((B,), ((U,),))),
        (LogFilter((A, B), ((T,),)), (A, B, T), [log(A, T), log(B, T)], None),
        (LogFilter((A, B)), (A, B, T), [log(A, T)], LogFilter((B,))),
        (LogFilter((A, B), (None, (U,))), (A, B, U), [log(A, T, U)], LogFilter((B,), (None, (U,)))),
        (LogFilter((A,), (None, (V,))), (A, T, U), [], None),
        (LogFilter(None, ((T, U),)), (A, T, U), [log(A, T)], LogFilter(None, ((U,),))),
    ],
)
def test_one_question_for_what_no_log_shows(
    filters: LogFilter, values: tuple[str, ...], logs: list[RawLog], lacking: LogFilter | None
) -> None:
    assert unaccounted(filters, header(*values), logs, KEPT) == lacking


def test_a_log_of_any_address_does_not_stand_for_a_long_list() -> None:
    asked = LogFilter(None, ((T, U),))
    assert unaccounted(asked, header(A, T), [log(A, T)], KEPT, mixed=True) == LogFilter(None, ((T,),))
    assert unaccounted(asked, header(A, V), [], KEPT, mixed=True) is None


def test_a_zero_bloom_is_believed_of_those_that_keep_blooms() -> None:
    wanted, trust = LogFilter((A,), ((T,),)), BloomTrust()
    assert unaccounted(wanted, header(), [], trust) == wanted, "nothing is known of this endpoint yet"
    assert not trust.learn(header(B), [])
    assert unaccounted(wanted, header(), [], trust) is None


def test_a_bloom_that_lacks_its_own_blocks_log_is_never_believed_again() -> None:
    wanted, trust = LogFilter((A,), ((T,),)), BloomTrust(kept=True)
    assert trust.learn(header(B, T), [log(A, T)])
    assert not trust.learn(header(B, T), [log(A, T)]), "it is told once"
    for bloom in (header(), header(B)):
        assert unaccounted(wanted, bloom, [], trust) == wanted
        assert unaccounted(wanted, bloom, [log(A, T)], trust) is None


def test_where_the_operator_says_that_blooms_mean_nothing_every_silent_block_is_asked_for() -> None:
    wanted = LogFilter((A,), ((T,),))
    assert unaccounted(wanted, header(B), [], None) == wanted
    assert unaccounted(wanted, header(B), [log(A, T)], None) is None
