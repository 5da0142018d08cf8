"""What became of the sources of history that are not nodes

Revision ID: 0107
Revises: 0106
"""

import sqlalchemy as sa
from alembic import op

revision = "0107"
down_revision = "0106"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "history_sources",
        sa.Column("chain_id", sa.BigInteger(), nullable=False, comment="EIP-155 chain id"),
        sa.Column("host", sa.String(), nullable=False, comment="scheme and host only: URLs carry keys"),
        sa.Column("blocks", sa.BigInteger(), nullable=False, comment="blocks of history that were read from it"),
        sa.Column(
            "compared",
            sa.BigInteger(),
            nullable=False,
            comment="how many of its blocks were compared with headers of the chain's own nodes",
        ),
        sa.Column(
            "fallback_blocks",
            sa.BigInteger(),
            nullable=False,
            comment="blocks that were read from the nodes, since it lacked them, failed, or was wrong",
        ),
        sa.Column(
            "contradictions",
            sa.BigInteger(),
            nullable=False,
            comment="ranges in which it contradicted the nodes, the question or itself",
        ),
        sa.Column(
            "last_problem", sa.String(), comment="why blocks were last read from the nodes; null: they never were"
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when the row was last written",
        ),
        sa.PrimaryKeyConstraint("chain_id", "host", name=op.f("pk_history_sources")),
        schema="gapless",
        comment="What became of the sources of history that are not nodes: sums over all processes",
    )


def downgrade() -> None:
    op.drop_table("history_sources", schema="gapless")
