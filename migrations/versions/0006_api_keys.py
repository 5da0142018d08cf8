"""Keys of the read API

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False, comment="whose it is, for people"),
        sa.Column("hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the key, which is kept nowhere"),
        sa.Column("prefix", sa.String(), nullable=False, comment="its first characters, to recognise it by"),
        sa.Column("scopes", postgresql.ARRAY(sa.String()), nullable=False, comment="read, webhooks, admin"),
        sa.Column(
            "origins",
            postgresql.ARRAY(sa.String()),
            server_default=sa.text("'{}'::varchar[]"),
            nullable=False,
            comment="web origins that may use it; none: any, and programs too",
        ),
        sa.Column("rate", sa.Integer(), nullable=True, comment="requests a minute; null: as the settings say"),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True, comment="null: never"),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
        schema="gapless",
        comment="Keys of the read API",
    )


def downgrade() -> None:
    op.drop_table("api_keys", schema="gapless")
