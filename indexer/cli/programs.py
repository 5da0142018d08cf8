"""``gapless programs``: the programs of the manifest, run beside the indexer or on another machine."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from indexer.manifest.model import Manifest
    from indexer.programs.supervisor import ProgramSupervisor


def programs() -> None:
    """Run the programs of the manifest, each in a process of its own, until told to stop.

    gapless run does so too, unless it is told --no-programs. Where two run the same program, one stands by and takes
    over when the other ends. Code that changes is loaded again by itself; a changed manifest is taken over within
    seconds.
    """
    import logging

    from indexer.cli.context import begin, database, servers, until_signal
    from indexer.errors import ProblemsError
    from indexer.manifest import load_manifest
    from indexer.programs.supervisor import ProgramSupervisor
    from indexer.service.manifest_watcher import ManifestWatcher
    from indexer.settings import environment
    from indexer.store.apply import migrate

    settings, manifest = begin()
    log = logging.getLogger(__name__)
    path = manifest.path
    watch = ManifestWatcher(manifest, lambda: load_manifest(path, environment()))
    with (
        until_signal(status=0) as stop,
        servers(settings, with_redis=False) as given,
        database(given, application_name="gapless programs", pool_size=1) as engine,
    ):
        migrate.require_current(engine)
        with closing(ProgramSupervisor(given.database_url)) as supervisor:
            log.info("running %d programs", len(manifest.programs))
            take_over(engine, supervisor, manifest)
            while not stop.wait(1.0):
                try:
                    found = watch.look()
                except ProblemsError as error:
                    log.error("the manifest is not taken over: %s", error)
                    continue
                if found is not None:
                    take_over(engine, supervisor, found)


def take_over(engine: Engine, supervisor: ProgramSupervisor, manifest: Manifest) -> None:
    """Runs the programs of a manifest, and no others; what others have kept is shown as it is."""
    from functools import partial

    from indexer.service.program_tasks import program_tasks
    from indexer.store.database import attempt
    from indexer.store.programs import program_generations

    retire = partial(program_generations.retire, wanted=manifest.programs)
    attempt(engine, "programs that the manifest names no longer cannot be ended", retire)
    supervisor.take_over(program_tasks(manifest))
