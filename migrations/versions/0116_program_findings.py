"""Findings about tables of programs

Revision ID: 0116
Revises: 0115
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0116"
down_revision = "0115"
branch_labels = None
depends_on = None

_COMMENT: Final = (
    "COMMENT ON COLUMN gapless.findings.kind IS 'gap, outside, duplicate, dangling, child, digest, balance, "
)


def upgrade() -> None:
    op.add_column(
        "findings",
        sa.Column(
            "program_id",
            sa.Integer,
            sa.ForeignKey("gapless.programs.id", ondelete="CASCADE"),
            comment="the build of a program that is concerned, gapless.programs.id; null: none is",
        ),
        schema="gapless",
    )
    op.execute(f"{_COMMENT}derived, program, against or proof'")


def downgrade() -> None:
    op.execute(f"{_COMMENT}derived, against or proof'")
    op.execute("DELETE FROM gapless.findings WHERE kind = 'program'")
    op.drop_column("findings", "program_id", schema="gapless")
