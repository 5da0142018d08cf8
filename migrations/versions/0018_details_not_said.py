"""What a node does not say of a block or a transaction is null

Revision ID: 0018
Revises: 0017
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_COLUMNS: tuple[tuple[str, str, Any, str | None, str], ...] = (
    ("block_details", "miner", sa.LargeBinary(), "fee recipient, 20 bytes", "fee recipient, 20 bytes; null: not said"),
    ("block_details", "gas_limit", sa.Numeric(78, 0), None, "null: not said"),
    ("block_details", "gas_used", sa.Numeric(78, 0), None, "null: not said"),
    ("block_details", "transaction_count", sa.BigInteger(), None, "null: not said"),
    ("transactions", "sender", sa.LargeBinary(), "who signed it, 20 bytes", "who signed it, 20 bytes; null: not said"),
)


def upgrade() -> None:
    for table, column, kind, before, after in _COLUMNS:
        op.alter_column(
            table,
            column,
            existing_type=kind,
            nullable=True,
            comment=after,
            existing_comment=before,
            schema="gapless",
        )


def downgrade() -> None:
    for table, column, kind, before, after in _COLUMNS:
        op.execute(f"DELETE FROM gapless.{table} WHERE {column} IS NULL")
        op.alter_column(
            table,
            column,
            existing_type=kind,
            nullable=False,
            comment=before,
            existing_comment=after,
            schema="gapless",
        )
