"""The migrations make exactly the tables that ``store.schema.tables`` describes."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa

from indexer.store import database
from indexer.store.apply import migrate
from tests.integration.schema_revisions import FIRST, downgrade


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
    if revision == migrate.DEVELOPMENT:  # it has what the first revision has, and nothing of those after it
        downgrade(engine.url.render_as_string(hide_password=False), FIRST)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE gapless.alembic_version SET version_num = :r"), {"r": revision})


def test_what_goes_back_to_the_first_revision_comes_to_the_same_schema_again(engine):
    _set_revision(engine, migrate.DEVELOPMENT)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE gapless.alembic_version SET version_num = :r"), {"r": FIRST})
    assert migrate.upgrade(engine)
    with engine.connect() as connection:
        assert migrate.differences(connection) == []


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
