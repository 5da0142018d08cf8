"""The migrations make exactly the tables that ``store.schema.tables`` describes."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa

from indexer.store import database
from indexer.store.apply import migrate


@pytest.mark.promise("O-08")
def test_the_migrations_make_the_tables_of_the_code(migrated_url):
    engine = database.create_engine(migrated_url)
    with engine.connect() as connection:
        assert migrate.differences(connection) == []
    engine.dispose()


@pytest.fixture
def engine(migrated_url):
    engine = database.create_engine(migrated_url)
    yield engine
    engine.dispose()


def _set_revision(engine, revision):
    with engine.begin() as connection:
        if revision == migrate.DEVELOPMENT:  # it has what the first revision has, and nothing of those after it
            connection.execute(sa.text("DROP VIEW gapless.derived_coverage"))
            connection.execute(sa.text("DROP TABLE gapless.samples, gapless.derived_progress, gapless.derived"))
            connection.execute(sa.text("DROP TABLE gapless.history_sources"))
            connection.execute(sa.text("DROP SCHEMA derived"))
            connection.execute(
                sa.text("DROP TABLE gapless.own_labels CASCADE; DROP INDEX gapless.deployments_addresses")
            )
            connection.execute(sa.text("ALTER TABLE gapless.events DROP view_name, DROP view_version"))
            connection.execute(sa.text("ALTER TABLE gapless.chains DROP history_compared, DROP history_undecided"))
            connection.execute(sa.text("DROP VIEW gapless.program_states"))
            connection.execute(sa.text("DROP TABLE gapless.programs, gapless.program_disturbances"))
            connection.execute(sa.text("DROP FUNCTION gapless.disturb_programs CASCADE"))
        connection.execute(sa.text("UPDATE gapless.alembic_version SET version_num = :r"), {"r": revision})


def test_a_database_of_the_last_development_revision_is_taken_over(engine):
    _set_revision(engine, migrate.DEVELOPMENT)
    assert migrate.upgrade(engine)
    assert migrate.current_revision(engine) == migrate.latest_revision()
    migrate.require_current(engine)


def test_a_schema_that_was_changed_by_hand_is_not_taken_over(engine):
    _set_revision(engine, migrate.DEVELOPMENT)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE gapless.jobs ADD COLUMN mine text"))
    with pytest.raises(database.DatabaseError, match="mine"):
        migrate.upgrade(engine)
    assert migrate.current_revision(engine) == migrate.DEVELOPMENT


@pytest.mark.parametrize(
    ("revision", "told", "hint"),
    [
        ("0007", "development version before 0.2.0", "0020_foreign_shapes.py"),
        ("9999", "a newer one made it", "newest version"),
    ],
)
def test_a_revision_that_no_migration_leads_on_from_is_refused_with_the_way_out(engine, revision, told, hint):
    _set_revision(engine, revision)
    with pytest.raises(database.DatabaseError, match=told) as caught:
        migrate.upgrade(engine)
    assert hint in (caught.value.hint or "")
    assert migrate.current_revision(engine) == revision


def test_every_view_says_what_its_columns_are(migrated_url):
    with psycopg.connect(migrated_url) as connection:
        silent = connection.execute("""
            SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
            WHERE c.relkind = 'v' AND c.relnamespace = 'gapless'::regnamespace
              AND col_description(c.oid, a.attnum) IS NULL
        """).fetchall()
    assert silent == []
