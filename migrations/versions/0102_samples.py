"""How each chain did, once a minute

Revision ID: 0102
Revises: 0101
"""

import sqlalchemy as sa
from alembic import op

revision = "0102"
down_revision = "0101"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "samples",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lag_seconds", sa.Float(), comment="age of the newest indexed block beside the newest there is"),
        sa.Column("requests", sa.BigInteger(), nullable=False, comment="calls to nodes since the indexer's start"),
        sa.Column(
            "rows_written",
            sa.BigInteger(),
            nullable=False,
            comment="rows put into the tables of the chain's contracts since Postgres' statistics begin",
        ),
        sa.PrimaryKeyConstraint("chain_id", "minute", name=op.f("pk_samples")),
        schema="gapless",
        comment="How each chain did, once a minute for a day: counters, whose differences are what happened between",
    )


def downgrade() -> None:
    op.drop_table("samples", schema="gapless")
