"""What endpoints have cost, by day

Revision ID: 0115
Revises: 0114
"""

import sqlalchemy as sa
from alembic import op

revision = "0115"
down_revision = "0114"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "credit_days",
        sa.Column("chain_id", sa.BigInteger(), nullable=False, comment="EIP-155 chain id"),
        sa.Column("endpoint", sa.String(), nullable=False, comment="scheme and host, and which one of that host"),
        sa.Column("day", sa.Date(), nullable=False, comment="in UTC"),
        sa.Column("position", sa.Integer(), nullable=False, comment="place among the chain's endpoints that are asked"),
        sa.Column("budget", sa.BigInteger(), comment="credits_per_day of the manifest, where it says so"),
        sa.Column(
            "head",
            sa.BigInteger(),
            nullable=False,
            comment="credits that were spent, or taken to be, on all but history",
        ),
        sa.Column(
            "history", sa.BigInteger(), nullable=False, comment="credits that were spent, or taken to be, on history"
        ),
        sa.Column(
            "pace",
            sa.String(),
            nullable=False,
            server_default=sa.text("'full'"),
            comment="history, as far as credits go: full, slowed or stopped; spent: nothing is asked any more",
        ),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False, comment="when the day was counted first"),
        sa.Column("history_from", sa.DateTime(timezone=True), nullable=False, comment="when history may take more"),
        sa.Column("price", sa.Numeric(), comment="of a million credits, where the manifest says so"),
        sa.Column("currency", sa.String(), comment="of the price, as the manifest writes it"),
        sa.PrimaryKeyConstraint("chain_id", "endpoint", "day"),
        comment="What endpoints have cost, in credits of their providers, for 400 days",
        schema="gapless",
    )


def downgrade() -> None:
    op.drop_table("credit_days", schema="gapless")
