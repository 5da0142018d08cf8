"""A database of an earlier revision of the schema, made by the migrations' own way back."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

import migrations
from indexer.store import database

FIRST = "0101"
"""The revision that makes the tables of the first version."""


def downgrade(url: str, revision: str) -> None:
    """Takes a database's schema back to a revision."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    engine = database.create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    engine.dispose()
