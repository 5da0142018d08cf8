"""What could not be fetched is kept with its reason, so that the rest goes on; how far deployments were compared

Revision ID: 0013
Revises: 0012
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def _trouble() -> list[sa.Column[Any]]:
    return [
        sa.Column("reason", sa.String(), nullable=False, comment="what the nodes said, for people"),
        sa.Column("failures", sa.BigInteger(), server_default="1", nullable=False, comment="how often in a row"),
        sa.Column("failed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=False, comment="not asked for again before"),
    ]


def upgrade() -> None:
    op.add_column(
        "deployment_blocks",
        sa.Column(
            "checked_from",
            sa.BigInteger(),
            nullable=True,
            comment="from here to block_number no log of the address was found; null: nobody looked",
        ),
        schema="gapless",
    )
    op.alter_column(
        "deployment_blocks",
        "block_number",
        comment="first block with code at the address, or with its log",
        schema="gapless",
    )
    op.create_table(
        "failed_ranges",
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("first_block", sa.BigInteger(), nullable=False),
        sa.Column("last_block", sa.BigInteger(), nullable=False),
        *_trouble(),
        sa.ForeignKeyConstraint(["source_id"], ["gapless.sources.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("source_id", "first_block"),
        schema="gapless",
        comment="Blocks of history that could not be fetched lately, and when they are asked for again",
    )
    op.create_table(
        "missing_details",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False, comment="block, transaction or receipt"),
        sa.Column(
            "tx_index", sa.BigInteger(), nullable=False, comment="place of the transaction; -1: the block itself"
        ),
        sa.Column("tx_hash", sa.LargeBinary(), nullable=False, comment="of the transaction, or of the block"),
        *_trouble(),
        sa.PrimaryKeyConstraint("chain_id", "block_number", "kind", "tx_index"),
        schema="gapless",
        comment="What include names and no node gave; asked for again and again, at growing intervals",
    )
    op.create_index("missing_details_retry", "missing_details", ["chain_id", "retry_at"], schema="gapless")


def downgrade() -> None:
    op.drop_table("missing_details", schema="gapless")
    op.drop_table("failed_ranges", schema="gapless")
    op.alter_column(
        "deployment_blocks", "block_number", comment="first block with code at the address", schema="gapless"
    )
    op.drop_column("deployment_blocks", "checked_from", schema="gapless")
