"""The blocks of a chunk: their hashes and times, from the logs or from headers, and what contradicts what."""

import numpy as np

from indexer.block_columns import BlockColumns
from indexer.chain.reads.questions import headers, wrong
from indexer.chain.records.errors import LaggingError
from indexer.chain.records.log_columns import Blocks, Integers, LogChunk, LogColumns, ToldTime
from indexer.chain.records.messages import Header
from indexer.chain.records.validation import CheckedLogs
from indexer.chain.rpc.config import RequestContext
from indexer.chain.rpc.endpoint import Endpoint

# A pause is out of the ordinary above so many seconds, and so many times the usual one for its number of blocks.
_LEAP = 600
_LEAPS = 20


def finished(
    endpoint: Endpoint,
    first: int,
    end: Header,
    read: CheckedLogs | LogColumns,
    context: RequestContext,
    before: tuple[int, int],
) -> LogChunk:
    """A chunk of checked logs and the header of its end, with the times of its blocks.

    Args:
        endpoint: whose answers they are; it is asked for headers where logs do not tell the time.
        first: the first block.
        end: the header of the last block.
        read: the logs.
        context: on whose account.
        before: what the errand had cost, in requests and bytes, before the chunk was asked for.

    Raises:
        AnswerError: logs and headers do not belong together.
        LaggingError: the endpoint lacks a block that bears logs.
        ProviderError: a question failed.
    """
    log_bytes = context.bytes - before[1]
    if isinstance(read, CheckedLogs) and read.removed:
        _require_not_removed(endpoint, read, context)
    if isinstance(read, LogColumns) and _tells_times(endpoint, read, end):
        blocks, told = _with_end(read, end), read.block_numbers
    else:
        hashes, times = (read.hashes(), read.times()) if isinstance(read, LogColumns) else (read.hashes, read.times)
        found, told = _timed(endpoint, end, hashes, times, context)
        blocks = BlockColumns.of(found)
    requests, received = context.requests - before[0], context.bytes - before[1]
    chunk = LogChunk(first, end.number, read, blocks, end, endpoint.host, requests, received, log_bytes)
    chunk.told_time = _told_time(blocks, told, end)
    return chunk


def _require_not_removed(endpoint: Endpoint, checked: CheckedLogs, context: RequestContext) -> None:
    """Disbelieve logs that are marked as removed in the history of the chain; those of other branches are left out."""
    checked.require_not_removed(checked.hashes, endpoint.host)
    numbers = sorted({number for number, _ in checked.removed})
    found = headers(endpoint, numbers, context)
    if missing := [number for number in numbers if number not in found]:
        raise LaggingError(f"it marks logs of block {missing[0]:,} as removed and lacks the block", host=endpoint.host)
    checked.require_not_removed({number: header.hash for number, header in found.items()}, endpoint.host)


def _tells_times(endpoint: Endpoint, read: LogColumns, end: Header) -> bool:
    """Whether the logs tell the times of all their blocks, and the header of the end contradicts nothing of it."""
    if not endpoint.log_times_hold or not bool((read.block_times >= 0).all()):
        return False
    if len(read) and read.block_numbers[-1] == end.number and read.block_hashes[-1].tobytes() != end.hash:
        return False
    return _agree(read.block_numbers, read.block_times, end)


def _agree(numbers: Integers, times: Integers, end: Header) -> bool:
    """Whether the times that logs tell never go back, and agree with the end of the range."""
    if not len(numbers):
        return True
    last = bool(times[-1] == end.time) if numbers[-1] == end.number else bool(times[-1] <= end.time)
    return last and bool((np.diff(times) >= 0).all())


def _told_time(blocks: BlockColumns, told: Integers, end: Header) -> ToldTime | None:
    """One time that only logs tell, to be compared with a header: the one before the longest pause for its blocks.

    Times that never go back and meet a true end are wrong up to some block, and behind that block they jump. Where the
    end bears a log, the times meet it, and one is compared only where they jump as those of no chain of that pace do.

    Args:
        blocks: of the chunk.
        told: numbers of the blocks whose time is the logs' word, ascending.
        end: the header of the range's end.
    """
    if not len(told) or told[0] == end.number:
        return None
    rows = np.searchsorted(blocks.numbers, told[told < end.number])
    numbers, times = np.append(blocks.numbers[rows], end.number), np.append(blocks.times[rows], end.time)
    steps, spans = np.diff(times), np.diff(numbers)
    usual = np.median(steps / spans) * spans
    longest = int((steps - usual).argmax())
    if told[-1] == end.number:
        leap = steps[longest]
        if leap <= _LEAP or (len(steps) > 1 and leap <= _LEAPS * usual[longest]):
            return None
    row = int(rows[longest])
    return int(blocks.numbers[row]), blocks.hashes[row].tobytes(), int(blocks.times[row])


def bearing_header(endpoint: Endpoint, number: int, block_hash: bytes, context: RequestContext) -> Header:
    """The header of a block that bears logs.

    Raises:
        AnswerError: it is of another block than the logs.
        LaggingError: the endpoint lacks the block.
        ProviderError: the question failed.
    """
    header = headers(endpoint, [number], context).get(number)
    if header is None:
        raise LaggingError(f"it does not have block {number:,}, which bears logs", host=endpoint.host)
    if header.hash != block_hash:
        raise wrong(f"block {number}: the logs and the header do not belong together", endpoint)
    return header


def _with_end(read: LogColumns, end: Header) -> BlockColumns:
    if len(read) and read.block_numbers[-1] == end.number:
        return BlockColumns(read.block_numbers, read.block_hashes, read.block_times)
    return BlockColumns(
        np.append(read.block_numbers, end.number),
        np.concatenate([read.block_hashes, np.frombuffer(end.hash, np.uint8)[None]]),
        np.append(read.block_times, end.time),
    )


def _timed(
    endpoint: Endpoint, end: Header, hashes: dict[int, bytes], told: dict[int, int], context: RequestContext
) -> tuple[Blocks, Integers]:
    """The blocks that bear logs, and the end: headers are asked for where the logs do not tell the time.

    Returns:
        The blocks, and the numbers of those whose time is the logs' word.
    """
    last = end.number
    if hashes.get(last, end.hash) != end.hash:
        raise wrong(f"block {last}: the logs and the header do not belong together", endpoint)
    times = {last: end.time}
    numbers = np.zeros(0, dtype=np.int64)
    if endpoint.log_times_hold:
        numbers = np.array(sorted(told), dtype=np.int64)
        endpoint.log_times_hold = _agree(numbers, np.array([told[n] for n in numbers.tolist()], dtype=np.int64), end)
        times |= told if endpoint.log_times_hold else {}
    if untimed := [number for number in hashes if number not in times]:
        for number, header in headers(endpoint, untimed, context).items():
            if header.hash != hashes[number]:
                raise wrong(f"block {number}: the logs and the header do not belong together", endpoint)
            times[number] = header.time
        if missing := [number for number in untimed if number not in times]:
            raise LaggingError(f"it has logs of block {missing[0]:,} but not the block", host=endpoint.host)
    blocks = {number: (block_hash, times[number]) for number, block_hash in hashes.items()}
    blocks[last] = (end.hash, end.time)
    return blocks, numbers if endpoint.log_times_hold else numbers[:0]
