"""How much of history was compared with blooms, and how much of that could not be decided

Revision ID: 0109
Revises: 0108
"""

import sqlalchemy as sa
from alembic import op

revision = "0109"
down_revision = "0108"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, comment in (
        ("history_compared", "blocks of history that were compared with the blooms of their headers"),
        ("history_undecided", "blocks of history that were to be compared, and whose blooms did not decide"),
    ):
        op.add_column(
            "chains",
            sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment=comment),
            schema="gapless",
        )


def downgrade() -> None:
    for name in ("history_undecided", "history_compared"):
        op.drop_column("chains", name, schema="gapless")
