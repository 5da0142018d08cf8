"""Indexes that wait for the end of a large first backfill

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "events",
        sa.Column(
            "indexes_put_off",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="true: a large first backfill is under way, the indexes are built at its end",
        ),
        schema="gapless",
    )


def downgrade() -> None:
    op.drop_column("events", "indexes_put_off", schema="gapless")
