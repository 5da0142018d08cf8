"""``gapless run``: follow every head, fill history, take snapshots, until told to stop."""

import os
import sys
import threading

EXIT_WITHIN_SECONDS = 4.0
"""After SIGTERM: open transactions are finished by then, or abandoned (Postgres rolls them back)."""


def run() -> None:
    """Run the indexer: follow each chain's head while its history fills in; take snapshots; read tokens.

    Stops within 5 seconds of SIGTERM or Ctrl-C. A second one beside it stands by and takes over when the first ends.
    """
    import logging

    from indexer.cli.context import begin, database, prepare, servers, until_signal
    from indexer.schedule import Service
    from indexer.store.cache import Cache

    settings, manifest = begin()
    log = logging.getLogger(__name__)
    with (
        until_signal() as stop,
        servers(settings) as given,
        database(given, application_name="gapless run", pool_size=20) as engine,
    ):
        for change in prepare(engine, manifest):
            log.info("manifest applied: %s", change)
        cache = Cache(given.redis_url)
        service = Service(engine, cache, manifest, settings)
        service.start()
        log.info("running %d chains, %d contracts", len(manifest.chains), len(manifest.contracts))
        try:
            service.run_until(stop)
        finally:
            stopper = threading.Thread(target=service.stop, daemon=True)
            stopper.start()
            stopper.join(EXIT_WITHIN_SECONDS)
            cache.close()
    if stopper.is_alive():
        log.warning("some requests to nodes did not end in time and were abandoned; nothing is lost by that")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    log.info("stopped")
