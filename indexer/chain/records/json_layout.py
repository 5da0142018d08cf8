"""How one log of an answer is laid out, byte by byte, so that all others like it can be read as columns of bytes.

Nodes write every log of an answer in one manner: the same members in the same order, no blanks, lower-case hex. What
differs from log to log is a few widths (the digits of ``logIndex``, the number of topics, the length of ``data``). A
layout is learned from one log's text by a strict grammar; whatever that does not know has no layout, and the whole
answer is read the plain way (:func:`indexer.chain.records.validation.check_logs`), which knows all of JSON.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Octets = NDArray[np.uint8]
Span = tuple[int, int]
"""Where hex digits begin in a log's text, and how many they are."""

_MEMBER = re.compile(
    rb'"(?P<name>[A-Za-z][A-Za-z0-9]*)":'
    rb'(?:"0x(?P<hex>[0-9a-f]*)"|(?P<word>null|false)|\[(?P<list>(?:"0x[0-9a-f]{64}"(?:,"0x[0-9a-f]{64}"){0,3})?)\])'
    rb"(?P<end>[,}])"
)
# An item of ``topics``: quotes, 0x and digits; behind it a comma or the bracket.
_TOPIC = len('"0x","') - len('"') + 64
_WIDTHS = {"address": 40, "blockHash": 64, "transactionHash": 64}
_QUANTITIES = ("blockNumber", "transactionIndex", "logIndex", "blockTimestamp")
_READ = {*_WIDTHS, *_QUANTITIES, "data"}
# So many digits fit into 64 bits with a sign.
_MOST_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which logs are written. Spans are relative to the log's opening brace.

    Attributes:
        length: of the log's text.
        text: a log so written, of shape (length,).
        fixed: 255 where every log so written has the byte of ``text``, 0 where it has a hex digit.
        topics: how many there are.
        data: the bytes of ``data``.
        pairs: even spans: the topics, the data, the address, the transaction's hash, the block's hash, then members
            that are not read.
        quantities: block number, transaction index, log index, and the time, which may be missing.
        unread: odd spans of members that are not read.
    """

    length: int
    text: Octets
    fixed: Octets
    topics: int
    data: int
    pairs: tuple[Span, ...]
    quantities: tuple[Span, ...]
    unread: tuple[Span, ...]


def learn(text: bytes) -> Layout | None:
    """The layout of a log's text, or None where the grammar does not hold.

    Args:
        text: from the opening brace to the closing one.
    """
    spans: dict[str, Span] = {}
    topics: list[Span] | None = None
    others: list[Span] = []
    for member in _members(text):
        name = member["name"].decode() if member else ""
        if member is None or not _is_ordinary(name, member):
            return None
        span = member.start("hex"), len(member["hex"] or "")
        if name == "topics":
            start = member.start("list") + len('"0x')
            topics = [(start + i * _TOPIC, 64) for i in range((len(member["list"]) + 1) // _TOPIC)]
        elif name in _READ:
            spans[name] = span
        else:
            others.append(span)
    if topics is None or not _complete(spans):
        return None
    pairs = [*topics, *(spans[name] for name in ("data", "address", "transactionHash", "blockHash"))]
    pairs += [span for span in others if span[1] % 2 == 0]
    quantities = [spans[name] for name in _QUANTITIES if spans[name][1]]
    unread = [span for span in others if span[1] % 2]
    fixed = np.full(len(text), 255, dtype=np.uint8)
    for start, size in (*pairs, *quantities, *unread):
        fixed[start : start + size] = 0
    return Layout(
        length=len(text),
        text=np.frombuffer(text, np.uint8),
        fixed=fixed,
        topics=len(topics),
        data=spans["data"][1] // 2,
        pairs=tuple(pairs),
        quantities=tuple(quantities),
        unread=tuple(unread),
    )


def _members(text: bytes) -> Iterator[re.Match[bytes] | None]:
    """The members of an object, each of another name; None where it is none, and the end of it."""
    seen: set[bytes] = set()
    at = 1 if text.startswith(b"{") else len(text) + 1
    while at != len(text):
        member = _MEMBER.match(text, at)
        if member is None or member["name"] in seen or (member["end"] == b"}") != (member.end() == len(text)):
            yield None
            return
        seen.add(member["name"])
        at = member.end()
        yield member


def _is_ordinary(name: str, member: re.Match[bytes]) -> bool:
    """Whether a member is of the kind that it should be; only a time, ``removed`` and what is not read may be null."""
    if name == "topics" or member["list"] is not None:
        return name == "topics" and member["list"] is not None
    if name == "removed":
        return member["hex"] is None
    return member["hex"] is not None or (name == "blockTimestamp" and member["word"] == b"null") or name not in _READ


def _complete(spans: dict[str, Span]) -> bool:
    """Whether all is there that is needed, and of the right length. A time that is missing has no digits."""
    spans.setdefault("blockTimestamp", (0, 0))
    return (
        spans.keys() == _READ
        and all(spans[name][1] == width for name, width in _WIDTHS.items())
        and all(0 < spans[name][1] <= _MOST_DIGITS for name in _QUANTITIES[:3])
        and spans["blockTimestamp"][1] <= _MOST_DIGITS
        and spans["data"][1] % 2 == 0
    )
