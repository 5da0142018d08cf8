"""Alembic's entry: runs the migrations on the connection that ``indexer.store.apply.migrate`` hands over.

``alembic revision --autogenerate`` (for developers) connects by DATABASE_URL instead.
"""

import os

import sqlalchemy as sa
from alembic import context

from indexer.store.database import create_engine
from indexer.store.schema.tables import SCHEMA, metadata


def _run(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=lambda name, type_, _parents: type_ != "schema" or name == SCHEMA,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


_connection = context.config.attributes.get("connection")
if _connection is not None:
    _run(_connection)
else:
    with create_engine(os.environ["DATABASE_URL"]).begin() as _own_connection:
        _own_connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        _run(_own_connection)
