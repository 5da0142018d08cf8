"""``gapless backfill``: fill the history of one contract, with a progress bar."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from indexer.errors import GaplessError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from indexer.manifest.model import Chain, Contract, Manifest
    from indexer.settings import Settings
    from indexer.sync.history.backfill import Backfill, Progress, Selection

log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 10.0


def backfill(
    contract: Annotated[str, typer.Argument(help="The contract's name in the manifest.")],
    event: Annotated[str | None, typer.Option(help="Only this event, such as Transfer.")] = None,
    first: Annotated[int | None, typer.Option("--from", min=0, help="First block; left out: the contract's.")] = None,
    last: Annotated[int | None, typer.Option("--to", min=0, help="Last block; left out: the finalized one.")] = None,
    chain: Annotated[str | None, typer.Option(help="Only this chain; left out: all the contract's.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that fill at once; left out: BACKFILL_WORKERS.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(help="A Dask scheduler whose workers fill instead, such as tcp://10.0.0.5:8786.")
    ] = None,
) -> None:
    """Fill the gaps in a contract's history, beside a running indexer or without one.

    Resumes where it was stopped or killed, and does nothing where there is nothing to do. Workers share the range; one
    that is killed loses nothing.
    """
    from indexer.cli.context import begin, database, require_applied, servers, until_signal
    from indexer.sync.history.backfill import Selection

    settings, manifest = begin()
    chains = _chains(manifest, contract, event, chain)
    if first is not None and last is not None and first > last:
        raise GaplessError(f"--from {first} lies after --to {last}")
    selection = Selection(contract, event, (first or 0, 2**62 if last is None else last))
    with (
        until_signal() as stop,
        servers(settings, with_redis=False) as given,
        database(given, application_name="gapless backfill") as engine,
    ):
        require_applied(engine, manifest, settings, first=True)
        hands = _Hands(given.database_url, workers or settings.backfill_workers, dask)
        for one in chains:
            _fill(engine, one, settings, selection, stop, hands)


def _chains(manifest: Manifest, contract: str, event: str | None, chain: str | None) -> list[Chain]:
    found = _contract(manifest, contract)
    if event is not None and event not in (names := [found.abi.api_name(e) for e in found.events]):
        raise GaplessError(f"{contract} has no event {event} in the manifest", hint=f"it has: {', '.join(names)}")
    names = [deployment.chain for deployment in found.deployments]
    if chain is not None and chain not in names:
        raise GaplessError(f"{contract} is not on chain {chain}", hint=f"it is on: {', '.join(names)}")
    return [manifest.chains[name] for name in names if chain in (None, name)]


def _contract(manifest: Manifest, name: str) -> Contract:
    try:
        return manifest.contracts[name]
    except KeyError:
        known = ", ".join(manifest.contracts)
    raise GaplessError(f"the manifest has no contract {name}", hint=f"it has: {known}")


@dataclass(frozen=True, slots=True, repr=False)
class _Hands:
    """Who does the work: this process, several, or a Dask cluster's workers; all reach the database."""

    database_url: str
    workers: int
    dask: str | None

    def run(self, work: Backfill, chain: Chain, settings: Settings) -> Progress:
        if self.workers == 1 and self.dask is None:
            return work.run()
        from indexer.sync.history import workers

        job = workers.WorkerJob(self.database_url, chain, settings, work.selection)
        if self.dask is None:
            return workers.run_in_processes(work, job, self.workers)
        with workers.dask_executor(self.dask) as (executor, threads):
            return workers.run_with(executor, work, job, workers=threads)


def _fill(
    engine: Engine, one: Chain, settings: Settings, selection: Selection, stop: threading.Event, hands: _Hands
) -> None:
    from indexer.store.rows import failed_ranges
    from indexer.sync.head.follower import Follower
    from indexer.sync.history.backfill import Backfill
    from indexer.sync.setup import network

    client = network.connect(one, settings, engine)
    client.check()
    follower = Follower(engine, client, one.chain_id, name=one.name, finality=one.finality, blooms=one.bloom_checks)
    follower.prepare()
    follower.close()
    history = network.history(one, settings, client, engine)
    work = Backfill(engine, client, one.chain_id, selection, settings.backfill_in_flight, stop, history=history)
    with engine.begin() as connection:
        failed_ranges.retry_now(connection, one.chain_id)
    total = work.remaining()
    if not total:
        typer.echo(f"{one.name}: nothing to do, {selection.contract} is covered up to the finalized block.")
    else:
        with _display(one.name, total) as show:
            work.on_progress = show
            done = hands.run(work, one, settings)
        typer.echo(
            f"{one.name}: {done.blocks} blocks, {done.rows} events, {done.requests} requests, "
            f"{done.bytes / 1e6:.1f} MB" + (" (stopped)" if stop.is_set() else "")
        )
    if (blocked := work.blocked()) and not stop.is_set():
        typer.echo(f"{one.name}: {', '.join(blocked)} cannot go on before the factory's history is complete.")
    if history is not None:
        history.close()
    client.close()


@contextmanager
def _display(chain: str, total: int) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on a terminal, a log line now and then elsewhere."""
    started = time.monotonic()
    if not sys.stderr.isatty():
        yield _log_lines(chain, started)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as ProgressBar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("blocks, {task.fields[events]:,} events, {task.fields[speed]:,} events/s, ETA"),
        TimeRemainingColumn(),
    )
    with ProgressBar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(chain, total=total, events=0, speed=0)

        def show(progress: Progress) -> None:
            speed = int(progress.rows / max(time.monotonic() - started, 0.001))
            of = max(total, progress.blocks)
            bar.update(task, completed=progress.blocks, total=of, events=progress.rows, speed=speed)

        yield show


def _log_lines(chain: str, started: float) -> Callable[[Progress], None]:
    said_at = started

    def show(progress: Progress) -> None:
        nonlocal said_at
        now = time.monotonic()
        if now < said_at + LOG_EVERY_SECONDS and progress.blocks < progress.total:
            return
        said_at = now
        elapsed = max(now - started, 0.001)
        left = (progress.total - progress.blocks) * elapsed / max(progress.blocks, 1)
        log.info(
            "%s: %d of %d blocks, %d events, %d events/s, %.0f s left",
            *(chain, progress.blocks, progress.total, progress.rows, progress.rows / elapsed, left),
        )

    return show
