"""Logs of foreign shapes are counted

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "foreign_shapes",
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column(
            "topics", sa.SmallInteger(), nullable=False, comment="how many topics each log has, the first included"
        ),
        sa.Column(
            "logs",
            sa.Integer(),
            sa.Computed("cardinality(addresses)", persisted=True),
            nullable=False,
            comment="how many there are",
        ),
        sa.Column(
            "addresses",
            postgresql.ARRAY(sa.LargeBinary()),
            nullable=False,
            comment="of the contract of each log, 20 bytes",
        ),
        sa.ForeignKeyConstraint(["event_id"], ["gapless.events.id"], ondelete="CASCADE"),
        schema="gapless",
        comment="Logs of an event's signature that another declaration's indexed arguments explain, "
        "counted and not kept",
    )
    op.create_index(
        "foreign_shapes_block", "foreign_shapes", ["event_id", "chain_id", "block_number"], schema="gapless"
    )


def downgrade() -> None:
    op.drop_table("foreign_shapes", schema="gapless")
