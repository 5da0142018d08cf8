"""Many logs of one event at once: decoding them as columns, and telling which a declaration of other indexes explains.

Events whose arguments are one word each are decoded as columns of numpy arrays. :class:`BatchDecoder` says of every log
whether it bears the event's shape, by the same rules as the generated decoder (:mod:`indexer.abi.codegen`), and gives
no reason: those that do not go to that decoder, which does. Events with dynamic values, arrays or tuples have no batch
decoder.

The first topic is the hash of an event's name and types, and says nothing of which arguments are indexed. So a token's
``Transfer(address,address,uint256)`` may be an ERC-20's, with the amount in the data, or an ERC-721's, with all three
arguments as topics: a *foreign shape*. How many topics a log has tells them apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from indexer.abi.model import Event
from indexer.abi.types import WORD, Elementary, Parameter

Octets: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]

_LIMB = 4
_SMALL_BITS = 64
_SIGN_BIT = 0x80

#: Arguments of an event that is not anonymous that can be topics.
_MOST_INDEXED: Final = 3


@dataclass(frozen=True, slots=True)
class Wide:
    """Integers that no machine word holds.

    Attributes:
        limbs: of their magnitudes, 32 bits each, the most significant first: shape (logs, 8), uint32.
        negative: which of them are below zero, shape (logs,); None: none can be.
    """

    limbs: NDArray[np.uint32]
    negative: Mask | None


Values: TypeAlias = NDArray[Any] | Wide
"""One argument of many logs: uint8 of shape (logs, bytes) for addresses, bytesN and hashes; int64 for integers that fit
into 64 bits with their sign; bool; :class:`Wide` for all other integers."""

Check: TypeAlias = Callable[[Octets], Mask | None]
"""Which words, of shape (logs, 32), an argument may have; None: any."""
_Reader: TypeAlias = Callable[[Octets], Values]


class BatchDecoder:
    """The batch decoder of one event.

    Attributes:
        event: the event.
        indexed: how many of its arguments are topics.
        data_size: the bytes of data that a log in a batch has.
    """

    def __init__(self, event: Event, readers: Sequence[tuple[_Reader, Check]]) -> None:
        self.event = event
        self.indexed = len(event.indexed)
        self.data_size = WORD * (len(event.inputs) - self.indexed)
        self._readers = readers

    def decode(self, topics: Sequence[Octets], data: Octets) -> tuple[list[Values], Mask]:
        """Decodes logs that have the right number of topics and bytes of data.

        Args:
            topics: for each indexed argument, of shape (logs, 32).
            data: of shape (logs, ``data_size``).

        Returns:
            The arguments in the ABI's order, and which logs have the event's shape; the values of the others mean
            nothing.
        """
        good: Mask = np.ones(len(data), dtype=np.bool_)
        columns: list[Values] = []
        position, indexed = 0, iter(topics)
        for parameter, (read, check) in zip(self.event.inputs, self._readers, strict=True):
            if parameter.indexed:
                word = next(indexed)
            else:
                word = data[:, position : position + WORD]
                position += WORD
            columns.append(read(word))
            if (fits := check(word)) is not None:
                good &= fits
        return columns, good


def compile_batch(event: Event) -> BatchDecoder | None:
    """Makes the batch decoder of an event, or None where an argument is more than a word."""
    readers: list[tuple[_Reader, Check]] = []
    for parameter in event.inputs:
        check = word_check(parameter)
        if check is None:
            return None
        readers.append((_reader(parameter), check))
    return BatchDecoder(event, readers)


def word_check(parameter: Parameter) -> Check | None:  # noqa: PLR0911 - one for each kind
    """What says which words an argument may have; None: the argument is more than one word."""
    of = parameter.type
    if parameter.is_hashed:
        return _any
    if not isinstance(of, Elementary):
        return None
    match of.kind:
        case "address":
            return lambda word: _empty(word, 0, 12)
        case "bool":
            return lambda word: _empty(word, 0, WORD - 1) & (word[:, WORD - 1] <= 1)
        case "bytesN" | "function":
            return lambda word: _empty(word, of.size, WORD)
        case "uint" if of.size < 8 * WORD:
            return lambda word: _empty(word, 0, WORD - of.size // 8)
        case "int" if of.size < 8 * WORD:
            return lambda word: _extended(word, WORD - of.size // 8)
        case "uint" | "int":
            return _any
        case _:
            return None


def _reader(parameter: Parameter) -> _Reader:
    """What reads an argument that is one word."""
    of = parameter.type
    if parameter.is_hashed:
        return lambda word: word
    assert isinstance(of, Elementary)
    match of.kind:
        case "address":
            return lambda word: word[:, 12:]
        case "bool":
            return lambda word: word[:, WORD - 1] == 1
        case "uint":
            return _low if of.size < _SMALL_BITS else lambda word: Wide(_limbs(word), None)
        case "int":
            return _low if of.size <= _SMALL_BITS else lambda word: _signed(word, WORD - of.size // 8)
        case _:
            return lambda word: word[:, : of.size]


def _any(_: Octets) -> Mask | None:
    return None


def _extended(word: Octets, padding: int) -> Mask:
    """Where every bit above the number's own, in so many bytes, is its sign."""
    return np.where(word[:, padding] >= _SIGN_BIT, _full(word, 0, padding), _empty(word, 0, padding))


def _signed(word: Octets, padding: int) -> Values:
    negative = word[:, padding] >= _SIGN_BIT
    limbs = _limbs(word)
    # The magnitude of a negative number: all bits turned over, and one added, which carries while limbs are zero.
    limbs[negative] = ~limbs[negative]
    carry = negative.copy()
    for limb in range(limbs.shape[1] - 1, -1, -1):
        limbs[carry, limb] += np.uint32(1)
        carry &= limbs[:, limb] == 0
    return Wide(limbs, negative)


def _low(word: Octets) -> NDArray[np.int64]:
    """The low 64 bits as signed integers."""
    low: NDArray[np.int64] = np.ascontiguousarray(word[:, WORD - 8 :]).view(">i8")[:, 0].astype(np.int64)
    return low


def _limbs(word: Octets) -> NDArray[np.uint32]:
    limbs: NDArray[np.uint32] = np.ascontiguousarray(word).view(">u4").astype(np.uint32)
    return limbs


def _empty(word: Octets, start: int, stop: int) -> Mask:
    """Where the bytes from start to stop are all zero."""
    empty: Mask = _folded(word, start, stop, np.bitwise_or) == 0
    return empty


def _full(word: Octets, start: int, stop: int) -> Mask:
    """Where they are all 0xff."""
    full: Mask = _folded(word, start, stop, np.bitwise_and) == 0xFF
    return full


def _folded(word: Octets, start: int, stop: int, fold: np.ufunc) -> Octets:
    """All bytes from start to stop in one. Column by column: a reduction along rows this short is ten times slower."""
    if stop - start >= 2 * _LIMB:
        whole = (stop - start) // _LIMB * _LIMB
        limbs = np.ascontiguousarray(word[:, start : start + whole]).view(np.uint32)
        folded = limbs[:, 0].copy()
        for limb in range(1, limbs.shape[1]):
            fold(folded, limbs[:, limb], out=folded)
        octets = folded.view(np.uint8).reshape(-1, _LIMB)
        columns = [octets[:, i] for i in range(_LIMB)] + [word[:, i] for i in range(start + whole, stop)]
    else:
        columns = [word[:, i] for i in range(start, stop)]
    result: Octets = columns[0].copy() if columns else np.zeros(len(word), np.uint8)
    for column in columns[1:]:
        fold(result, column, out=result)
    return result


class ForeignShapes:
    """Tells which logs with an event's first topic have a foreign shape.

    Such a log has another number of topics than the event, is as long as the event's types make it with so many
    arguments indexed, and every word fits its argument for some choice of these. All arguments are one word each: no
    more than the hash of a dynamic one. A log that has as many topics as the event has none of these shapes, whatever
    is in it.
    """

    def __init__(self, event: Event) -> None:
        """Prepares for an event that is not anonymous."""
        assert not event.anonymous, "its first topic may be anything"
        self._declared = len(event.indexed)
        self._count = len(event.inputs)
        self._checks: list[tuple[Check | None, Check | None]] = [
            (word_check(replace(one, indexed=True)), word_check(replace(one, indexed=False))) for one in event.inputs
        ]

    def may_be(self, topics: int, data_size: int) -> bool:
        """Whether logs with so many topics (the first included) and bytes of data can have a foreign shape."""
        indexed = topics - 1
        return (
            indexed != self._declared
            and 0 <= indexed <= min(self._count, _MOST_INDEXED)
            and data_size == WORD * (self._count - indexed)
        )

    def fits(self, topics: Octets, data: Octets) -> Mask:
        """Which logs have a foreign shape.

        Args:
            topics: of shape (logs, topics, 32), the first topic included.
            data: of shape (logs, bytes).
        """
        none: Mask = np.zeros(len(data), dtype=np.bool_)
        if not self.may_be(topics.shape[1], data.shape[1]):
            return none
        indexed = topics.shape[1] - 1
        unindexed = self._count - indexed
        # By how many of the arguments so far are topics: the logs whose words fit for some choice of these.
        fitting: dict[int, Mask] = {0: ~none}
        for position, (as_topic, as_data) in enumerate(self._checks):
            following: dict[int, Mask] = {}
            for taken, so_far in fitting.items():
                if taken < indexed and as_topic is not None:
                    _add(following, taken + 1, so_far, as_topic(topics[:, 1 + taken]))
                at = position - taken
                if at < unindexed and as_data is not None:
                    _add(following, taken, so_far, as_data(data[:, WORD * at : WORD * (at + 1)]))
            fitting = following
        return fitting.get(indexed, none)

    def fit(self, logs: Sequence[tuple[Sequence[bytes], bytes]]) -> list[bool]:
        """Whether logs have a foreign shape.

        Args:
            logs: the topics, 32 bytes each, and the data of each.
        """
        alike: dict[int, list[int]] = {}
        for position, (topics, data) in enumerate(logs):
            if self.may_be(len(topics), len(data)):
                alike.setdefault(len(topics), []).append(position)
        found = [False] * len(logs)
        for count, positions in alike.items():
            words = np.frombuffer(b"".join(topic for at in positions for topic in logs[at][0]), np.uint8)
            octets = np.frombuffer(b"".join(logs[at][1] for at in positions), np.uint8)
            fits = self.fits(words.reshape(len(positions), count, WORD), octets.reshape(len(positions), -1))
            for at, one in zip(positions, fits.tolist(), strict=True):
                found[at] = one
        return found


def _add(following: dict[int, Mask], taken: int, so_far: Mask, fits: Mask | None) -> None:
    mask = so_far if fits is None else so_far & fits
    following[taken] = following[taken] | mask if taken in following else mask
