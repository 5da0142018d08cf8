"""Several questions about the same blocks as one: what only together brings every log of some sources."""

import threading
from collections.abc import Iterable, Iterator, Sequence

from indexer.chain.branch import Branch
from indexer.chain.client import ChainClient
from indexer.chain.errors import BranchMovedError
from indexer.chain.filters import LogFilter
from indexer.chain.logs import LogChunk, RawLog
from indexer.intervals import BlockRange


def scan(
    client: ChainClient,
    ranges: Iterable[BlockRange],
    filters: Sequence[LogFilter],
    *,
    in_flight: int,
    stop: threading.Event,
) -> Iterator[LogChunk]:
    """Reads history for several filters; see :meth:`ChainClient.scan`."""
    first, *others = filters
    for chunk in client.scan(ranges, first, in_flight=in_flight, stop=stop):
        for other in others:
            for part in client.scan([(chunk.first, chunk.last)], other, in_flight=in_flight, stop=stop):
                chunk.logs += part.logs
                chunk.blocks.update(part.blocks)
                chunk.requests += part.requests
                chunk.bytes += part.bytes
        if stop.is_set():
            return
        if others:
            chunk.logs = _merged(chunk.logs)
        yield chunk


def branch(
    client: ChainClient, block_range: BlockRange, filters: Sequence[LogFilter], *, parent_hash: bytes, blooms: bool
) -> Branch:
    """Reads unfinalised blocks for several filters (or none: their headers only); see :meth:`ChainClient.branch`."""
    found: Branch | None = None
    for one in filters or (_NOTHING,):
        part = client.branch(*block_range, one, parent_hash=parent_hash, blooms=blooms)
        if found is None:
            found = part
        elif part.headers[-1].hash != found.headers[-1].hash:
            raise BranchMovedError("the chain moved between two questions")
        else:
            found.logs += part.logs
    assert found is not None
    if len(filters) > 1:
        found.logs = _merged(found.logs)
    return found


# No contract stands at the address of all ones.
_NOTHING = LogFilter(addresses=("0x" + "ff" * 20,))


def _merged(logs: Iterable[RawLog]) -> list[RawLog]:
    unique = {(log.block_number, log.log_index): log for log in logs}
    return [unique[key] for key in sorted(unique)]
