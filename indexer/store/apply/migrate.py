"""Bringing a database to the current static schema (``gapless migrate``)."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

import migrations
from indexer.store.apply import layout_upgrade
from indexer.store.database import DatabaseError
from indexer.store.schema.tables import SCHEMA

# Any number that no other user of advisory locks in this database is likely to choose.
_MIGRATION_LOCK = 0x6761706C657373


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
    """
    with engine.begin() as connection:
        migrated = upgrade_within(connection)
    return bool(layout_upgrade.upgrade(engine)) or migrated


def upgrade_within(connection: Connection) -> bool:
    """Does what :func:`upgrade` does in the connection's transaction, so that it can be taken back."""
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    opts = {"version_table_schema": SCHEMA}
    before = MigrationContext.configure(connection, opts=opts).get_current_revision()
    if before == latest_revision():
        return False
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return True


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
        tables = layout_upgrade.outdated(connection)
    if tables:
        raise DatabaseError(
            f"{len(tables):,} tables of events have an earlier layout than this version needs",
            hint="run: gapless migrate",
        )
