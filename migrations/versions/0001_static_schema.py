"""Static schema

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    catalog = op.create_table(
        "catalog",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="always 1"),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="+1 with every change of what is declared"),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="One row: the version of contracts, events, sources and series as a whole",
    )
    op.bulk_insert(catalog, [{"id": 1, "version": 0}])
    op.create_table(
        "blocks",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("parent_hash", sa.LargeBinary(), nullable=True, comment="null where only the block's logs were seen"),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "number"),
        schema="gapless",
        comment="Blocks that bore a log, ends of chunks, and all above finalized that the reorg check needs",
    )
    op.create_index("blocks_time", "blocks", ["chain_id", "time"], unique=False, schema="gapless")
    op.create_table(
        "chains",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="EIP-155 chain id"),
        sa.Column("name", sa.String(), nullable=False, comment="name in the manifest"),
        sa.Column(
            "genesis_hash", sa.LargeBinary(), nullable=True, comment="hash of block 0: another one is another chain"
        ),
        sa.Column("head_number", sa.BigInteger(), nullable=True, comment="newest block that the nodes reported"),
        sa.Column("head_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "head_seen_at", sa.DateTime(timezone=True), nullable=True, comment="when head_number was last reported"
        ),
        sa.Column("tip_number", sa.BigInteger(), nullable=True, comment="newest block that the follower has indexed"),
        sa.Column("tip_hash", sa.LargeBinary(), nullable=True),
        sa.Column("tip_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("safe_number", sa.BigInteger(), nullable=True, comment="newest block with the node's tag safe"),
        sa.Column(
            "finalized_number",
            sa.BigInteger(),
            nullable=True,
            comment="the follower alone writes above it, backfill alone below",
        ),
        sa.Column("finalized_hash", sa.LargeBinary(), nullable=True),
        sa.Column(
            "state",
            sa.String(),
            server_default="starting",
            nullable=False,
            comment="starting, following, waiting, halted",
        ),
        sa.Column("state_reason", sa.String(), nullable=True, comment="why halted or waiting, and what to do"),
        sa.Column("follower", sa.String(), nullable=True, comment="who follows the head now, for people"),
        sa.Column(
            "follower_epoch", sa.BigInteger(), server_default="0", nullable=False, comment="+1 with each new follower"
        ),
        sa.Column("bloom_checks", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "active", sa.Boolean(), server_default=sa.text("true"), nullable=False, comment="still in the manifest"
        ),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("chain_id"),
        sa.UniqueConstraint("name"),
        schema="gapless",
        comment="One EVM network each, and how far it is indexed",
    )
    op.create_table(
        "contracts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False, comment="name in the manifest"),
        sa.Column("schema_name", sa.String(), nullable=False, comment="Postgres schema of its event tables"),
        sa.Column("abi", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the whole ABI as given"),
        sa.Column(
            "active", sa.Boolean(), server_default=sa.text("true"), nullable=False, comment="still in the manifest"
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("schema_name"),
        schema="gapless",
        comment="A name, an ABI, and (by deployments) where it lives",
    )
    op.create_table(
        "endpoints",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="place in the manifest's list"),
        sa.Column("host", sa.String(), nullable=False, comment="scheme and host only: URLs carry keys"),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("head_number", sa.BigInteger(), nullable=True),
        sa.Column(
            "details", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False
        ),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "position"),
        schema="gapless",
        comment="The indexer's latest view of its endpoints",
    )
    op.create_table(
        "tokens",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.String(), nullable=True, comment="erc20, erc721, erc1155 or null: unknown"),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("symbol", sa.String(), nullable=True),
        sa.Column("decimals", sa.SmallInteger(), nullable=True, comment="null: unknown, which is neither 0 nor 18"),
        sa.Column(
            "problems",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment='what was odd, by field: {"symbol": "bytes32"}',
        ),
        sa.Column("block_number", sa.BigInteger(), nullable=False, comment="read at this block"),
        sa.Column("read_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "address"),
        schema="gapless",
        comment="What tokens say of themselves",
    )
    op.create_table(
        "children",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("contract_id", sa.Integer(), nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False, comment="block of birth"),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("factory_address", sa.LargeBinary(), nullable=False, comment="the contract that announced it"),
        sa.ForeignKeyConstraint(["contract_id"], ["gapless.contracts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("chain_id", "contract_id", "address"),
        schema="gapless",
        comment="The addresses that a factory rule has found, each with its birth",
    )
    op.create_index(
        "children_birth", "children", ["chain_id", "contract_id", "block_number"], unique=False, schema="gapless"
    )
    op.create_table(
        "deployments",
        sa.Column("contract_id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False, comment="addresses, factory or any"),
        sa.Column("addresses", sa.ARRAY(sa.LargeBinary()), server_default=sa.text("'{}'::bytea[]"), nullable=False),
        sa.Column(
            "factories",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="[{contract, event, argument}] of a factory rule",
        ),
        sa.Column("start_block", sa.BigInteger(), nullable=False),
        sa.Column("end_block", sa.BigInteger(), nullable=True, comment="last wanted block; null: for ever"),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.ForeignKeyConstraint(
            ["chain_id"],
            ["gapless.chains.chain_id"],
        ),
        sa.ForeignKeyConstraint(["contract_id"], ["gapless.contracts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("contract_id", "chain_id"),
        schema="gapless",
        comment="Where a contract lives on one chain, as the manifest says",
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("contract_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False, comment="name in the ABI"),
        sa.Column(
            "api_name",
            sa.String(),
            nullable=False,
            comment="name in the API: the ABI's, or Name~selector if overloaded",
        ),
        sa.Column("signature", sa.String(), nullable=False, comment="Transfer(address,address,uint256)"),
        sa.Column(
            "topic0",
            sa.LargeBinary(),
            nullable=False,
            comment="keccak-256 of the signature, also of an anonymous event",
        ),
        sa.Column("anonymous", sa.Boolean(), nullable=False),
        sa.Column(
            "abi", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the event's item of the ABI"
        ),
        sa.Column("table_name", sa.String(), nullable=False, comment="in the contract's schema_name"),
        sa.Column(
            "columns",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="the arguments' columns (indexer.abi.columns.Column), in order",
        ),
        sa.Column("layout_version", sa.Integer(), nullable=False),
        sa.Column(
            "version",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="+1 in every transaction that adds rows",
        ),
        sa.Column(
            "rewrite_version",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="+1 in every transaction that changes what a covered, finalized range answers",
        ),
        sa.Column(
            "active", sa.Boolean(), server_default=sa.text("true"), nullable=False, comment="still in the manifest"
        ),
        sa.ForeignKeyConstraint(["contract_id"], ["gapless.contracts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("contract_id", "table_name"),
        sa.UniqueConstraint("contract_id", "topic0"),
        schema="gapless",
        comment="One event of a contract's ABI, and its table",
    )
    op.create_table(
        "reorgs",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("detected_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("common_number", sa.BigInteger(), nullable=False, comment="last block that both branches share"),
        sa.Column("common_hash", sa.LargeBinary(), nullable=False),
        sa.Column("old_tip_number", sa.BigInteger(), nullable=False),
        sa.Column("old_tip_hash", sa.LargeBinary(), nullable=False),
        sa.Column("new_tip_number", sa.BigInteger(), nullable=False),
        sa.Column("new_tip_hash", sa.LargeBinary(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False, comment="blocks of the old branch that were dropped"),
        sa.Column("rows_removed", sa.BigInteger(), nullable=False),
        sa.Column("rows_added", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["chain_id"],
            ["gapless.chains.chain_id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="Every reorganisation that was followed",
    )
    op.create_index("reorgs_chain", "reorgs", ["chain_id", "id"], unique=False, schema="gapless")
    op.create_table(
        "series",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False, comment="name in the manifest"),
        sa.Column("contract_id", sa.Integer(), nullable=False),
        sa.Column(
            "calls", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="function signatures, in order"
        ),
        sa.Column("every", sa.String(), nullable=False, comment="the schedule, as in the manifest"),
        sa.Column("table_name", sa.String(), nullable=False, comment="in the contract's schema_name"),
        sa.Column(
            "columns", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the outputs' columns, in order"
        ),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.ForeignKeyConstraint(["contract_id"], ["gapless.contracts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("contract_id", "table_name"),
        sa.UniqueConstraint("name"),
        schema="gapless",
        comment="A snapshot: a series of multicall reads taken on a schedule, each at one block",
    )
    op.create_table(
        "orphans",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("reorg_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["reorg_id"],
            ["gapless.reorgs.id"],
        ),
        sa.PrimaryKeyConstraint("chain_id", "number", "hash", "reorg_id"),
        schema="gapless",
        comment="Blocks that were indexed and then reorganised away; kept for good, so that old cursors can be judged",
    )
    op.create_table(
        "series_points",
        sa.Column("series_id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["gapless.series.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("series_id", "chain_id", "block_number"),
        schema="gapless",
        comment="The blocks at which a series was read",
    )
    op.create_table(
        "sources",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column(
            "place",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="where: {kind, addresses | factory, filters}; disjoint per event",
        ),
        sa.Column("start_block", sa.BigInteger(), nullable=False),
        sa.Column("end_block", sa.BigInteger(), nullable=True),
        sa.Column(
            "coverage", postgresql.INT8MULTIRANGE(), server_default=sa.text("'{}'::int8multirange"), nullable=False
        ),
        sa.Column(
            "verified", postgresql.INT8MULTIRANGE(), server_default=sa.text("'{}'::int8multirange"), nullable=False
        ),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["chain_id"],
            ["gapless.chains.chain_id"],
        ),
        sa.ForeignKeyConstraint(["event_id"], ["gapless.events.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="chain x contract x event x where: the unit whose coverage is tracked",
    )
    op.create_index("sources_chain", "sources", ["chain_id"], unique=False, schema="gapless")
    op.create_index("sources_event", "sources", ["event_id"], unique=False, schema="gapless")
    op.create_table(
        "undecoded_logs",
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("log_index", sa.Integer(), nullable=False),
        sa.Column("block_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(), nullable=False),
        sa.Column("tx_index", sa.Integer(), nullable=False),
        sa.Column("contract_address", sa.LargeBinary(), nullable=False),
        sa.Column("topics", sa.ARRAY(sa.LargeBinary()), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column(
            "has_row", sa.Boolean(), nullable=False, comment="true: the row is in the table, with a text altered"
        ),
        sa.ForeignKeyConstraint(["event_id"], ["gapless.events.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("event_id", "chain_id", "block_number", "log_index"),
        schema="gapless",
        comment="Logs that bear an event's topic but not its shape, raw, each with the reason",
    )
    op.create_table(
        "digests",
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("first_block", sa.BigInteger(), nullable=False),
        sa.Column("last_block", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column(
            "digest",
            sa.Numeric(),
            nullable=False,
            comment="sum of hash_record_extended over the rows: no order, additive",
        ),
        sa.ForeignKeyConstraint(["source_id"], ["gapless.sources.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("source_id", "first_block"),
        schema="gapless",
        comment="What the rows of a covered range summed up to when they were written; disjoint, within coverage",
    )


def downgrade() -> None:
    op.drop_table("catalog", schema="gapless")
    op.drop_table("digests", schema="gapless")
    op.drop_table("undecoded_logs", schema="gapless")
    op.drop_index("sources_event", table_name="sources", schema="gapless")
    op.drop_index("sources_chain", table_name="sources", schema="gapless")
    op.drop_table("sources", schema="gapless")
    op.drop_table("series_points", schema="gapless")
    op.drop_table("orphans", schema="gapless")
    op.drop_table("series", schema="gapless")
    op.drop_index("reorgs_chain", table_name="reorgs", schema="gapless")
    op.drop_table("reorgs", schema="gapless")
    op.drop_table("events", schema="gapless")
    op.drop_table("deployments", schema="gapless")
    op.drop_index("children_birth", table_name="children", schema="gapless")
    op.drop_table("children", schema="gapless")
    op.drop_table("tokens", schema="gapless")
    op.drop_table("endpoints", schema="gapless")
    op.drop_table("contracts", schema="gapless")
    op.drop_table("chains", schema="gapless")
    op.drop_index("blocks_time", table_name="blocks", schema="gapless")
    op.drop_table("blocks", schema="gapless")
