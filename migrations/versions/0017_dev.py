"""Chains for development, which may stand still

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "chains",
        sa.Column(
            "dev",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="it makes blocks when they are needed",
        ),
        schema="gapless",
    )


def downgrade() -> None:
    op.drop_column("chains", "dev", schema="gapless")
