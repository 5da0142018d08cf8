"""What the past of snapshots will take (``start_block``): how many points, of how many calls."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg
from sqlalchemy.engine import Connection

from indexer.addresses import Children, DiscoveryBlocks
from indexer.chain.client import ChainClient
from indexer.chain.reads.contract_reads import MULTICALL3, batches
from indexer.chain.records.errors import ProviderError
from indexer.manifest.model import Chain, Manifest, Schedule, Snapshot
from indexer.store.catalog.catalog import Series
from indexer.store.rows import snapshots as series
from indexer.sync.setup.deployment_block import DeploymentUnknownError, first_with_code
from indexer.sync.snapshots.points import past_times

_TIMES_COUNTED = 500
"""Of a cron schedule: from so many times on, the others are taken to follow at the same pace."""


@dataclass(frozen=True, slots=True)
class Past:
    """A series whose past is wanted, as the database knows it.

    Attributes:
        snapshot: what is read.
        start: the first block of its past.
        addresses: how many are asked at a point; of a factory's children, how many were born by an average block.
        rows: the rows of its query, for each of which the calls are made; 1 without a query.
        taken: the points of its past that are there.
        remark: why nothing would be asked, if so.
    """

    snapshot: Snapshot
    start: int
    addresses: float
    rows: int
    taken: int
    remark: str = ""

    @property
    def label(self) -> str:
        """``usdc.supply``: for people."""
        return f"{self.snapshot.contract}.{self.snapshot.name}"


@dataclass(frozen=True, slots=True)
class PastForecast:
    """What the past of one series will take.

    Attributes:
        label: ``usdc.supply``.
        points: blocks at which it is still to be read; by the clock, at most.
        calls: calls of contracts.
        requests: HTTP requests.
        remark: what stands in the way, or is not known.
    """

    label: str
    points: int
    calls: int
    requests: int
    remark: str


def load(
    connection: Connection,
    manifest: Manifest,
    chain: Chain,
    children: Children,
    finalized: int,
    known: Iterable[Series],
) -> tuple[Past, ...]:
    """The series of a chain with a past, and what of it is there.

    Args:
        connection: to read with.
        manifest: what is wanted.
        chain: one of its chains.
        children: known so far.
        finalized: the past ends here.
        known: the series of the manifest.
    """
    stored = {one.name: one for one in known}
    found = []
    for snapshot in manifest.snapshots.values():
        start = snapshot.start_block
        if chain.name not in snapshot.chains or start is None or start > finalized:
            continue
        one = stored[snapshot.name]
        remark = ""
        addresses: float = len(one.deployments.get(chain.chain_id, ()))
        if not addresses:
            addresses = _born(children.get(one.contract_id, DiscoveryBlocks()), start, finalized)
            remark = "" if addresses else "no children are known yet: its factory's history goes first"
        rows = 1
        if snapshot.for_each is not None:
            rows, problem = _rows(connection, snapshot.for_each)
            remark = remark or problem
        step = snapshot.every.amount if snapshot.every.kind == "blocks" else 1
        taken = series.count_points(connection, one, chain.chain_id, start, finalized, step)
        found.append(Past(snapshot, start, addresses, rows, taken, remark))
    return tuple(found)


def _born(births: DiscoveryBlocks, start: int, finalized: int) -> float:
    """How many children there were at an average block of the past."""
    blocks = finalized - start + 1
    return sum(max(0, finalized - max(birth, start) + 1) for birth in births.values()) / blocks


def _rows(connection: Connection, query: str) -> tuple[int, str]:
    """How many rows a query has now, and what is wrong with it otherwise."""
    nested = connection.begin_nested()
    try:
        count = len(series.query_rows(connection, query))
    except psycopg.Error as error:
        return 0, f"its query fails: {error.diag.message_primary or error}"
    finally:
        nested.rollback()
    return count, "" if count else "its query has no rows yet"


def forecast(client: ChainClient, past: Past, finalized: int) -> PastForecast:
    """Says what the past of one series will take.

    Args:
        client: the chain's nodes; asked for the code of Multicall3, and for two headers of a series by the clock.
        past: what the database knows.
        finalized: the past ends here.

    Raises:
        ProviderError: the headers could not be read.
    """
    every = past.snapshot.every
    searches = 0
    if every.kind == "blocks":
        points = finalized // every.amount - (past.start - 1) // every.amount - past.taken
    else:
        blocks = finalized - past.start + 1
        low, high = client.at_or_below(past.start), client.at_or_below(finalized)
        times = blocks if low is None or high is None else times_due(every, low.time, high.time)
        # Where no block was mined between two times there is one point for both.
        points = min(times, blocks) - past.taken
        searches = blocks.bit_length()
    points = max(0, points)
    calls = past.addresses * past.rows * len(past.snapshot.calls)
    remark = past.remark
    before = 0.0
    if points and calls and not remark:
        try:
            before = _without_multicall(client, past.start, finalized)
        except (ProviderError, DeploymentUnknownError) as error:
            # The head was told a moment ago: it is the old state that no node has.
            remark = f"no endpoint knows the state of block {past.start:,}, which an archive node does: {error}"
    asked = before * -(-calls // client.settings.batch_size) + (1 - before) * len(_together(past.snapshot, calls))
    # The header of a point is asked for before and after.
    requests = points * (2 + searches + asked) if calls else 0
    return PastForecast(past.label, points, round(points * calls), round(requests), remark)


def times_due(every: Schedule, first: int, last: int) -> int:
    """How often a series by the clock was due between two times (Unix seconds); of cron, by its first times."""
    if every.kind == "seconds":
        return last // every.amount - (first - 1) // every.amount
    counted = [moment for _, moment in itertools.islice(past_times(every, first, last), _TIMES_COUNTED)]
    if len(counted) < _TIMES_COUNTED:
        return len(counted)
    return round(len(counted) * (last - first) / (counted[-1] - first))


def _without_multicall(client: ChainClient, start: int, finalized: int) -> float:
    """The part of the past in which Multicall3 did not stand yet: there each call is a question."""
    if client.code(MULTICALL3, start):
        return 0.0
    if not client.code(MULTICALL3, finalized):
        return 1.0
    return (first_with_code(client, MULTICALL3, finalized, "Multicall3") - start) / (finalized - start + 1)


def _together(snapshot: Snapshot, calls: float) -> Sequence[object]:
    """The batches in which the calls of one point travel, as far as the size of their arguments is known."""
    sizes = [bytes(4 + 32 * len(call.args)) for call in snapshot.calls]
    return batches([(b"", size) for size in itertools.islice(itertools.cycle(sizes), -int(-calls // 1))])
