"""When a chain's tip last changed

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "chains",
        sa.Column(
            "moved_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the tip last changed, or the chain was first followed",
        ),
        schema="gapless",
    )


def downgrade() -> None:
    op.drop_column("chains", "moved_at", schema="gapless")
