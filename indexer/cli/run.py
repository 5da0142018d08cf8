"""``gapless run``, ``serve`` and ``demo``: what works until it is told to stop.

``run`` follows every head, fills history and takes snapshots; ``serve`` is the read API; ``demo`` is both, with a chain
of its own, and with nothing to set up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from indexer.service.scheduler import Service
    from indexer.settings import Settings


EXIT_WITHIN_SECONDS = 3.0
"""After SIGTERM: open transactions are finished by then, or abandoned (Postgres rolls them back)."""


WAIT_FOR_MIGRATE = 2.0
"""Seconds between two looks whether ``gapless migrate`` was run."""


def run(
    *,
    with_migrate: Annotated[
        bool,
        typer.Option(
            "--migrate/--no-migrate",
            help="Whether to migrate a database of an earlier version here, or to wait for gapless migrate: APIs and "
            "workers of that version may still use it. An empty database is made ready either way.",
        ),
    ] = False,
    with_programs: Annotated[
        bool,
        typer.Option(
            "--programs/--no-programs",
            help="Whether to run the programs of the manifest as well, each in a process of its own; gapless programs "
            "runs them elsewhere.",
        ),
    ] = True,
) -> None:
    """Run the indexer: follow each chain's head while its history fills in; take snapshots; read tokens.

    Takes over a changed manifest by itself, within seconds, or at once on SIGHUP. Stops within 5 seconds of SIGTERM or
    Ctrl-C. A second one beside it stands by and takes over when the first ends.
    """
    import logging

    from indexer.cli.context import begin, database, difference, prepare, reachable, servers, until_signal
    from indexer.cli.programs import take_over
    from indexer.manifest import load_manifest
    from indexer.programs.supervisor import ProgramSupervisor
    from indexer.service.manifest_watcher import ManifestWatcher, PartialManifestWatcher
    from indexer.service.scheduler import Service
    from indexer.settings import environment
    from indexer.store.apply import migrate
    from indexer.store.cache import Cache
    from indexer.store.catalog.declaration import summary
    from indexer.store.tokens.metadata import StoredCacheSecret

    settings, manifest = begin()
    log = logging.getLogger(__name__)
    path = manifest.path
    files = ManifestWatcher(manifest, lambda: load_manifest(path, environment()))
    hangup = threading.Event()
    with (
        until_signal(hangup.set, status=0) as stop,
        servers(settings) as given,
        database(given, application_name="gapless run", pool_size=20) as engine,
        # Leases are renewed whatever the jobs do with their connections.
        database(given, application_name="gapless leases", pool_size=1) as lease_engine,
        ExitStack() as stack,
    ):
        if not migrate.wait_for_changes(engine, stop) or not _has_schema(engine, stop, with_migrate=with_migrate):
            return
        watch = PartialManifestWatcher(files, manifest, lambda given: reachable(engine, given, settings))
        manifest = watch.manifest
        for line in summary(prepare(engine, manifest, settings)):
            log.info("manifest: %s", line)
        secret = settings.redis_secret.get_secret_value() if settings.redis_secret else None
        cache = Cache(given.redis_url, secret=StoredCacheSecret(engine, secret))
        supervisor = ProgramSupervisor(given.database_url) if with_programs else None
        service = Service(
            *(engine, cache, manifest, settings),
            watch=watch,
            prepare=lambda given: prepare(engine, given, settings),
            differs=lambda given: difference(engine, given, settings),
            reload=hangup,
            lease_engine=lease_engine,
            taken_over=lambda given: take_over(engine, supervisor, given) if supervisor else None,
        )
        stack.enter_context(_watched(settings, service, engine))
        service.start()
        if settings.backfill_workers > 1:
            log.info("BACKFILL_WORKERS is for gapless backfill; this process fills the history of its chains by itself")
        log.info("running %d chains, %d contracts", len(manifest.chains), len(manifest.contracts))
        try:
            service.run_until(stop)
        finally:
            stopper = threading.Thread(target=service.stop, daemon=True)
            stopper.start()
            if supervisor is not None:
                supervisor.close()
            stopper.join(EXIT_WITHIN_SECONDS)
            cache.close()
    if stopper.is_alive():
        log.warning("some requests to nodes did not end in time and were abandoned; nothing is lost by that")
    else:
        log.info("stopped")


def _has_schema(engine: Engine, stop: threading.Event, *, with_migrate: bool) -> bool:
    """Makes or awaits the schema of this version.

    Returns:
        False if it was stopped before.
    """
    import logging

    from indexer.store.apply import migrate
    from indexer.store.database import DatabaseError

    if with_migrate or migrate.current_revision(engine) is None:
        migrate.upgrade(engine)
    told = ""
    while not stop.is_set():
        try:
            migrate.require_current(engine)
        except DatabaseError as error:
            if str(error) != told:
                logging.getLogger(__name__).warning("%s; waiting for: gapless migrate (or run --migrate)", error)
            told = str(error)
        else:
            return True
        stop.wait(WAIT_FOR_MIGRATE)
    return False


@contextmanager
def _watched(settings: Settings, service: Service, engine: Engine) -> Iterator[None]:
    """The administrator's port, if there is to be one."""
    if settings.admin_port is None:
        yield
        return
    from indexer.admin import AdminServer
    from indexer.service import metrics

    found = metrics.registry(engine, service.networks, service.cache)
    with closing(AdminServer(settings.admin_host, settings.admin_port, found, service.trouble)):
        yield


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; left out: API_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; left out: API_PORT.")] = None,
) -> None:
    """Serve the read API over HTTP until told to stop."""
    from functools import partial

    from api import server  # the one place where the indexer knows the API
    from api.settings import load_settings as load_api_settings
    from indexer import log
    from indexer.cli.context import servers
    from indexer.settings import load_settings

    settings = load_settings()
    configure = partial(log.configure, settings.log_level, settings.log_format)
    configure()
    api_settings = load_api_settings(api_host=host, api_port=port)
    with servers(settings, direct=False) as given:
        server.serve(given.database_url, given.redis_url, settings=api_settings, configure_logging=configure)


def demo() -> None:
    """Run everything on a chain of its own: anvil with traffic, Postgres, Redis, the indexer and the API.

    Prints where to look. Ctrl-C stops all of it; the next start goes on from the same data.
    """
    from indexer.demo.run import demo as run_demo
    from indexer.log import configure
    from indexer.settings import load_settings

    settings = load_settings()
    # The indexer and the API have log files of their own; here only what goes wrong is said.
    configure("WARNING", settings.log_format)
    run_demo(settings.data_dir, os.environ, typer.echo)
