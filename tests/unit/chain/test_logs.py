"""Logs as nodes write them: what is normalised, and what makes an answer unbelievable."""

import random
from typing import Any

import msgspec
import pytest

from indexer.chain.records.errors import AnswerError
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import logs_decoder, seconds
from indexer.chain.records.validation import CheckedLogs, check_logs, select

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
TOKEN = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
CHECKSUMMED = "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"
ASKED = LogFilter((TOKEN,), ((TRANSFER,), None, ("0x" + "02" * 32,)))


def log(block: int = 10, index: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "address": TOKEN,
        "topics": [TRANSFER, "0x" + "01" * 32, "0x" + "02" * 32],
        "data": "0x" + "03" * 32,
        "blockNumber": hex(block),
        "blockHash": f"0x{block:064x}",
        "transactionHash": f"0x{index:064x}",
        "transactionIndex": hex(index),
        "logIndex": hex(index),
        "removed": False,
    } | changes


def check(*logs: dict[str, Any], first: int = 10, last: int = 20, asked: LogFilter = ASKED) -> CheckedLogs:
    return check_logs(logs_decoder.decode(msgspec.json.encode(logs)), first, last, asked)


def test_a_log_is_kept_as_it_came() -> None:
    checked = check(log(12, 3))
    (only,) = checked.logs
    assert (only.block_number, only.log_index, only.tx_index) == (12, 3, 3)
    assert (only.address, only.topics, only.data) == (TOKEN, log()["topics"], log()["data"])
    assert only.tx_hash == f"0x{3:064x}"
    assert checked.hashes == {12: (12).to_bytes(32, "big")}
    assert checked.times == {}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("0x6553f100", 1_700_000_000),
        (1_700_000_000, 1_700_000_000),
        ("0x18bcfe56800", 1_700_000_000),
        ("1700000000", 1_700_000_000),
    ],
)
def test_times_come_in_seconds_or_milliseconds(written: str | int, meant: int) -> None:
    assert check(log(blockTimestamp=written)).times == {10: meant}
    assert seconds(written) == meant


@pytest.mark.parametrize("nothing", [None, "0x0", 0])
def test_a_time_that_is_none_is_not_taken(nothing: object) -> None:
    assert check(log(blockTimestamp=nothing)).times == {}


def test_any_case_of_hex_is_the_same() -> None:
    (only,) = check(log(address=CHECKSUMMED, topics=[TRANSFER.upper().replace("X", "x"), *log()["topics"][1:]])).logs
    assert only.address == TOKEN
    assert only.topics[0] == TRANSFER


def test_disorder_and_duplicates_are_normalised() -> None:
    logs = [log(block, index) for block in range(10, 16) for index in range(3)]
    shuffled = logs + logs[4:9]
    random.Random(1).shuffle(shuffled)
    assert check(*shuffled).logs == check(*logs).logs


@pytest.mark.parametrize("place", ["transactionIndex", "logIndex"])
@pytest.mark.parametrize("kept", [0, 2**31 - 1, 2**31, 0xFFFFFFE2, 2**53, 2**63 - 2])
def test_a_place_in_a_block_may_need_64_bits(place: str, kept: int) -> None:
    (only,) = check(log(**{place: hex(kept)})).logs
    assert kept in (only.tx_index, only.log_index)


@pytest.mark.parametrize("place", ["transactionIndex", "logIndex"])
@pytest.mark.parametrize("written", ["0x7fffffffffffffff", "-0x1", "0x" + "f" * 40])
def test_a_place_in_a_block_is_one_that_can_be_kept(place: str, written: str) -> None:
    with pytest.raises(AnswerError, match="no place in a block"):
        check(log(**{place: written}))


def test_a_removed_log_is_set_aside_with_its_block() -> None:
    checked = check(log(10, 0), log(11, 1, removed=True, blockHash="0x" + "ff" * 32), log(30, removed=True))
    assert [each.log_index for each in checked.logs] == [0]
    assert checked.hashes == {10: (10).to_bytes(32, "big")}
    assert checked.removed == {(11, b"\xff" * 32)}
    checked.require_not_removed({10: (10).to_bytes(32, "big"), 11: (11).to_bytes(32, "big")}, "")
    with pytest.raises(AnswerError, match="marks a log of block 11 as removed"):
        checked.require_not_removed({11: b"\xff" * 32}, "")


@pytest.mark.promise("N-01")
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(log(9), id="before the range"),
        pytest.param(log(21), id="after the range"),
        pytest.param(log(address="0x" + "11" * 20), id="another address"),
        pytest.param(log(topics=["0x" + "11" * 32]), id="another topic"),
        pytest.param(log(topics=[]), id="no topic"),
        pytest.param(log(topics=[TRANSFER, "0x" + "01" * 32]), id="too few topics"),
        pytest.param(log(topics=[TRANSFER, "0x" + "01" * 32, "0x" + "05" * 32]), id="another third topic"),
        pytest.param(log(topics=[*log()["topics"], TRANSFER, TRANSFER]), id="five topics"),
        pytest.param(log(topics=[*log()["topics"][:2], "0x02"]), id="a short topic"),
        pytest.param(log(data="0x0"), id="half a byte"),
        pytest.param(log(data="0xzz"), id="no hex"),
        pytest.param(log(data="0x" + "é" * 2), id="no ASCII"),
        pytest.param(log(blockNumber="ten"), id="a number in words"),
        pytest.param(log(blockHash="0x11"), id="a short hash"),
        pytest.param(log(transactionHash=None), id="no transaction"),
        pytest.param(log(transactionHash="0x11"), id="a short transaction hash"),
        pytest.param(log(transactionIndex=None), id="no transaction index"),
        pytest.param(log(logIndex=None), id="no log index"),
        pytest.param(log(blockNumber=None), id="pending: no block number"),
        pytest.param(log(blockHash=None), id="pending: no block hash"),
        pytest.param(log(blockNumber=None, removed=True), id="removed from no block"),
        pytest.param(log(blockTimestamp="soon"), id="a time in words"),
    ],
)
def test_what_contradicts_the_question_makes_the_answer_unbelievable(wrong: dict[str, Any]) -> None:
    with pytest.raises(AnswerError):
        check(log(11), wrong)


@pytest.mark.parametrize("data", [None, ""])
def test_data_that_is_not_there_is_empty(data: str | None) -> None:
    assert [one.data for one in check(log(11, data=data)).logs] == ["0x"]


def test_logs_that_are_numbered_per_transaction_have_a_place_of_their_own() -> None:
    logs = [log(11, 0), log(11, 0, transactionIndex="0x5", transactionHash="0x" + "77" * 32)]
    with pytest.raises(AnswerError, match='log_index = "per_transaction"'):
        check(*logs)
    expected = sorted((int(one["transactionIndex"], 16) * 2**32, int(one["transactionIndex"], 16)) for one in logs)
    for order in (logs, logs[::-1]):
        wire = logs_decoder.decode(msgspec.json.encode(order))
        found = check_logs(wire, 10, 20, LogFilter(), per_transaction=True).logs
        assert [(one.log_index, one.tx_index) for one in found] == expected


@pytest.mark.promise("N-02")
def test_two_hashes_of_one_block_are_two_branches() -> None:
    with pytest.raises(AnswerError, match="two hashes"):
        check(log(11, 0), log(11, 1, blockHash="0x" + "ff" * 32))


def test_two_different_logs_at_one_place_are_a_contradiction() -> None:
    with pytest.raises(AnswerError, match="two different logs"):
        check(log(11, 0), log(11, 0, data="0x"))


def test_select_keeps_what_a_narrower_filter_asks_for() -> None:
    other = "0x" + "11" * 20
    wide = LogFilter(None, ASKED.topics)
    logs = check(log(10, 0), log(10, 1, address=other), log(11, 0), asked=wide).logs
    assert [each.log_index for each in select(logs, ASKED)] == [0, 0]
    assert [each.address for each in select(logs, LogFilter((other,), ()))] == [other]
