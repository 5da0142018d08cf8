"""Bringing a database to the current static schema (``gapless migrate``)."""

from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

import migrations
from indexer.store.apply import layout_upgrade
from indexer.store.database import DatabaseError
from indexer.store.schema.tables import SCHEMA, metadata

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
    if before == DEVELOPMENT:
        _take_over(connection)
    elif before is not None:
        _require_known(before, config)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
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


def _take_over(connection: Connection) -> None:
    """Give a database of the last development revision the first revision, whose schema it has."""
    if latest_revision() == _FIRST and (found := differences(connection)):
        raise DatabaseError(
            f"the database has schema revision {DEVELOPMENT}, but differs from it in {len(found)} places; "
            f"the first: {found[0]}",
            hint="undo what was changed by hand in the schema gapless, then run: gapless migrate",
        )
    connection.execute(sa.text(f"UPDATE {SCHEMA}.alembic_version SET version_num = :first"), {"first": _FIRST})


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
        tables = layout_upgrade.outdated(connection)
    if tables:
        raise DatabaseError(
            f"{len(tables):,} tables of events have an earlier layout than this version needs",
            hint="run: gapless migrate",
        )
