"""What the status page tells, read from the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from api.catalog import Catalog, Chain, Event
from api.context import Context
from api.resources import row_page
from api.resources.feed import Feed, feed_query
from api.sql import administration, status
from api.state import ranges
from indexer.intervals import RangeSet, intersect, size, union

#: Rows of the newest events, a chain.
LATEST: Final = 8


@dataclass(frozen=True, slots=True)
class Coverage:
    """How far one event is indexed on one chain, all of its sources together.

    Attributes:
        wanted, missing: blocks.
        wanted_blocks, missing_blocks: how many, summed over the sources.
        verified_blocks: how many of them are proven.
    """

    chain: Chain
    event: Event
    wanted: RangeSet
    missing: RangeSet
    wanted_blocks: int
    missing_blocks: int
    verified_blocks: int
    indexes_put_off: bool


@dataclass(frozen=True, slots=True)
class Latest:
    """A chain's newest rows, as the API answers them, and what their tokens say."""

    chain: Chain
    rows: Sequence[Mapping[str, Any]]
    tokens: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that the page tells.

    Attributes:
        catalog: what is indexed.
        at: the moment, in ISO 8601.
        chains, series, jobs, reorgs, findings: as the queries of ``api.sql`` give them.
        coverage: of each event on each chain.
        latest: the newest rows of each chain.
        trends: by chain: the minutes of the last hour, the oldest first: ``ago``, ``lag`` in seconds, ``rows`` and
            ``requests`` a minute.
        traffic: by chain and position of an endpoint: why it is as it is (``reason``), what it was asked (``counts``).
    """

    catalog: Catalog
    at: str
    chains: Sequence[Mapping[str, Any]]
    coverage: Sequence[Coverage]
    latest: Sequence[Latest]
    series: Sequence[Mapping[str, Any]]
    reorgs: Sequence[Mapping[str, Any]]
    findings: Sequence[Mapping[str, Any]]
    jobs: Sequence[Mapping[str, Any]]
    trends: Mapping[str, Sequence[Mapping[str, Any]]]
    traffic: Mapping[str, Mapping[str, Any]]


def load(context: Context) -> Facts:
    """Read everything.

    Raises:
        ApiError: if the database does not answer.
    """
    catalog = context.catalog.current()
    chains = [chain for chain in _json(context, status.CHAINS) if chain["active"]]
    more = _json(context, status.PAGE)
    return Facts(
        catalog=catalog,
        at=more["at"],
        chains=[{**chain, "silent_seconds": more["silent_seconds"].get(str(chain["chain_id"]))} for chain in chains],
        coverage=_coverage(catalog, _json(context, status.SOURCES, [None]), set(more["indexes_put_off"])),
        latest=[_latest(context, catalog, chain) for chain in catalog.chains.values() if chain.active],
        series=more["series"],
        reorgs=more["reorgs"],
        findings=more["findings"],
        jobs=_json(context, administration.RECENT_JOBS, [administration.PRIVATE_OF_JOB]),
        trends=more["trends"],
        traffic=more["traffic"],
    )


def _json(context: Context, text: str, values: Sequence[object] = ()) -> Any:
    return orjson.loads(context.database.query(text, values)[0][0] or b"[]")


def _coverage(catalog: Catalog, sources: Sequence[Mapping[str, Any]], put_off: set[int]) -> list[Coverage]:
    events = {event.event_id: event for c in catalog.contracts.values() for event in c.events.values()}
    together: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for source in sources:
        # A table that is newer than the catalog at hand is shown next time.
        if source["active"] and source["event"] in events and source["chain_id"] in catalog.chains:
            together.setdefault((source["chain_id"], source["event"]), []).append(source)
    found = []
    for (chain_id, event_id), parts in together.items():
        wanted = [ranges(part["wanted"]) for part in parts]
        missing = [ranges(part["missing"]) for part in parts]
        verified = [ranges(part["verified"]) for part in parts]
        found.append(
            Coverage(
                chain=catalog.chains[chain_id],
                event=events[event_id],
                wanted=union(*wanted),
                missing=union(*missing),
                wanted_blocks=sum(map(size, wanted)),
                missing_blocks=sum(map(size, missing)),
                verified_blocks=sum(size(intersect(w, v)) for w, v in zip(wanted, verified, strict=True)),
                indexes_put_off=event_id in put_off,
            )
        )
    return sorted(found, key=lambda c: (c.event.contract, c.chain.chain_id, c.event.api_name))


def _latest(context: Context, catalog: Catalog, chain: Chain) -> Latest:
    events = [
        event
        for contract in catalog.contracts.values()
        if chain.chain_id in contract.deployments
        for event in contract.events.values()
        if event.active
    ]
    if not events:
        return Latest(chain, (), {})
    values = Feed.params.read(f"limit={LATEST}&include=token").given()
    state, _, begun, included = Feed(context).page(feed_query(catalog, chain, events, values))
    assert state is not None
    answer = orjson.loads(row_page.body(begun, state.meta(chain.chain_id), included))
    return Latest(chain, answer["data"], answer["tokens"])
