"""Alembic: the static tables of schema ``gapless``. Event tables are made from ABIs and are not here."""
