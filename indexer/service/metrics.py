"""Metrics of ``gapless run``, gathered when asked for: how far every chain is, what the nodes cost, what waits."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import psycopg
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.engine import Engine

from indexer import __version__
from indexer.chain.rpc.health import EndpointStatus
from indexer.service.chain_at_work import Network
from indexer.store.cache import Cache
from indexer.store.status import Gauges, load_gauges

log = logging.getLogger(__name__)

#: metric -> column of the chain's row, and what it is.
_OF_CHAIN: Final[Mapping[str, tuple[str, str]]] = {
    "head_block": ("head", "Newest block that the nodes reported"),
    "indexed_block": ("tip", "Newest block that is indexed"),
    "safe_block": ("safe", "Newest block that is safe"),
    "finalized_block": ("finalized", "Newest block that can no longer be reorganised"),
    "lag_seconds": ("lag", "Age of the newest indexed block beside the newest there is"),
    "undecoded_logs": ("undecoded", "Logs with an event's topic that cannot be decoded, counted up to 10,000"),
    "foreign_logs": ("foreign_logs", "Logs that have other arguments indexed than their event, counted up to 10,000"),
}
_STATES: Final = ("starting", "following", "waiting", "stalled", "halted")
_HEALTH: Final = ("healthy", "unhealthy", "unknown")
_PACES: Final = ("full", "slowed", "stopped", "spent")


def registry(
    engine: Engine, networks: Callable[[], Mapping[str, Network]], cache: Cache | None = None
) -> CollectorRegistry:
    """The metrics of a service.

    Args:
        engine: the database.
        networks: the chains at work, by name, as they are at the moment.
        cache: Redis, or nothing.
    """
    made = CollectorRegistry(auto_describe=False)
    made.register(_OfDatabase(engine))
    made.register(_OfEndpoints(networks))
    if cache is not None:
        made.register(_OfCache(cache))
    ProcessCollector(registry=made)
    return made


class _OfDatabase(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        """Look at the database; while it does not answer say just that."""
        up = GaugeMetricFamily("gapless_database_up", "Whether the database answers: 1 or 0")
        yield InfoMetricFamily("gapless_build", "What runs", value={"version": __version__})
        try:
            with self._engine.connect() as connection:
                found = load_gauges(connection)
        except (sa.exc.SQLAlchemyError, psycopg.Error) as error:
            log.debug("metrics: the database does not answer: %s", type(error).__name__)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from _of_chains(found)
        yield from _of_work(found)
        yield from _of_credits(found)


def _of_chains(found: Gauges) -> Iterable[Metric]:
    for name, (column, text) in _OF_CHAIN.items():
        family = GaugeMetricFamily(f"gapless_{name}", text, labels=["chain"])
        for chain in found.chains:
            if chain[column] is not None:
                family.add_metric([chain["name"]], chain[column])
        yield family
    state = GaugeMetricFamily("gapless_chain_state", "1 for the state that a chain is in", labels=["chain", "state"])
    stalled = GaugeMetricFamily(
        "gapless_chain_stalled", "1 where no block was indexed for longer than the pace allows", labels=["chain"]
    )
    reorgs = CounterMetricFamily("gapless_reorgs", "Reorganisations that were followed", labels=["chain"])
    for chain in found.chains:
        for one in _STATES:
            state.add_metric([chain["name"], one], chain["state"] == one)
        stalled.add_metric([chain["name"]], chain["stalled"])
        reorgs.add_metric([chain["name"]], chain["reorgs"])
    yield state
    yield stalled
    yield reorgs


def _of_work(found: Gauges) -> Iterable[Metric]:
    missing = GaugeMetricFamily(
        "gapless_missing_blocks", "Blocks that are wanted and not covered", labels=["chain", "contract", "event"]
    )
    for key, count in found.missing.items():
        missing.add_metric(key, count)
    yield missing
    unread = GaugeMetricFamily(
        "gapless_unread_blocks",
        "Blocks of history that nodes did not give; they are asked for again",
        labels=["chain", "contract", "event"],
    )
    for key, count in found.unread.items():
        unread.add_metric(key, count)
    yield unread
    findings = GaugeMetricFamily(
        "gapless_findings", "What audits found wrong and is not repaired", labels=["chain", "kind"]
    )
    for labels, count in found.findings.items():
        findings.add_metric(labels, count)
    yield findings
    jobs = GaugeMetricFamily("gapless_jobs", "Jobs that wait or are under way", labels=["kind", "state"])
    for labels, count in found.jobs.items():
        jobs.add_metric(labels, count)
    yield jobs


def _of_credits(found: Gauges) -> Iterable[Metric]:
    place = ["chain", "host", "endpoint"]
    used = GaugeMetricFamily(
        "gapless_endpoint_credits_today",
        "Credits that an endpoint has cost since 00:00 UTC, of all processes",
        labels=[*place, "for"],
    )
    budget = GaugeMetricFamily("gapless_endpoint_credits_per_day", "credits_per_day of an endpoint", labels=place)
    pace = GaugeMetricFamily(
        "gapless_endpoint_credits_pace", "1 for what credits_per_day lets history do", labels=[*place, "pace"]
    )
    for one in found.credits:
        labels = [one.chain, one.host, str(one.position)]
        used.add_metric([*labels, "head"], one.head)
        used.add_metric([*labels, "history"], one.history)
        if one.budget is not None:
            budget.add_metric(labels, one.budget)
            for each in _PACES:
                pace.add_metric([*labels, each], one.pace == each)
    yield from (used, budget, pace)


class _OfCache(Collector):
    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def collect(self) -> Iterable[Metric]:
        """Say how often Redis knew what was asked for."""
        looked = CounterMetricFamily(
            "gapless_cache_lookups",
            "Values asked of Redis: there (hit), not there (miss), not ours or too old (refused)",
            labels=["outcome"],
        )
        for outcome in ("hit", "miss", "refused"):
            looked.add_metric([outcome], self._cache.counts[outcome])
        yield looked


class _OfEndpoints(Collector):
    def __init__(self, networks: Callable[[], Mapping[str, Network]]) -> None:
        self._networks = networks

    def collect(self) -> Iterable[Metric]:
        """Ask the clients what they have counted since the process began."""
        found = {name: one.client.describe() for name, one in self._networks().items()}
        yield from _of_methods(found)
        place = ["chain", "host", "endpoint"]
        http = CounterMetricFamily("gapless_endpoint_http_requests", "HTTP requests to an endpoint", labels=place)
        head = GaugeMetricFamily("gapless_endpoint_head_block", "Newest block that an endpoint reported", labels=place)
        latency = GaugeMetricFamily("gapless_endpoint_latency_seconds", "Running mean of a request", labels=place)
        most = GaugeMetricFamily("gapless_endpoint_concurrency", "Requests that may be under way at once", labels=place)
        state = GaugeMetricFamily(
            "gapless_endpoint_state", "1 for the state that an endpoint is in", labels=[*place, "state"]
        )
        for labels, status in _each(found):
            http.add_metric(labels, status.http_requests)
            most.add_metric(labels, status.concurrency)
            if status.head is not None:
                head.add_metric(labels, status.head)
            if status.latency is not None:
                latency.add_metric(labels, status.latency)
            for one in _HEALTH:
                state.add_metric([*labels, one], status.state == one)
        yield from (http, head, latency, most, state)


def _of_methods(found: Mapping[str, Sequence[EndpointStatus]]) -> Iterable[Metric]:
    labels = ["chain", "host", "endpoint", "method"]
    asked = CounterMetricFamily("gapless_endpoint_requests", "Calls asked of an endpoint", labels=labels)
    failed = CounterMetricFamily("gapless_endpoint_errors", "Calls that failed", labels=labels)
    limited = CounterMetricFamily(
        "gapless_endpoint_rate_limited", "Calls that failed because too many were asked", labels=labels
    )
    size = CounterMetricFamily("gapless_endpoint_bytes", "Bytes of results", labels=labels)
    for place, status in _each(found):
        for method, count in status.counts.items():
            asked.add_metric([*place, method], count.requests)
            failed.add_metric([*place, method], count.errors)
            limited.add_metric([*place, method], count.limited)
            size.add_metric([*place, method], count.bytes)
    return asked, failed, limited, size


def _each(found: Mapping[str, Sequence[EndpointStatus]]) -> Iterable[tuple[list[str], EndpointStatus]]:
    """Every endpoint with its labels: chain, host, and its place in the manifest, as two may have one host."""
    for chain, statuses in found.items():
        for place, status in enumerate(statuses):
            yield [chain, status.host, str(place)], status
