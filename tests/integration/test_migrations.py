"""The migrations make exactly the tables that ``store.tables`` describes."""

from __future__ import annotations

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from indexer.store import database
from indexer.store.schema import tables


@pytest.mark.promise("O-08")
def test_the_migrations_make_the_tables_of_the_code(migrated_url):
    engine = database.create_engine(migrated_url)
    with engine.connect() as connection:
        # The embedded Postgres' user is called like our schema, which Postgres takes for the default one then.
        connection.dialect.default_schema_name = "public"
        options = {
            "include_schemas": True,
            "include_name": lambda name, kind, _: kind != "schema" or name == tables.SCHEMA,
            "include_object": lambda _object, name, kind, *_: kind != "table" or name != "alembic_version",
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_every_view_says_what_its_columns_are(migrated_url):
    with psycopg.connect(migrated_url) as connection:
        silent = connection.execute("""
            SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
            WHERE c.relkind = 'v' AND c.relnamespace = 'gapless'::regnamespace
              AND col_description(c.oid, a.attnum) IS NULL
        """).fetchall()
    assert silent == []
