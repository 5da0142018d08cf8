"""What logs have in common that were read by layout: their kinds, their topics and data, what a filter asks for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.chain.records.log_columns import Alike, Integers, Kind, Octets, cut, topics_of
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.text_layout import Group, require
from indexer.chain.records.validation import matcher

# Odd numbers, by which the words of a key are summed up to one; that two keys have one sum is noticed.
_ODD = np.array([(0x9E3779B97F4A7C15 * (2 * i + 1) * (i + 3) | 1) % 2**64 for i in range(8)], dtype=np.uint64)


def kinds_of(groups: Sequence[Group], count: int) -> tuple[Integers, list[Kind]]:
    """The kinds of logs.

    Args:
        groups: all logs; the address is the first of their form's octets.
        count: how many logs there are.

    Returns:
        For each log the number of its kind, and the kinds.
    """
    # The address, whether there are topics, and the first of them.
    keys = np.zeros((count, 56), dtype=np.uint8)
    for group in groups:
        at = 32 * group.layout.topics + group.layout.data
        keys[group.rows, :20] = group.octets[:, at : at + 20]
        if group.layout.topics:
            keys[group.rows, 20] = 1
            keys[group.rows, 24:] = group.octets[:, :32]
    kinds, samples = _distinct(keys)
    return kinds, [("0x" + key[:20].hex(), "0x" + key[24:].hex() if key[20] else None) for key in cut(keys[samples])]


def _distinct(keys: Octets) -> tuple[Integers, Integers]:
    """Tells equal rows from others.

    Args:
        keys: of shape (rows, bytes), a multiple of eight bytes, at most 64.

    Returns:
        For each row the number of its value, and for each value a row that has it.
    """
    words = keys.view(np.uint64)
    if bool((words == words[0]).all()):
        return np.zeros(len(keys), dtype=np.int64), np.zeros(1, dtype=np.int64)
    sums = words[:, 0] * _ODD[0]
    for position in range(1, words.shape[1]):
        sums ^= sums >> np.uint64(29)
        sums += words[:, position] * _ODD[position]
    _, samples, places = np.unique(sums, return_index=True, return_inverse=True)
    places = places.reshape(-1)
    require(bool((words[samples[places]] == words).all()))
    return places, samples


def alike_of(groups: Sequence[Group], count: int) -> list[Alike]:
    """The topics and data of logs, by how many topics and how much data they have."""
    shapes: dict[tuple[int, int], list[Group]] = {}
    for group in groups:
        shapes.setdefault((group.layout.topics, group.layout.data), []).append(group)
    place = np.empty(count, dtype=np.int64)
    alike = []
    for (topics, data), members in shapes.items():
        rows = np.sort(np.concatenate([group.rows for group in members]))
        place[rows] = np.arange(len(rows))
        words = np.empty((len(rows), 32 * topics + data), dtype=np.uint8)
        for group in members:
            words[place[group.rows]] = group.octets[:, : words.shape[1]]
        alike.append(Alike(rows, words[:, : 32 * topics].reshape(len(rows), topics, 32), words[:, 32 * topics :]))
    return alike


def asked_for(kinds: Integers, names: Sequence[Kind], alike: Sequence[Alike], asked: LogFilter) -> NDArray[np.bool_]:
    """Which logs a filter asks for.

    Args:
        kinds: of the logs, indexes into ``names``.
        names: the kinds.
        alike: their topics and data.
        asked: the filter.
    """
    matches = matcher(LogFilter(asked.addresses, asked.topics[:1]))
    fits = np.array([matches(name[0], topics_of(name)) for name in names], dtype=np.bool_)[kinds]
    for position, values in enumerate(asked.topics[1:], 1):
        if values is None:
            continue
        for group in alike:
            if position >= group.topics.shape[1]:
                fits[group.rows] = False
                continue
            places, samples = _distinct(np.ascontiguousarray(group.topics[:, position]))
            wanted = [("0x" + topic.hex()) in values for topic in cut(group.topics[samples, position])]
            fits[group.rows] &= np.array(wanted, dtype=np.bool_)[places]
    return fits
