"""Findings of audits, and how digests were taken

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "findings",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=True, comment="null: the chain as a whole is concerned"),
        sa.Column("source_id", sa.Integer(), nullable=True, comment="null: rows that belong to no source"),
        sa.Column(
            "kind",
            sa.String(),
            nullable=False,
            comment="gap, outside, duplicate, dangling, child, digest, against or proof",
        ),
        sa.Column("first_block", sa.BigInteger(), nullable=False),
        sa.Column("last_block", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False, comment="rows or blocks that are concerned"),
        sa.Column("detail", sa.String(), nullable=False, comment="what is wrong, for people"),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("repaired_at", sa.DateTime(timezone=True), nullable=True, comment="null: not yet"),
        sa.ForeignKeyConstraint(["chain_id"], ["gapless.chains.chain_id"]),
        sa.ForeignKeyConstraint(["event_id"], ["gapless.events.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["source_id"], ["gapless.sources.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="What audits found wrong, until it is repaired",
    )
    op.create_index("findings_chain", "findings", ["chain_id", "id"], unique=False, schema="gapless")
    op.add_column(
        "digests",
        sa.Column(
            "method",
            sa.String(),
            server_default="",
            nullable=False,
            comment="Postgres' major version and the layout's: another one hashes otherwise",
        ),
        schema="gapless",
    )


def downgrade() -> None:
    op.drop_column("digests", "method", schema="gapless")
    op.drop_index("findings_chain", table_name="findings", schema="gapless")
    op.drop_table("findings", schema="gapless")
