"""Wanted indexes, blocks and transactions of events, deployment blocks, definitions of snapshot series

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "events",
        sa.Column(
            "indexes",
            postgresql.ARRAY(sa.String()),
            server_default=sa.text("'{}'::varchar[]"),
            nullable=False,
            comment="columns that are to have an index",
        ),
        schema="gapless",
    )
    op.add_column(
        "deployments",
        sa.Column(
            "include",
            postgresql.ARRAY(sa.String()),
            server_default=sa.text("'{}'::varchar[]"),
            nullable=False,
            comment="what to keep besides the logs: block, transaction, receipt",
        ),
        schema="gapless",
    )
    op.add_column(
        "deployments",
        sa.Column(
            "included",
            postgresql.INT8MULTIRANGE(),
            server_default=sa.text("'{}'::int8multirange"),
            nullable=False,
            comment="blocks for whose events all of include is there",
        ),
        schema="gapless",
    )
    op.add_column(
        "series",
        sa.Column(
            "definition",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="arguments and names of the calls, and the query; null: none of them",
        ),
        schema="gapless",
    )
    op.create_table(
        "deployment_blocks",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False, comment="first block with code at the address"),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "address"),
        schema="gapless",
        comment='Where contracts with start_block = "auto" were deployed, as an archive node told once',
    )
    op.create_table(
        "block_details",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(), nullable=False),
        sa.Column("block_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("miner", sa.LargeBinary(), nullable=False, comment="fee recipient, 20 bytes"),
        sa.Column("gas_limit", sa.Numeric(20, 0), nullable=False),
        sa.Column("gas_used", sa.Numeric(20, 0), nullable=False),
        sa.Column("base_fee", sa.Numeric(78, 0), nullable=True, comment="wei per gas; null: before EIP-1559"),
        sa.Column("transaction_count", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True, comment="bytes"),
        sa.PrimaryKeyConstraint("chain_id", "block_number"),
        schema="gapless",
        comment="Blocks that bore events of contracts with include = block",
    )
    op.create_table(
        "transactions",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("tx_index", sa.Integer(), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(), nullable=False),
        sa.Column("block_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sender", sa.LargeBinary(), nullable=False, comment="who signed it, 20 bytes"),
        sa.Column("recipient", sa.LargeBinary(), nullable=True, comment="20 bytes; null: a contract was created"),
        sa.Column("type", sa.SmallInteger(), nullable=True, comment="EIP-2718 type; null: not said"),
        sa.Column("value", sa.Numeric(78, 0), nullable=True, comment="wei; null: transaction not included"),
        sa.Column("nonce", sa.Numeric(20, 0), nullable=True, comment="null: transaction not included"),
        sa.Column("gas_limit", sa.Numeric(20, 0), nullable=True, comment="null: transaction not included"),
        sa.Column("status", sa.SmallInteger(), nullable=True, comment="1: success; null: no receipt, or a state root"),
        sa.Column("gas_used", sa.Numeric(20, 0), nullable=True, comment="null: receipt not included"),
        sa.Column(
            "effective_gas_price", sa.Numeric(78, 0), nullable=True, comment="wei per gas; null: receipt not included"
        ),
        sa.Column("created_contract", sa.LargeBinary(), nullable=True, comment="the contract it created, 20 bytes"),
        sa.PrimaryKeyConstraint("chain_id", "block_number", "tx_index"),
        schema="gapless",
        comment="Transactions that bore events of contracts with include = transaction or receipt",
    )
    op.create_index("transactions_hash", "transactions", ["chain_id", "tx_hash"], unique=False, schema="gapless")
    op.create_index(
        "transactions_sender",
        "transactions",
        ["chain_id", "sender", "block_number", "tx_index"],
        unique=False,
        schema="gapless",
    )


def downgrade() -> None:
    op.drop_table("transactions", schema="gapless")
    op.drop_table("block_details", schema="gapless")
    op.drop_table("deployment_blocks", schema="gapless")
    op.drop_column("series", "definition", schema="gapless")
    op.drop_column("deployments", "included", schema="gapless")
    op.drop_column("deployments", "include", schema="gapless")
    op.drop_column("events", "indexes", schema="gapless")
