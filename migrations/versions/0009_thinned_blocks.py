"""How far a chain's old blocks were thinned out

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "chains",
        sa.Column(
            "thinned_number",
            sa.BigInteger(),
            nullable=True,
            comment="up to here blocks that bore no log were thinned out",
        ),
        schema="gapless",
    )
    op.create_table_comment(
        "blocks",
        "Blocks that bore a log, ends of chunks, all above finalized, and some of those followed before",
        existing_comment="Blocks that bore a log, ends of chunks, and all above finalized that the reorg check needs",
        schema="gapless",
    )


def downgrade() -> None:
    op.create_table_comment(
        "blocks",
        "Blocks that bore a log, ends of chunks, and all above finalized that the reorg check needs",
        schema="gapless",
    )
    op.drop_column("chains", "thinned_number", schema="gapless")
