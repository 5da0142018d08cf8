"""How flat JSON objects are written, learned from one of them, and many of them read at once as columns.

A program writes all objects of a kind in one manner: the same members in the same order, no blanks, lower-case hex.
What differs is a few widths (the digits of a number, how many topics there are, the length of ``data``). A
:class:`Layout` is learned from one object's text by a strict grammar. Then every byte of the others is looked at: it is
part of a layout that stands there in full, or a digit. What does not fit raises :class:`PlainWayError`: a reader that
knows all of JSON finds out what it is.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from indexer.chain.records.log_columns import Integers, Octets

Span = tuple[int, int]
"""Where digits begin in an object's text, and how many they are."""

_MEMBER = re.compile(
    rb'"(?P<name>[A-Za-z][A-Za-z0-9]*)":'
    rb'(?:"0x(?P<hex>[0-9a-f]*)"|(?P<number>0|[1-9][0-9]*)|(?P<word>null|false)'
    rb'|\[(?P<list>(?:"0x[0-9a-f]{64}"(?:,"0x[0-9a-f]{64}"){0,3})?)\])'
    rb"(?P<end>[,}])"
)
# An item of ``topics``: quotes, 0x and digits; behind it a comma or the bracket.
_TOPIC = len('"0x","') - len('"') + 64
# So many digits fit into 64 bits with a sign.
_MOST_DIGITS = 15
# Layouts are few: one for each event and each width of its numbers. More than this, and they are learned anew.
_MOST_LAYOUTS = 2_000
# Rows at a time: what one step leaves is still in the processor's cache for the next.
_STEP = 1_024


class PlainWayError(Exception):
    """Something is out of the ordinary."""


def require(holds: bool | np.bool_) -> None:
    """Raises PlainWayError where something does not hold."""
    if not holds:
        raise PlainWayError


@dataclass(frozen=True)
class Form:
    """What is read of an object.

    Attributes:
        octets: members that are hex, with their number of digits; the order is that of the columns.
        quantities: members that are numbers, likewise.
        optional: those quantities that may be missing or null; they are the last.
        base: of the quantities: 16 with quotes and ``0x``, or 10 without.
        bears: whether it has ``topics`` and ``data``, whose columns go before all others.
    """

    octets: Mapping[str, int]
    quantities: tuple[str, ...]
    optional: frozenset[str] = frozenset()
    base: int = 16
    bears: bool = True


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which objects are written. Spans are relative to the opening brace.

    Attributes:
        length: of the text.
        text: an object so written, of shape (length,).
        fixed: 255 where every object so written has the byte of ``text``, 0 where it has a digit.
        base: of the quantities.
        topics: how many there are.
        data: the bytes of ``data``.
        pairs: even spans of hex: the topics, the data, the form's other members, then members that are not read.
        quantities: the form's, but for those that are missing.
        unread: odd spans of members that are not read.
    """

    length: int
    text: Octets
    fixed: Octets
    base: int
    topics: int
    data: int
    pairs: tuple[Span, ...]
    quantities: tuple[Span, ...]
    unread: tuple[Span, ...]


def learn(text: bytes, form: Form) -> Layout | None:
    """The layout of an object's text, or None where the grammar does not hold.

    Args:
        text: from the opening brace to the closing one.
        form: what is read of it.
    """
    spans: dict[str, Span] = {}
    topics: list[Span] | None = None
    others: list[Span] = []
    for member in _members(text):
        name = member["name"].decode() if member else ""
        if member is None or not _is_ordinary(name, member, form):
            return None
        if member["number"] is not None:
            spans[name] = member.start("number"), len(member["number"])
        elif name == "topics" and form.bears:
            start = member.start("list") + len('"0x')
            topics = [(start + i * _TOPIC, 64) for i in range((len(member["list"]) + 1) // _TOPIC)]
        else:
            span = member.start("hex"), len(member["hex"] or "")
            if name in form.octets or name in form.quantities or (name == "data" and form.bears):
                spans[name] = span
            else:
                others.append(span)
    if (topics is None) is form.bears or not _complete(spans, form):
        return None
    pairs = [*(topics or ()), *([spans["data"]] if form.bears else ()), *(spans[name] for name in form.octets)]
    pairs += [span for span in others if span[1] % 2 == 0]
    quantities = [spans[name] for name in form.quantities if spans[name][1]]
    unread = [span for span in others if span[1] % 2]
    fixed = np.full(len(text), 255, dtype=np.uint8)
    for start, size in (*pairs, *quantities, *unread):
        fixed[start : start + size] = 0
    return Layout(
        length=len(text),
        text=np.frombuffer(text, np.uint8),
        fixed=fixed,
        base=form.base,
        topics=len(topics or ()),
        data=spans["data"][1] // 2 if form.bears else 0,
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


def _is_ordinary(name: str, member: re.Match[bytes], form: Form) -> bool:
    """Whether a member is of the kind that it should be.

    Only an optional quantity, ``removed`` and what is not read may be null.
    """
    if (name == "topics" and form.bears) or member["list"] is not None:
        return name == "topics" and member["list"] is not None
    if name in form.quantities and form.base == 10:
        return member["number"] is not None
    if member["number"] is not None:
        return False
    if name == "removed":
        return member["hex"] is None
    is_read = name in form.octets or name in form.quantities or name == "data"
    return member["hex"] is not None or (name in form.optional and member["word"] == b"null") or not is_read


def _complete(spans: dict[str, Span], form: Form) -> bool:
    """Whether all is there that is needed, and of the right length. A quantity that is missing has no digits."""
    for name in form.optional:
        spans.setdefault(name, (0, 0))
    return (
        spans.keys() == {*form.octets, *form.quantities, *(("data",) if form.bears else ())}
        and all(spans[name][1] == width for name, width in form.octets.items())
        and all(
            (name in form.optional or spans[name][1]) and spans[name][1] <= _MOST_DIGITS for name in form.quantities
        )
        and (not form.bears or spans["data"][1] % 2 == 0)
    )


@dataclass(slots=True)
class Layouts:
    """The layouts seen so far of one form, by length: those of one chain's nodes. Safe to share between threads."""

    form: Form
    _known: dict[int, list[Layout]] = field(default_factory=dict)
    _count: int = 0

    def of(self, text: Octets) -> Layout | None:
        """The layout of an object's text; None where it has none."""
        for layout in self._known.get(len(text), ()):
            if not ((text ^ layout.text) & layout.fixed).any():
                return layout
        learned = learn(text.tobytes(), self.form)
        if learned is not None:
            if self._count >= _MOST_LAYOUTS:
                self._known, self._count = {}, 0
            self._known.setdefault(len(text), []).append(learned)
            self._count += 1
        return learned


@dataclass(slots=True)
class Group:
    """Objects of one layout: which, their hex as bytes (objects, bytes), their quantities in the layout's order."""

    layout: Layout
    rows: Integers
    octets: Octets
    quantities: list[Integers]


def groups(text: Octets, starts: Integers, lengths: Integers, layouts: Layouts, few: int) -> Iterator[Group]:
    """All objects of a text, by layout.

    Args:
        text: whole.
        starts: of the objects' opening braces.
        lengths: of the objects.
        layouts: seen so far; new ones are added.
        few: objects of each length, on average, that are worth it.

    Raises:
        PlainWayError: an object has no layout, or the lengths are too many.
    """
    present = np.unique(lengths)
    require(len(present) * few <= len(starts))
    for length in present.tolist():
        rows = np.flatnonzero(lengths == length)
        window: NDArray[np.void] = np.ndarray((len(text) - length + 1,), f"V{length}", text, strides=(1,))
        while len(rows):
            layout = layouts.of(text[starts[rows[0]] : starts[rows[0]] + length])
            if layout is None:
                raise PlainWayError
            others = []
            for step in range(0, len(rows), _STEP):
                part = rows[step : step + _STEP]
                objects: Octets = window[starts[part]].view(np.uint8).reshape(len(part), length)
                differing = (objects ^ layout.text) & layout.fixed
                if np.bitwise_or.reduce(differing, axis=0).any():
                    fits = ~differing.any(axis=1)
                    others.append(part[~fits])
                    part, objects = part[fits], objects[fits]
                if len(part):
                    yield _group(layout, part, objects)
            rows = np.concatenate(others) if others else rows[:0]


def _group(layout: Layout, rows: Integers, objects: Octets) -> Group:
    pairs = _digits(np.concatenate([objects[:, at : at + size] for at, size in layout.pairs], axis=1), 16)
    both = pairs.view("<u2")
    octets = ((both << 4) | (both >> 8)).astype(np.uint8)
    quantities = []
    for at, size in layout.quantities:
        digits = _digits(objects[:, at : at + size].T, layout.base).astype(np.int64)
        value = digits[0]
        for digit in digits[1:]:
            value = value * layout.base + digit
        quantities.append(value)
    for at, size in layout.unread:
        _digits(objects[:, at : at + size], 16)
    return Group(layout, rows, octets, quantities)


def _digits(signs: Octets, base: int) -> Octets:
    """The values of digits, lower-case where they are hex; anything else is out of the ordinary."""
    values = signs - np.uint8(ord("0"))
    if base == 16:
        letters = values > 9
        values -= letters.view(np.uint8) * np.uint8(ord("a") - 10 - ord("0"))
        require(not values.size or (values.max() <= 15 and bool(((values > 9) == letters).all())))
    else:
        require(not values.size or values.max() < base)
    return values
