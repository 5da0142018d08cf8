"""Leases in the place of sessions' locks

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "leases",
        sa.Column(
            "name", sa.String(), nullable=False, comment="follow <chain id>, or what else one process at a time may do"
        ),
        sa.Column(
            "holder",
            sa.String(),
            nullable=False,
            comment="application_name of the sessions of the process that has it",
        ),
        sa.Column("token", sa.UUID(), nullable=False, comment="proves a renewal to be the holder's"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("leases_pkey")),
        schema="gapless",
        comment="What one process at a time may do; a right ends by itself where it is not renewed",
    )


def downgrade() -> None:
    op.drop_table("leases", schema="gapless")
