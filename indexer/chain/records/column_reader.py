"""Logs in columns, straight from the bytes of an answer to ``eth_getLogs``: no object is made for any of them.

JSON and the checks of an answer under the interpreter's lock cost more than all else in a backfill. Here both are done
for many logs at once, with numpy, which works without that lock, by the layouts in which nodes write logs
(:mod:`indexer.chain.records.text_layout`). All checks of :func:`indexer.chain.records.validation.check_logs` are made.
Where anything is out of the ordinary (a log without a layout, another order of logs, a log that was not asked for, one
that was removed, blanks, capitals) the answer is not judged here: :func:`read` says None, and ``check_logs``, which
knows all of JSON, finds out what it is.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from indexer.chain.records import text_layout
from indexer.chain.records.log_columns import Integers, LogColumns, Octets
from indexer.chain.records.log_filter import LogFilter
from indexer.chain.records.log_groups import alike_of, asked_for, kinds_of
from indexer.chain.records.messages import LATEST_SECOND
from indexer.chain.records.text_layout import Form, Layouts, PlainWayError, require
from indexer.chain.records.validation import LATEST_INDEX

LOG_FORM: Final = Form(
    octets={"address": 40, "transactionHash": 64, "blockHash": 64},
    quantities=("blockNumber", "transactionIndex", "logIndex", "blockTimestamp"),
    optional=frozenset({"blockTimestamp"}),
)
"""A log as ``eth_getLogs`` gives it."""

# Below this the plain way is as fast.
_SMALL = 8_192
# Fewer logs of one length than this, on average, and columns do not pay.
_FEW = 4

_BRACE, _COMMA, _OPEN, _CLOSE = (ord(sign) for sign in "{,[]")


def read(
    answer: bytes | memoryview,
    first: int,
    last: int,
    asked: LogFilter,
    layouts: Layouts,
    *,
    least: int = _SMALL,
    few: int = _FEW,
) -> LogColumns | None:
    """Reads and checks the result of an ``eth_getLogs``.

    Args:
        answer: the list's JSON, without blanks around it.
        first: the first block asked for.
        last: the last block asked for.
        asked: the filter that was sent.
        layouts: seen so far; new ones are added.
        least: bytes of an answer that is worth it.
        few: logs of each length, on average, that are worth it.

    Returns:
        The logs; None where they are few, or anything about them is out of the ordinary.
    """
    if len(answer) < least:
        return None
    try:
        return _read(np.frombuffer(answer, np.uint8), first, last, asked, layouts, few)
    except PlainWayError:
        return None


def _read(text: Octets, first: int, last: int, asked: LogFilter, layouts: Layouts, few: int) -> LogColumns:
    starts = np.flatnonzero(text == _BRACE)
    require(len(starts) > 0 and text[0] == _OPEN and text[-1] == _CLOSE and starts[0] == 1)
    require(bool((text[starts[1:] - 1] == _COMMA).all()))
    # Behind each log a comma, behind the last the bracket.
    groups = list(text_layout.groups(text, starts, np.diff(starts, append=len(text)) - 1, layouts, few))
    count = sum(len(group.rows) for group in groups)
    numbers, tx_indexes, log_indexes = (np.empty(count, dtype=np.int64) for _ in range(3))
    times = np.full(count, -1, dtype=np.int64)
    tx_hashes, block_hashes = (np.empty((count, 32), dtype=np.uint8) for _ in range(2))
    for group in groups:
        rows, octets = group.rows, group.octets
        for column, values in zip((numbers, tx_indexes, log_indexes, times), group.quantities, strict=False):
            column[rows] = values
        at = 32 * group.layout.topics + group.layout.data
        tx_hashes[rows] = octets[:, at + 20 : at + 52]
        block_hashes[rows] = octets[:, at + 52 : at + 84]
    require(first <= numbers[0] and numbers[-1] <= last)
    require(tx_indexes.max() <= LATEST_INDEX and log_indexes.max() <= LATEST_INDEX)
    begins = _begins(numbers, log_indexes, block_hashes, times)
    kinds, names = kinds_of(groups, count)
    alike = alike_of(groups, count)
    require(bool(asked_for(kinds, names, alike, asked).all()))
    at_block = np.flatnonzero(begins)
    block_times = times[at_block]
    require(block_times.max() <= LATEST_SECOND)
    block_times[block_times == 0] = -1
    return LogColumns(
        numbers=numbers,
        log_indexes=log_indexes,
        tx_indexes=tx_indexes,
        tx_hashes=tx_hashes,
        kinds=kinds,
        names=names,
        alike=alike,
        block_of=np.cumsum(begins) - 1,
        block_numbers=numbers[at_block],
        block_hashes=block_hashes[at_block],
        block_times=block_times,
    )


def _begins(numbers: Integers, log_indexes: Integers, block_hashes: Octets, times: Integers) -> NDArray[np.bool_]:
    """Which logs are their block's first; all must be in order, and those of one block agree on its hash and time."""
    begins = np.ones(len(numbers), dtype=np.bool_)
    steps = np.diff(numbers)
    begins[1:] = steps != 0
    require(bool((steps >= 0).all()) and bool((begins[1:] | (np.diff(log_indexes) > 0)).all()))
    words = block_hashes.view(np.uint64)
    same = (times[1:] == times[:-1]) & (words[1:] == words[:-1]).all(axis=1)
    require(bool((begins[1:] | same).all()))
    return begins
