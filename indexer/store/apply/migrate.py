"""Make a database ready for this version of Gapless (``gapless migrate``).

First whether the Postgres behind DATABASE_URL can be used, then the static schema (Alembic), then the tables of
events of an earlier layout. Layout 2 keeps ``tx_index`` and ``log_index`` as ``bigint``. Postgres rewrites a table
for that and it cannot be read meanwhile, so each table has a transaction of its own: an upgrade that is interrupted
goes on where it was.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg.errors
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy.engine import Connection, Engine

import migrations
from indexer.store import database
from indexer.store.apply import readable_views
from indexer.store.database import PATIENCE, DatabaseError, is_pooled, psycopg_connection
from indexer.store.schema.layout import LAYOUT_VERSION
from indexer.store.schema.tables import SCHEMA, metadata
from indexer.store.tokens import transfers

log = logging.getLogger(__name__)

OLDEST: Final = 15
"""The oldest major version that the tests were run on; multiranges, which coverage is kept in, came with 14."""

_LOOK_EVERY: Final = 2.0
_LOOKS: Final = 5


def require_usable(connection: Connection) -> None:
    """Refuses a server or a database that Gapless cannot work with.

    Raises:
        DatabaseError: naming what it is and what is needed.
    """
    version, encoding, name = connection.execute(
        sa.text(
            "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), current_database()"
        )
    ).one()
    if version < OLDEST * 10_000:
        raise DatabaseError(
            f"Postgres there is of version {version // 10_000}; Gapless needs {OLDEST} or newer",
            hint="upgrade the server, or unset DATABASE_URL to use the embedded Postgres",
        )
    if encoding != "UTF8":
        raise DatabaseError(
            f"the database {name} has the encoding {encoding}; names of tokens and texts of events need UTF8",
            hint=f"make another one: CREATE DATABASE {name}_utf8 ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0",
        )


def refuses_changes(connection: Connection) -> str | None:
    """Why the database takes no changes, or None where it does."""
    is_standby, is_read_only = connection.execute(
        sa.text("SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'")
    ).one()
    if is_standby:
        return "it is a standby of another server"
    if is_read_only:
        return "default_transaction_read_only is on there"
    return None


def wait_for_changes(engine: Engine, stop: threading.Event) -> bool:
    """Waits until the database takes changes, and says so once.

    Returns:
        False if it was stopped before.

    Raises:
        sqlalchemy.exc.DBAPIError: Postgres could not be asked.
    """
    told = ""
    while not stop.is_set():
        with engine.connect() as connection:
            why = refuses_changes(connection)
        if why is None:
            if told:
                log.info("the database takes changes again")
            return True
        if why != told:
            log.warning(
                "the database takes no changes: %s; waiting until it does (DATABASE_URL must lead to the primary)", why
            )
        told = why
        engine.dispose()  # a session keeps the default with which it began
        stop.wait(_LOOK_EVERY)
    return False


def is_pooled_by_transaction(engine: Engine) -> bool:
    """Whether a pooler stands in between that gives each transaction another session (pgbouncer's transaction mode).

    Two connections that are open at the same time are never served by one process otherwise, nor one by two.
    """
    pid = sa.text("SELECT pg_backend_pid()")
    with engine.connect() as one, engine.connect() as other:
        if not is_pooled(psycopg_connection(one)):
            return False
        seen: tuple[set[int], set[int]] = set(), set()
        for _ in range(_LOOKS):  # other clients of the pooler may take the session that was just used
            for connection, pids in zip((one, other), seen, strict=True):
                connection.rollback()
                pids.add(connection.execute(pid).scalar_one())
                connection.rollback()
        return bool(seen[0] & seen[1]) or max(map(len, seen)) > 1


def warn_of_pooler(engine: Engine) -> None:
    """Says so where each transaction has another session: all works there, but some of what protects it does not."""
    if is_pooled_by_transaction(engine):
        log.warning(
            "a pooler in transaction mode stands before Postgres: sessions keep no time-outs there, and a process "
            "that is frozen keeps its locks longer; set DATABASE_DIRECT_URL to Postgres' own address, which all "
            "commands but gapless serve then use"
        )


_OUTDATED = sa.text("""
    SELECT e.id, c.schema_name, e.table_name FROM gapless.events e JOIN gapless.contracts c ON c.id = e.contract_id
    WHERE e.layout_version < :version ORDER BY e.id
""")

_IS_VIEW_OLD = sa.text("""
    SELECT EXISTS (SELECT FROM information_schema.columns WHERE table_schema = 'gapless' AND table_name = 'transfers'
                   AND column_name = 'log_index' AND data_type = 'integer')
""")


def outdated_tables(connection: Connection) -> list[tuple[int, str, str]]:
    """The tables of an earlier layout: the event's id, the schema and the table."""
    rows = connection.execute(_OUTDATED, {"version": LAYOUT_VERSION})
    return [(row.id, row.schema_name, row.table_name) for row in rows]


def upgrade_layouts(engine: Engine, *, patience: float = PATIENCE) -> int:
    """Upgrade all tables of an earlier layout; the view of transfers is not there meanwhile.

    Args:
        engine: the database, with the current static schema.
        patience: seconds for which a table that is being read is tried again.

    Returns:
        How many tables were upgraded.

    Raises:
        DatabaseError: a table is in use or a view of the operator's depends on it; what was upgraded stays so.
    """
    with engine.connect() as connection:
        waiting = outdated_tables(connection)
        is_view_old = connection.execute(_IS_VIEW_OLD).scalar_one()
    for event_id, schema, table in waiting:
        with _explained(f"{schema}.{table}"):
            database.attempt(
                engine,
                f"{schema}.{table} cannot be upgraded to layout {LAYOUT_VERSION} (gapless migrate)",
                partial(_upgrade_layout, event_id=event_id, table=(schema, table)),
                patience=patience,
            )
        log.info("%s.%s was upgraded to layout %d", schema, table, LAYOUT_VERSION)
    if waiting or is_view_old:
        with _explained("gapless.transfers"):
            database.attempt(engine, "the view gapless.transfers cannot be made anew", transfers.drop_view)
        transfers.keep_view(engine)
    return len(waiting)


def _upgrade_layout(connection: Connection, *, event_id: int, table: tuple[str, str]) -> None:
    # Another process may have upgraded it: the event's row is locked first.
    version = connection.execute(
        sa.text("SELECT layout_version FROM gapless.events WHERE id = :id FOR UPDATE"), {"id": event_id}
    ).scalar_one_or_none()
    if version is None or version >= LAYOUT_VERSION:
        return
    transfers.drop_view(connection)
    readable_views.drop(connection, [table])
    psycopg_connection(connection).execute(
        sql.SQL("ALTER TABLE {} ALTER tx_index TYPE bigint, ALTER log_index TYPE bigint").format(sql.Identifier(*table))
    )
    connection.execute(
        sa.text("UPDATE gapless.events SET layout_version = :version WHERE id = :id"),
        {"version": LAYOUT_VERSION, "id": event_id},
    )


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Say what to do where a view of the operator's is in the way."""
    try:
        yield
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.DependentObjectsStillExist) as error:
        said = f"{error.diag.message_primary}: {error.diag.message_detail}"
    else:
        return
    raise DatabaseError(
        f"{name} cannot be upgraded to layout {LAYOUT_VERSION}: {said}",
        hint="drop that view, run: gapless migrate, and make the view again. What was upgraded stays so",
    )


# Any number that no other user of advisory locks in this database is likely to choose.
_MIGRATION_LOCK = 0x6761706C657373

_FIRST: Final = "0101"
# Before the first release there was a chain of migrations. Its last revision made what the first one makes now.
DEVELOPMENT: Final = "0020"
_DEVELOPMENT_FILE: Final = "migrations/versions/0020_foreign_shapes.py"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def latest_revision() -> str:
    """The revision that this version of Gapless works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def current_revision(engine: Engine) -> str | None:
    """The revision of a database, or None if it has none of our tables."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA}).get_current_revision()


def upgrade(engine: Engine) -> bool:
    """Migrates to the latest revision in one transaction, then the tables of events one by one.

    Several processes at once take turns.

    Returns:
        Whether anything had to be done.

    Raises:
        DatabaseError: a table of an event could not be upgraded now.
        BusyError: others hold what the migration needs all the time; nothing was changed.
    """
    migrated = database.attempt(engine, "the static tables cannot be migrated (gapless migrate)", upgrade_within)
    upgraded = upgrade_layouts(engine)
    readable_views.keep_or_say(engine)
    return bool(upgraded) or migrated


def upgrade_within(connection: Connection) -> bool:
    """Does what :func:`upgrade` does in the connection's transaction, so that it can be taken back.

    Another process that migrates is waited for; a lock of any other for no more than a moment, since everything that
    comes after would queue behind that wait.
    """
    connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    database.wait_briefly(connection)
    connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    opts = {"version_table_schema": SCHEMA}
    before = MigrationContext.configure(connection, opts=opts).get_current_revision()
    if before == latest_revision():
        return False
    config = _config()
    if before == DEVELOPMENT:
        # It has the first revision's schema, which is looked at when the later ones are there, too.
        connection.execute(sa.text(f"UPDATE {SCHEMA}.alembic_version SET version_num = :first"), {"first": _FIRST})
    elif before is not None:
        _require_known(before, config)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    if before == DEVELOPMENT and (found := differences(connection)):
        raise DatabaseError(
            f"the database has schema revision {DEVELOPMENT}, but differs from it in {len(found)} places; "
            f"the first: {found[0]}",
            hint="undo what was changed by hand in the schema gapless, then run: gapless migrate",
        )
    return True


def differences(connection: Connection) -> list[Any]:
    """What distinguishes the static tables of a database from those of the code, as Alembic sees it."""
    options = {
        "include_schemas": True,
        "include_name": lambda name, kind, _: kind != "schema" or name == SCHEMA,
        "include_object": lambda _object, name, kind, *_: kind != "table" or name != "alembic_version",
    }
    # A user who is called like our schema makes it the default one, which Alembic then takes for no schema.
    dialect, default = connection.dialect, connection.dialect.default_schema_name
    dialect.default_schema_name = "public"
    try:
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))
    finally:
        dialect.default_schema_name = default


def _require_known(revision: str, config: Config) -> None:
    """Refuse a revision that no migration leads on from."""
    if any(script.revision == revision for script in ScriptDirectory.from_config(config).walk_revisions()):
        return
    if revision < _FIRST:
        raise DatabaseError(
            f"the database has schema revision {revision}, made by a development version before 0.2.0",
            hint=f"check out the last commit that has {_DEVELOPMENT_FILE} and run its `gapless migrate`, which leads "
            f"to {DEVELOPMENT}; then run this version's. Or begin with an empty database",
        )
    raise DatabaseError(
        f"the database has schema revision {revision}, which this version does not know: a newer one made it",
        hint="run the newest version of Gapless that was used with this database",
    )


def require_current(engine: Engine) -> None:
    """Refuses a database that this version of Gapless was not made for."""
    revision = current_revision(engine)
    if revision != latest_revision():
        found = "no Gapless schema" if revision is None else f"schema revision {revision}"
        raise DatabaseError(
            f"the database has {found}; this version needs revision {latest_revision()}",
            hint="run: gapless migrate",
        )
    with engine.connect() as connection:
        tables = outdated_tables(connection)
    if tables:
        raise DatabaseError(
            f"{len(tables):,} tables of events have an earlier layout than this version needs",
            hint="run: gapless migrate",
        )
