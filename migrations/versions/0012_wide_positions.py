"""Positions in blocks as bigint; transactions of other chains' making fit

Nodes number logs as high as 0xffffffe2. Other chains have transactions of types beyond 255 and nonces beyond 64 bits.
The tables of events are upgraded by indexer.store.apply.layout_upgrade.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_POSITIONS = (
    ("children", "log_index"),
    ("undecoded_logs", "log_index"),
    ("undecoded_logs", "tx_index"),
    ("transactions", "tx_index"),
    ("block_details", "transaction_count"),
)
_SMALL = (("transactions", "type"), ("transactions", "status"))
_AMOUNTS = (
    ("transactions", "nonce"),
    ("transactions", "gas_limit"),
    ("transactions", "gas_used"),
    ("block_details", "gas_limit"),
    ("block_details", "gas_used"),
)


def upgrade() -> None:
    for table, column in _POSITIONS:
        op.alter_column(table, column, type_=sa.BigInteger(), schema="gapless")
    for table, column in _SMALL:
        op.alter_column(table, column, type_=sa.Numeric(78, 0), schema="gapless")
    for table, column in _AMOUNTS:
        op.alter_column(table, column, type_=sa.Numeric(78, 0), schema="gapless")
    op.alter_column("block_details", "size", type_=sa.Numeric(78, 0), schema="gapless")


def downgrade() -> None:
    for table, column in _POSITIONS:
        op.alter_column(table, column, type_=sa.Integer(), schema="gapless")
    for table, column in _SMALL:
        op.alter_column(table, column, type_=sa.SmallInteger(), schema="gapless")
    for table, column in _AMOUNTS:
        op.alter_column(table, column, type_=sa.Numeric(20, 0), schema="gapless")
    op.alter_column("block_details", "size", type_=sa.BigInteger(), schema="gapless")
