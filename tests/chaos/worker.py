"""One ``gapless run`` as a process that can be killed: its jobs, with shorter pauses between them."""

from __future__ import annotations

import functools
import threading
from pathlib import Path

from indexer.chain.rpc.config import ClientSettings
from indexer.cli.context import prepare
from indexer.manifest import load_manifest
from indexer.service import chain_jobs, scheduler
from indexer.settings import Settings
from indexer.store import leases
from indexer.store.cache import Cache
from indexer.store.database import create_engine, process_name
from indexer.sync.head import follower
from indexer.sync.setup import network
from tests.chaos import autopsy
from tests.chaos.simulation import SMALL


def work(database_url: str, manifest: Path, urls: dict[str, str]) -> None:
    """Indexes until it is killed."""
    autopsy.keep_a_record(manifest.parent)
    for name, value in SMALL.items():
        setattr(follower, name, value)
    leases.LASTS, leases.RENEW_EVERY = 2.0, 0.4
    chain_jobs.FILL_EVERY, chain_jobs.SNAPSHOTS_EVERY, chain_jobs.ENDPOINTS_EVERY = 0.15, 0.3, 1.0
    network.ClientSettings = functools.partial(  # type: ignore[misc, assignment]
        ClientSettings, attempts=4, give_up_after=4.0, first_backoff=0.01, longest_backoff=0.1, start_blocks=20
    )
    engine = create_engine(database_url, application_name=process_name("gapless run"), pool_size=20)
    known = load_manifest(manifest, urls)
    prepare(engine, known)
    settings = Settings(_env_file=None, rpc_timeout_seconds=5)  # type: ignore[call-arg]
    service = scheduler.Service(engine, Cache(None), known, settings)
    service.start()
    service.run_until(threading.Event())
