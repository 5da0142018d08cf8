"""Webhooks of the read API

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_now = sa.text("now()")
_no = sa.text("'{}'::jsonb")


def _moment(name: str, comment: str | None = None, *, now: bool = False) -> sa.Column:
    return sa.Column(
        name, sa.DateTime(timezone=True), nullable=not now, server_default=_now if now else None, comment=comment
    )


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False, comment="who made it, such as: key 3"),
        sa.Column("key_id", sa.Integer(), nullable=True, comment="of the key that made it; it ends with that key"),
        sa.Column("url", sa.LargeBinary(), nullable=False, comment="encrypted: paths and queries carry secrets"),
        sa.Column("host", sa.String(), nullable=False, comment="the URL's host, which may be shown"),
        sa.Column("secret", sa.LargeBinary(), nullable=False, comment="encrypted; signs the messages"),
        sa.Column("old_secret", sa.LargeBinary(), nullable=True, comment="encrypted; signs too until old_secret_until"),
        _moment("old_secret_until"),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("contract", sa.String(), nullable=True, comment="null: all of the chain"),
        sa.Column("event", sa.String(), nullable=True, comment="its API name; null: all of the contract"),
        sa.Column(
            "filters", postgresql.JSONB(), server_default=_no, nullable=False, comment="as in the URL of the rows"
        ),
        sa.Column("finality", sa.String(), server_default="finalized", nullable=False),
        sa.Column("batch", sa.Integer(), server_default="100", nullable=False, comment="most rows of a message"),
        sa.Column("state", sa.String(), server_default="active", nullable=False, comment="active, paused or disabled"),
        sa.Column("reason", sa.String(), nullable=True, comment="why it is disabled, or not delivered"),
        sa.Column("position", sa.String(), nullable=False, comment="a cursor: all up to it was delivered"),
        sa.Column(
            "told_block",
            sa.BigInteger(),
            nullable=True,
            comment="no row of a later block was in a message; null: none at all was",
        ),
        sa.Column("looked", sa.String(), nullable=True, comment="the chain's state in which nothing more was found"),
        sa.Column("sequence", sa.BigInteger(), server_default="0", nullable=False, comment="of the newest message"),
        sa.Column("message_id", sa.String(), nullable=True, comment="of the message that is not acknowledged yet"),
        sa.Column("message_type", sa.String(), nullable=True),
        sa.Column("message", sa.LargeBinary(), nullable=True, comment="its body, the same at every attempt"),
        sa.Column("message_position", sa.String(), nullable=True, comment="the position once it is acknowledged"),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False, comment="failed attempts of it"),
        _moment("due_at", "when to look or to try again", now=True),
        sa.Column("test_id", sa.String(), nullable=True, comment="of a test message that was asked for"),
        sa.Column("lease", sa.String(), nullable=True, comment="who is delivering"),
        _moment("leased_until"),
        _moment("created_at", now=True),
        _moment("delivered_at", "when a message was last acknowledged"),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["key_id"], ["gapless.api_keys.id"]),
        schema="gapless",
        comment="Subscriptions to rows, delivered by HTTP",
    )
    op.create_index("webhooks_owner_idx", "webhooks", ["owner"], schema="gapless")
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("webhook_id", sa.String(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("message_type", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False, comment="1 is the first"),
        _moment("at", now=True),
        sa.Column("status", sa.Integer(), nullable=True, comment="of the answer; null: there was none"),
        sa.Column("error", sa.String(), nullable=True, comment="why there was no answer"),
        sa.Column("answer", sa.String(), nullable=True, comment="its first bytes"),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False, comment="of the message"),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["webhook_id"], ["gapless.webhooks.id"], ondelete="CASCADE"),
        schema="gapless",
        comment="Attempts to deliver messages, kept for some days",
    )
    op.create_index("webhook_deliveries_webhook_id_idx", "webhook_deliveries", ["webhook_id", "id"], schema="gapless")
    op.create_index("webhook_deliveries_at_idx", "webhook_deliveries", ["at"], schema="gapless")


def downgrade() -> None:
    op.drop_table("webhook_deliveries", schema="gapless")
    op.drop_table("webhooks", schema="gapless")
