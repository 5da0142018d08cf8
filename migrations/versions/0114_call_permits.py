"""Ceilings of endpoints that all processes keep together

Revision ID: 0114
Revises: 0113
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0114"
down_revision = "0113"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "call_permits",
        sa.Column(
            "endpoint",
            sa.String(),
            primary_key=True,
            comment="chain, scheme and host, and which one of that host",
        ),
        sa.Column(
            "starts_at",
            ARRAY(sa.DateTime(timezone=True)),
            nullable=False,
            comment="when calls start that processes have reserved, the last second of them",
        ),
        sa.Column("calls", ARRAY(sa.Integer()), nullable=False, comment="how many calls start then"),
        schema="gapless",
        comment="How all processes together keep requests_per_second; unlogged, since it is worth a second",
        prefixes=["UNLOGGED"],
    )


def downgrade() -> None:
    op.drop_table("call_permits", schema="gapless")
