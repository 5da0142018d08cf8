"""Answers read in columns: exactly what the plain way makes of them, or left to it."""

import json
import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.chain.records import column_reader
from indexer.chain.records.column_reader import LOG_FORM
from indexer.chain.records.errors import AnswerError
from indexer.chain.records.log_columns import LogColumns
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.messages import logs_decoder
from indexer.chain.records.text_layout import Layouts, learn
from indexer.chain.records.validation import CheckedLogs, check_logs, select
from tests.further import examples

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
ADDRESSES = ["0x" + f"{n:040x}" for n in (0xA1, 0xB2, 0xC3DE << 140)]
TOPICS = ["0x" + f"{n:064x}" for n in (0xDDF252AD << 200, 7, 0xFACE << 100)]
FIRST, LAST = 90, 300
EVERYTHING = LogFilter()


def plainly(answer: bytes, asked: LogFilter = EVERYTHING, first: int = FIRST, last: int = LAST) -> CheckedLogs | None:
    """What the plain way says; None where it refuses."""
    try:
        return check_logs(logs_decoder.decode(answer), first, last, asked)
    except (AnswerError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def in_columns(
    answer: bytes, asked: LogFilter = EVERYTHING, layouts: Layouts | None = None, first: int = FIRST, last: int = LAST
) -> LogColumns | None:
    return column_reader.read(answer, first, last, asked, layouts or Layouts(LOG_FORM), least=0, few=0)


def agree(answer: bytes, asked: LogFilter = EVERYTHING, layouts: Layouts | None = None) -> bool:
    """Whether columns were read; they must be what the plain way reads, and all of an answer that it takes."""
    columns = in_columns(answer, asked, layouts)
    if columns is None:
        return False
    plain = plainly(answer, asked)
    assert columns.plain() == plain
    assert len(columns) == len(plain.logs)
    return True


def written(logs: list[dict[str, Any]]) -> bytes:
    return json.dumps(logs, separators=(",", ":")).encode()


def log(block: int = 100, index: int = 0, **changes: Any) -> dict[str, Any]:
    made = {
        "address": ADDRESSES[index % 2],
        "topics": TOPICS[: 1 + index % 3],
        "data": "0x" + "ab" * 32 * (index % 2),
        "blockNumber": hex(block),
        "transactionHash": "0x" + f"{block * 1000 + index:064x}",
        "transactionIndex": hex(index // 2),
        "blockHash": "0x" + f"{block * 7:064x}",
        "blockTimestamp": hex(1_600_000_000 + block),
        "logIndex": hex(index),
        "removed": False,
    } | changes
    return {name: value for name, value in made.items() if value is not ...}


def some(count: int = 40, **changes: Any) -> list[dict[str, Any]]:
    """Logs in order, several a block, with every width of index, number of topics and length of data."""
    return [log(100 + n // 20, n % 20 * 3, **changes) for n in range(count)]


hex_digits = st.text("0123456789abcdef", min_size=64, max_size=64).map("0x{}".format)


@st.composite
def answers(draw: st.DrawFn) -> list[dict[str, Any]]:
    """What an honest node may answer."""
    order = draw(st.permutations([*log(), "someMember"]))
    left_out = draw(st.sets(st.sampled_from(["blockTimestamp", "removed", "someMember"])))
    other = draw(st.sampled_from([None, False, "0x", "0x1", "0xabcd"]))
    made, position = [], 0
    for block in sorted(draw(st.sets(st.integers(FIRST, LAST), min_size=1, max_size=6))):
        position = 0
        for _ in range(draw(st.integers(1, 4))):
            position += draw(st.sampled_from([1, 1, 2, 15, 255, 0xFFFFFFE2]))
            one = log(
                block,
                position,
                address=draw(st.sampled_from(ADDRESSES)),
                topics=draw(st.lists(st.sampled_from(TOPICS) | hex_digits, max_size=4)),
                data="0x" + "5a" * draw(st.sampled_from([0, 0, 1, 32, 32, 32, 33, 64])),
                transactionHash=draw(hex_digits),
                someMember=other,
            )
            made.append({name: one[name] for name in order if name not in left_out})
    return made


@settings(RELAXED, max_examples=examples(150))
@given(answers(), st.randoms(use_true_random=False))
def test_honest_answers_are_read_in_columns(logs: list[dict[str, Any]], rng: random.Random) -> None:
    layouts = Layouts(LOG_FORM)
    # Four times the same lengths, so that columns are worth it; then again with the layouts known.
    many = [log | {"logIndex": hex(0x1000 * copy + int(log["logIndex"], 16))} for copy in range(1, 5) for log in logs]
    many.sort(key=lambda log: (int(log["blockNumber"], 16), int(log["logIndex"], 16)))
    assert agree(written(many), layouts=layouts)
    assert agree(written(many), layouts=layouts)
    rng.shuffle(many)
    agree(written(many), layouts=layouts)


FILTERS = st.sampled_from(
    [
        LogFilter(),
        LogFilter((ADDRESSES[0],)),
        LogFilter(tuple(ADDRESSES)),
        LogFilter(None, ((TOPICS[0],),)),
        LogFilter(tuple(ADDRESSES), (None, (TOPICS[1],))),
        LogFilter(None, ((TOPICS[0],), (TOPICS[1], TOPICS[0]))),
        LogFilter((ADDRESSES[1],), ((TOPICS[0],), None, (TOPICS[2],))),
    ]
)


@settings(RELAXED, max_examples=examples(150))
@given(FILTERS, st.lists(st.sampled_from(range(3)), min_size=0, max_size=3), st.booleans())
def test_what_was_not_asked_for_is_never_read(asked: LogFilter, which: list[int], at_first: bool) -> None:
    logs = some(topics=TOPICS, address=ADDRESSES[0])
    agree(written(logs), asked)
    changed = {"topics": [TOPICS[n] for n in which]} if at_first else {"address": ADDRESSES[len(which) % 3]}
    logs[17] |= changed
    agree(written(logs), asked)


def test_a_filter_that_fits_is_no_reason_for_the_plain_way() -> None:
    logs = some(topics=TOPICS, address=ADDRESSES[0])
    for asked in (
        LogFilter(),
        LogFilter((ADDRESSES[0],), ((TOPICS[0],),)),
        LogFilter(None, (None, (TOPICS[1],), (TOPICS[2], TOPICS[0]))),
    ):
        assert agree(written(logs), asked)


def changed(at: int = 13, **changes: Any) -> bytes:
    logs = some()
    logs[at] |= changes
    return written([{n: v for n, v in one.items() if v is not ...} for one in logs])


ODD = {
    "capitals": changed(address=ADDRESSES[0].upper().replace("X", "x")),
    "capitals in data": changed(data="0x" + "AB" * 32),
    "capitals in a hash": changed(transactionHash="0x" + "F" * 64),
    "removed": changed(removed=True),
    "pending": changed(blockNumber=None),
    "no block hash": changed(blockHash=None),
    "no log index": changed(logIndex=None),
    "missing log index": changed(logIndex=...),
    "missing address": changed(address=...),
    "missing topics": changed(topics=...),
    "topics null": changed(topics=None),
    "another hash": changed(blockHash="0x" + "11" * 32),
    "another time": changed(blockTimestamp="0x1"),
    "time as a number": changed(blockTimestamp=1_600_000_000),
    "time in milliseconds": changed(blockTimestamp=hex(1_600_000_000_000)),
    "empty number": changed(blockNumber="0x"),
    "huge number": changed(blockNumber="0x" + "f" * 15),
    "huger number": changed(blockNumber="0x" + "1" * 40),
    "huge index": changed(logIndex="0x80000000"),
    "huger index": changed(logIndex="0x" + "f" * 20),
    "negative index": changed(logIndex="-0x1"),
    "negative number": changed(blockNumber="0x-1"),
    "blanks in a number": changed(logIndex="0x 1"),
    "underscore": changed(logIndex="0x1_0"),
    "before the range": changed(0, blockNumber=hex(FIRST - 1)),
    "behind the range": changed(39, blockNumber=hex(LAST + 1)),
    "half a byte": changed(data="0xabc"),
    "no prefix": changed(data="ab"),
    "short topic": changed(topics=["0x12"]),
    "long topic": changed(topics=["0x" + "1" * 66]),
    "five topics": changed(topics=TOPICS + TOPICS[:2]),
    "topic null": changed(topics=[None]),
    "short address": changed(address="0x" + "1" * 38),
    "short hash": changed(blockHash="0x" + "1" * 62),
    "not hex": changed(data="0x" + "zz" * 32),
    "not hex, by one": changed(data="0x" + "ab" * 31 + "ag"),
    "quote in data": changed(data='0x"' + "ab" * 31),
    "escape": changed(data="0x\\u0061"),
    "brace in data": changed(data="0x{" + "a" * 63),
    "a number": changed(data=5),
    "an object": changed(data={}),
    "unknown object": changed(other={"a": 1}),
    "unknown text": changed(other="hello"),
    "unknown number": changed(other=5),
    "duplicate": written([*some()[:9], *some()[8:]]),
    "another log at its place": written([*some()[:9], some()[8] | {"data": "0xff"}, *some()[9:]]),
    "disorder": written(some()[::-1]),
    "blanks": json.dumps(some()).encode(),
    "empty": b"[]",
    "null": b"null",
    "object": b"{}",
    "cut short": written(some())[:-1],
    "cut shorter": written(some())[:-40],
    "something behind": written(some()) + b"]",
    "a comma too much": written(some())[:-1] + b",]",
    "a comma too little": written(some()).replace(b"},{", b"}{", 1),
    "another bracket": b"{" + written(some())[1:],
    "member twice": written(some()).replace(b'"removed":false', b'"removed":false,"removed":true', 1),
    "member twice everywhere": written(some()).replace(b'"removed":false', b'"removed":false,"removed":true'),
    "data twice": written(some()).replace(b'"removed":false', b'"data":"0x","removed":false'),
    "newline": written(some()) + b"\n",
    "quote in what nobody reads": written(some(other="0xabc")).replace(b"0xabc", b'0xa"c', 1),
    "time in milliseconds everywhere": written(some(blockTimestamp=hex(1_600_000_000_000))),
    "huge index of the last": changed(39, logIndex=hex(2**63 - 1)),
    "huge transaction index": changed(transactionIndex=hex(2**63 - 1)),
    "not hex, next to letters": changed(data="0x" + "WW" * 32),
    "removed as hex": changed(removed="0x1"),
    "removed as hex everywhere": written(some(removed="0x1")),
    "index as null": written(some(transactionIndex=None)),
    "NUL": written(some()).replace(b"0xab", b"0x\0b", 1),
    "not ASCII": written(some()).replace(b"abab", "äb".encode(), 1),
}


@pytest.mark.parametrize("answer", ODD.values(), ids=list(ODD))
def test_odd_answers(answer: bytes) -> None:
    agree(answer)


@pytest.mark.promise("R-06")
def test_what_the_plain_way_refuses_is_refused() -> None:
    """Of the odd answers, none that is taken in columns is one that the plain way refuses."""
    taken = {name for name, answer in ODD.items() if in_columns(answer) is not None}
    assert taken == set()


@settings(RELAXED, max_examples=examples(400))
@given(st.data())
def test_mutated_bytes(data: st.DataObject) -> None:
    answer = bytearray(written(some()))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(answer) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                answer[at] = data.draw(st.integers(0, 255))
            case 1:
                answer[at] = data.draw(st.sampled_from(b'0123456789abcdefABCDEF"{}[],:x '))
            case 2:
                del answer[at : at + data.draw(st.integers(1, 3))]
            case 3:
                answer[at:at] = bytes(data.draw(st.lists(st.sampled_from(b'0af"{}[],x '), min_size=1, max_size=3)))
    layouts = Layouts(LOG_FORM)
    in_columns(written(some()), layouts=layouts)
    agree(bytes(answer), layouts=layouts)


@settings(RELAXED, max_examples=examples(100))
@given(st.data())
def test_pieces_put_together_anew(data: st.DataObject) -> None:
    """Members moved between logs, logs left out, repeated and exchanged."""
    logs = some()
    for _ in range(data.draw(st.integers(1, 4))):
        one, other = (data.draw(st.sampled_from(logs)) for _ in range(2))
        name = data.draw(st.sampled_from(list(log())))
        match data.draw(st.integers(0, 3)):
            case 0:
                one[name] = other[name]
            case 1:
                logs.insert(data.draw(st.integers(0, len(logs))), dict(other))
            case 2:
                logs.remove(one)
            case 3:
                one[name], other[name] = other[name], one[name]
    agree(written(logs))


@pytest.mark.parametrize("change", [lambda n: n - 1, lambda n: n + 1])
def test_every_byte_counts(change: Any) -> None:
    """Whatever byte is another, the answer is another, or it is left to the plain way."""
    whole = written(some(24))
    layouts = Layouts(LOG_FORM)
    columns = in_columns(whole, layouts=layouts)
    assert columns is not None
    plain = columns.plain()
    # Every byte of the first three logs, which are of three layouts, and of the end.
    for at in (*range(3 * len(whole) // 24), *range(len(whole) - 30, len(whole))):
        other = bytearray(whole)
        other[at] = change(other[at])
        if bytes(other).count(b'"removed":false') < 24:
            # Under another name it is a member that nobody reads, here and there.
            agree(bytes(other), layouts=layouts)
            continue
        found = in_columns(bytes(other), layouts=layouts)
        assert found is None or found.plain() != plain, whole[at - 30 : at + 1]


def test_layouts_are_learned_once() -> None:
    layouts = Layouts(LOG_FORM)
    in_columns(written(some()), layouts=layouts)
    known = {length: list(some) for length, some in layouts._known.items()}
    in_columns(written(some()), layouts=layouts)
    assert {length: list(some) for length, some in layouts._known.items()} == known
    assert learn(b"{}", LOG_FORM) is None
    assert learn(b"", LOG_FORM) is None


def test_a_narrower_filter_here() -> None:
    logs = some(60)
    columns = in_columns(written(logs))
    assert columns is not None
    plain = columns.plain()
    for wanted in (LogFilter((ADDRESSES[1],)), LogFilter(None, ((TOPICS[0],),)), LogFilter(("0x" + "99" * 20,))):
        only = columns.only(wanted)
        assert only is not None
        kept = select(list(plain.logs), wanted)
        bearing = {log.block_number for log in kept}
        assert only.logs() == kept
        assert only.hashes() == {number: plain.hashes[number] for number in bearing}
        assert only.times() == {number: plain.times[number] for number in bearing}
    assert columns.only(LogFilter(None, (None, (TOPICS[1],)))) is None


def test_some_of_the_logs_as_objects() -> None:
    columns = in_columns(written(some()))
    assert columns is not None
    assert columns.logs(np.array([3, 17, 39])) == [columns.logs()[row] for row in (3, 17, 39)]
    assert columns.logs(np.array([], dtype=np.int64)) == []


def test_small_answers_are_left_to_the_plain_way() -> None:
    assert column_reader.read(written(some(4)), FIRST, LAST, LogFilter(), Layouts(LOG_FORM)) is None
    assert column_reader.read(written(some(60)), FIRST, LAST, LogFilter(), Layouts(LOG_FORM)) is not None
