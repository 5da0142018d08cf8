"""What most commands begin with: settings, manifest, servers, a database that fits."""

import contextlib
import ctypes
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import typer
from sqlalchemy.engine import Engine

from indexer import signals
from indexer.chain.records.errors import ProviderError
from indexer.errors import GaplessError
from indexer.log import configure
from indexer.manifest import load_manifest
from indexer.manifest.model import Manifest, settled
from indexer.settings import Settings, environment, load_settings
from indexer.store.apply import migrate, planned
from indexer.store.apply.apply import apply, compare
from indexer.store.apply.difference import difference as compared
from indexer.store.apply.planned import Planned
from indexer.store.catalog import catalog, version
from indexer.store.catalog.declaration import Change, Declaration, summary
from indexer.store.catalog.version import CatalogRows
from indexer.store.database import create_engine, describe_failure, process_name
from indexer.sync.setup.declaration import declaration

log = logging.getLogger(__name__)

_M_ARENA_MAX = -8  # malloc.h
ARENAS = 2


@dataclass(frozen=True, slots=True)
class Servers:
    """Where Postgres and Redis are, given or embedded. ``redis_url`` is None where there is none."""

    database_url: str
    redis_url: str | None


@contextmanager
def servers(settings: Settings, *, with_redis: bool = True, direct: bool = True) -> Iterator[Servers]:
    """The servers of the settings; those without a URL are started here and stopped at the end.

    Args:
        settings: the environment.
        with_redis: whether Redis is wanted.
        direct: whether to go past a pooler in front of Postgres, where the settings say how.

    Raises:
        GaplessError: an embedded server is wanted and cannot be started.
    """
    from indexer.store import embedded

    with ExitStack() as stack:
        given = (settings.database_direct_url if direct else None) or settings.database_url
        database_url = given.reveal() if given else stack.enter_context(embedded.postgres(settings.data_dir))
        redis_url = settings.redis_url.reveal() if settings.redis_url else None
        if redis_url is None and with_redis:
            try:
                redis_url = stack.enter_context(embedded.redis(settings.data_dir))
            except embedded.NotInstalledError:
                log.info("REDIS_URL is unset and no embedded Redis is installed: running without a cache")
        yield Servers(database_url, redis_url)


@contextmanager
def database(servers: Servers, *, application_name: str, pool_size: int = 5) -> Iterator[Engine]:
    """An engine that was tried once.

    Args:
        servers: where Postgres is.
        application_name: how Postgres shows its connections, before what tells this process from all others.
        pool_size: connections that are kept; as many more are opened when they are needed.

    Raises:
        DatabaseError: Postgres cannot be reached, or is one that Gapless cannot work with.
    """
    name = process_name(application_name)
    engine = create_engine(servers.database_url, application_name=name, pool_size=pool_size)
    try:
        with engine.connect() as connection:
            migrate.require_usable(connection)
        if pool_size > 1:
            migrate.warn_of_pooler(engine)
    except sa.exc.DBAPIError as error:
        raise describe_failure(servers.database_url, error) from None
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def short_transaction(command: str) -> Iterator[sa.Connection]:
    """A transaction for a command that needs nothing but the database, of the current schema, and logs little.

    Args:
        command: how Postgres shows the connection: ``gapless <command>``.

    Raises:
        DatabaseError: Postgres cannot be reached, or its schema is not the current one.
    """
    settings = load_settings()
    configure("WARNING", settings.log_format)
    with servers(settings, with_redis=False) as given, database(given, application_name=f"gapless {command}") as engine:
        migrate.require_current(engine)
        with engine.begin() as connection:
            yield connection


def require_contract(connection: sa.Connection, name: str | None) -> None:
    """Makes sure that the database knows a contract, in the manifest or not; None: any will do.

    Raises:
        GaplessError: it does not.
    """
    known = sorted(connection.execute(sa.text("SELECT name FROM gapless.contracts")).scalars())
    if name is not None and name not in known:
        raise GaplessError(f"the database has no contract {name}", hint=f"it has: {', '.join(known) or 'none'}")


def prepare(engine: Engine, manifest: Manifest, settings: Settings | None = None) -> list[Change]:
    """Brings a database to the current schema, and its catalog to the manifest.

    Returns:
        What was changed in the catalog.

    Raises:
        DatabaseError: the manifest contradicts what is in the database; nothing was changed.
        GaplessError: where something was deployed (``start_block = "auto"``) could not be found out.
    """
    migrate.upgrade(engine)
    found = _start_blocks(engine, manifest, settings)
    return apply(engine, declaration(manifest, found))


def require_applied(engine: Engine, manifest: Manifest, settings: Settings, *, first: bool = False) -> None:
    """Makes sure that a manifest is the one in force, for commands that only work by it.

    Args:
        engine: the database.
        manifest: checked.
        settings: the environment.
        first: apply it where none was applied ever.

    Raises:
        GaplessError: another one was applied last; nothing was changed.
    """
    if first and (migrate.current_revision(engine) is None or _is_empty(engine)):
        prepare(engine, manifest, settings)
        return
    migrate.require_current(engine)
    if changes := compare(engine, _declared(engine, manifest, settings, silent={})).changes:
        lines = summary(changes)
        more = f" and {len(lines) - _MOST_LINES} more" if len(lines) > _MOST_LINES else ""
        raise GaplessError(
            f"{manifest.path} is not the manifest that was applied last; applying it would do: "
            f"{'; '.join(lines[:_MOST_LINES])}{more}",
            hint="gapless apply puts it in force, for a running indexer too; or name the one that is in force with "
            "GAPLESS_MANIFEST",
        )


_MOST_LINES = 5


def _is_empty(engine: Engine) -> bool:
    with engine.connect() as connection:
        return not connection.execute(sa.text("SELECT EXISTS (SELECT FROM gapless.chains)")).scalar_one()


def reachable(engine: Engine, manifest: Manifest, settings: Settings) -> tuple[Manifest, dict[str, str]]:
    """What of a manifest can be taken up now: all but what waits for a node to say where it was deployed.

    What was taken up before keeps the start that it has.

    Args:
        engine: a database with the current schema.
        manifest: checked.
        settings: the environment.

    Returns:
        The manifest with numbers for ``start_block = "auto"``, and by chain why the rest waits.

    Raises:
        GaplessError: a node answers, but cannot say where something was deployed.
    """
    silent: dict[str, ProviderError] = {}
    found = _start_blocks(engine, manifest, settings, silent)
    if silent:
        with engine.connect() as connection:
            found = catalog.load_starts(connection) | found
    return settled(manifest, found), {chain: str(error) for chain, error in silent.items()}


def difference(engine: Engine, manifest: Manifest, settings: Settings | None = None) -> list[Change]:
    """What :func:`prepare` would change in the catalog: found out, and nothing is written or locked.

    Raises:
        DatabaseError, GaplessError: as :func:`prepare`.
    """
    is_new = migrate.current_revision(engine) is None
    if is_new:
        return compared(CatalogRows(), _declared(None, manifest, settings)).changes
    migrate.require_current(engine)
    return compare(engine, _declared(engine, manifest, settings)).changes


@contextmanager
def as_if_applied(
    engine: Engine, manifest: Manifest, settings: Settings
) -> Iterator[tuple[sa.Connection, Callable[[int], Planned]]]:
    """A connection to read with, and of each chain (by id) what the catalog would be if the manifest were applied.

    Chains need not answer. Nothing is written: a database that has no tables yet has them in this transaction only.

    Raises:
        DatabaseError, GaplessError: as :func:`prepare`.
    """
    is_new = migrate.current_revision(engine) is None
    wanted = _declared(None if is_new else engine, manifest, settings, silent={})
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        if is_new:
            migrate.upgrade_within(connection)
        else:
            migrate.require_current(engine)
        rows = version.load_rows(connection, wanted)
        found = compared(rows, wanted)
        yield connection, lambda chain_id: planned.load(connection, rows, found, wanted, chain_id)
        connection.rollback()


def _declared(
    engine: Engine | None,
    manifest: Manifest,
    settings: Settings | None,
    silent: dict[str, ProviderError] | None = None,
) -> Declaration:
    """The manifest as the store wants it; ``engine`` is None where nothing is in the database yet."""
    found = _start_blocks(engine, manifest, settings, silent)
    if silent:
        known: Mapping[tuple[str, str], int] = {}
        if engine is not None:
            with engine.connect() as connection:
                known = catalog.load_starts(connection)
        found = {**known, **found}
    return declaration(settled(manifest, found))


def _start_blocks(
    engine: Engine | None,
    manifest: Manifest,
    settings: Settings | None,
    unreachable: dict[str, ProviderError] | None = None,
) -> dict[tuple[str, str], int]:
    deployments = [deployment for contract in manifest.contracts.values() for deployment in contract.deployments]
    if all(deployment.start_block != "auto" for deployment in deployments):
        return {}
    from indexer.sync.setup import deployment_block, network

    given = settings or load_settings()
    return deployment_block.start_blocks(
        engine, manifest, lambda chain: closing(network.connect(chain, given, engine)), unreachable
    )


def confirm(question: str, *, yes: bool) -> None:
    """Asks whether to do what was just shown; ``yes``: it is not asked. Ends the command where the answer is no.

    Raises:
        typer.Exit: there is no terminal to ask on.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        typer.echo("Nothing was done: there is no terminal to ask on. Run it with --yes.", err=True)
        raise typer.Exit(1)
    typer.confirm(question, abort=True)


def begin(path: Path | None = None) -> tuple[Settings, Manifest]:
    """Reads settings and manifest, and sets logging up.

    Raises:
        ProblemsError: what is wrong with them, all at once.
    """
    _share_arenas()
    settings = load_settings()
    configure(settings.log_level, settings.log_format)
    return settings, load_manifest(path or settings.manifest, environment())


@contextmanager
def until_signal(
    on_hangup: Callable[[], None] | None = None, *, status: int | None = None
) -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, in place of what they do otherwise; a second one ends the process.

    So does the time that the first one leaves (:data:`indexer.signals.WITHIN`).

    Args:
        on_hangup: what SIGHUP does; None: the same.
        status: of a process that had to be ended; None: as of one that was killed by the signal.
    """
    stop = threading.Event()
    acts = {signal.SIGTERM: stop.set, signal.SIGINT: stop.set, signal.SIGHUP: on_hangup or stop.set}
    with signals.acting_on(acts, status=status):
        yield stop


def _share_arenas() -> None:
    """Lets all threads share few arenas; nothing where the C library is another one. Call it before threads begin."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
