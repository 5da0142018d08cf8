"""Lines of a portal read in columns: exactly what reading them log by log makes of them, or left to that."""

import json
from random import Random
from typing import Any

import pytest

from indexer.chain.portal import lines as portal_lines
from indexer.chain.portal.lines import LineReader, Lines, is_whole
from indexer.chain.records.errors import AnswerError
from indexer.chain.records.log_columns import LogColumns
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.validation import CheckedLogs

ADDRESSES = ["0x" + f"{n:040x}" for n in (0xA1, 0xB2)]
TOPICS = ["0x" + f"{n:064x}" for n in (0xDDF252AD << 200, 7, 0xFACE << 100)]
FIRST, LAST = 95, 1_105
ANY = (LogFilter(),)


def hash_of(number: int) -> str:
    return f"0x{number * 7 + 1:064x}"


def line(number: int, logs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    header = {"number": number, "hash": hash_of(number), "parentHash": hash_of(number - 1), "timestamp": 1_600_000_000}
    return {"header": header, **({} if logs is None else {"logs": logs})}


def log(index: int, random: Random) -> dict[str, Any]:
    return {
        "logIndex": index,
        "transactionIndex": index // 2,
        "transactionHash": f"0x{random.getrandbits(256):064x}",
        "address": random.choice(ADDRESSES),
        "topics": TOPICS[: random.randrange(4)],
        "data": "0x" + "ab" * 32 * random.randrange(3),
    }


def some(seed: int = 1) -> list[dict[str, Any]]:
    """The ends, and blocks with logs; numbers and indexes of several widths."""
    random = Random(seed)
    inner = sorted(random.sample(range(FIRST + 1, LAST), 40))
    made = [line(number, [log(i * 7, random) for i in range(random.randrange(1, 20))]) for number in inner]
    return [line(FIRST), *made, line(LAST, [] if seed % 2 else None)]


def written(some_lines: list[dict[str, Any]], **how: Any) -> bytes:
    return b"".join(json.dumps(one, separators=(",", ":"), **how).encode() + b"\n" for one in some_lines)


def plainly(text: bytes, filters: tuple[LogFilter, ...] = ANY) -> Lines:
    return portal_lines._plainly(text, FIRST, LAST, filters)


def plain_logs(found: Lines) -> CheckedLogs:
    return found.read if isinstance(found.read, CheckedLogs) else found.read.plain()


@pytest.mark.parametrize("seed", range(4))
def test_lines_are_read_in_columns(seed: int) -> None:
    text = written(some(seed))
    reader = LineReader()
    for _ in range(2):  # the second time with the layouts known
        found = reader.read(text, FIRST, LAST, ANY, few=0)
        plain = plainly(text)
        assert isinstance(found.read, LogColumns)
        assert found.read.logs() == plain_logs(plain).logs
        assert found.read.hashes() == plain_logs(plain).hashes
        assert found.headers.items() == plain.headers.items()
        assert (found.parents == plain.parents).all()


def test_other_ways_to_write_json_are_read_log_by_log() -> None:
    text = written(some())
    wanted = plain_logs(plainly(text)).logs
    turned = [{name: one[name] for name in reversed(one)} for one in some()]
    for other in (text.replace(b'"logs":[', b'"transactions":[],"logs":['), written(turned),
                  text.replace(b":", b": "), text.replace(b"\n", b"\n\n")):  # fmt: skip
        found = LineReader().read(other, FIRST, LAST, ANY, few=0)
        assert isinstance(found.read, CheckedLogs)
        assert found.read.logs == wanted


@pytest.mark.parametrize("seed", range(80))
def test_a_changed_byte_is_never_overlooked(seed: int) -> None:
    """What is read of damaged lines is what they say plainly, or they are refused."""
    random = Random(seed)
    text = bytearray(written(some()[:12]))
    at = random.randrange(len(text))
    text[at] = random.choice(b'0123456789abcdefgx"{}[],:\n ')
    try:
        found = LineReader().read(bytes(text), FIRST, LAST, ANY, few=0)
    except AnswerError:
        return
    assert plain_logs(found).logs == plain_logs(plainly(bytes(text))).logs
    assert found.headers.items() == plainly(bytes(text)).headers.items()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda some: some[1:], "begins with block"),
        (lambda some: [*some, line(LAST + 1)], "were answered with block"),
        (lambda some: [some[0], line(FIRST + 1, None) | {"header": {**line(FIRST + 1)["header"],
                       "parentHash": hash_of(5)}}], "is not the child"),
        (lambda some: [*some, some[-1]], "came twice|not in order"),
        (lambda some: [], "there is none"),
    ],
)  # fmt: skip
def test_lines_that_contradict_the_question_are_refused(change: Any, message: str) -> None:
    with pytest.raises(AnswerError, match=message):
        LineReader().read(written(change(some())) or b"\n", FIRST, LAST, ANY)


@pytest.mark.parametrize("few", [0, 10_000])
@pytest.mark.parametrize("asked", [LogFilter((ADDRESSES[0],)), LogFilter(None, ((TOPICS[0],),)),
                                   LogFilter(None, (None, (TOPICS[1],)))])  # fmt: skip
def test_a_log_that_was_not_asked_for_is_refused(asked: LogFilter, few: int) -> None:
    text = written(some())
    with pytest.raises(AnswerError, match="not asked for"):
        LineReader().read(text, FIRST, LAST, (asked,), few=few)
    others = (LogFilter((ADDRESSES[1],)), LogFilter((ADDRESSES[0],)))
    found = LineReader().read(text, FIRST, LAST, others, few=few)
    assert plain_logs(found).logs == plain_logs(plainly(text)).logs


def test_only_a_whole_object_is_a_line() -> None:
    whole = written([some()[1]]).strip()
    assert is_whole(whole)
    assert not any(is_whole(whole[:size]) for size in range(0, len(whole), 7))
