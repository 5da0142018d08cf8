"""Findings about derived tables

Revision ID: 0111
Revises: 0110
"""

from typing import Final

from alembic import op

revision = "0111"
down_revision = "0110"
branch_labels = None
depends_on = None

_COMMENT: Final = (
    "COMMENT ON COLUMN gapless.findings.kind IS 'gap, outside, duplicate, dangling, child, digest, balance, "
)


def upgrade() -> None:
    op.execute(f"{_COMMENT}derived, against or proof'")


def downgrade() -> None:
    op.execute(f"{_COMMENT}against or proof'")
