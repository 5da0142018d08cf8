"""Jobs asked for through the API, and the secrets of its short-lived tokens

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_now = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "token_secrets",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "secret", sa.LargeBinary(), nullable=False, comment="32 random bytes; whoever knows them can make tokens"
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="What the API signs its short-lived tokens with; the newest signs, older ones end",
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False, comment="repair, audit, redecode or refresh_tokens"),
        sa.Column("parameters", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.String(), server_default="queued", nullable=False),
        sa.Column("progress", postgresql.JSONB(), nullable=True, comment="how far it is, as the job's kind tells it"),
        sa.Column("result", postgresql.JSONB(), nullable=True, comment="what came of it, once it is done"),
        sa.Column("error", sa.String(), nullable=True, comment="why it failed"),
        sa.Column("created_by", sa.String(), nullable=False, comment="who asked for it, such as: key 3"),
        sa.Column("cancel_asked", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("worker", sa.String(), nullable=True, comment="the process that is at it"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False, comment="how often it was begun"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=_now, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "heartbeat_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when its worker was last heard of; taken over when that is long ago",
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="jobs_state"),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="Work that was asked for through the API, and what became of it",
    )
    op.create_index(
        "jobs_waiting",
        "jobs",
        ["kind", "id"],
        unique=False,
        schema="gapless",
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )


def downgrade() -> None:
    op.drop_table("jobs", schema="gapless")
    op.drop_table("token_secrets", schema="gapless")
