"""What is known of the chains themselves: how far each is, its blocks, what was reorganised away, its endpoints.

Before that, what all static tables share: the schema, its metadata, and columns and defaults that many of them have.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    String,
    Table,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

SCHEMA = "gapless"

metadata = MetaData(schema=SCHEMA)

#: Defaults that Postgres fills in.
NO_BLOCKS = text("'{}'::int8multirange")
NO_NAMES = text("'{}'::varchar[]")


def timestamp(name: str, *, nullable: bool = True, default: bool = False, comment: str | None = None) -> Column[object]:
    """A column with a point in time; with ``default``, that of the transaction that adds the row."""
    return Column(
        name,
        DateTime(timezone=True),
        nullable=nullable,
        server_default=text("now()") if default else None,
        comment=comment,
    )


chains = Table(
    "chains",
    metadata,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False, comment="EIP-155 chain id"),
    Column("name", String, nullable=False, unique=True, comment="name in the manifest"),
    Column("genesis_hash", LargeBinary, comment="hash of block 0: another one is another chain"),
    Column("head_number", BigInteger, comment="newest block that the nodes reported"),
    timestamp("head_time", comment="timestamp of block head_number"),
    timestamp("head_seen_at", comment="when head_number was last reported"),
    Column("tip_number", BigInteger, comment="newest block that the follower has indexed"),
    Column("tip_hash", LargeBinary, comment="hash of block tip_number, 32 bytes"),
    timestamp("tip_time", comment="timestamp of block tip_number"),
    Column("safe_number", BigInteger, comment="newest block with the node's tag safe"),
    Column("finalized_number", BigInteger, comment="the follower alone writes above it, backfill alone below"),
    Column("finalized_hash", LargeBinary, comment="hash of block finalized_number, 32 bytes"),
    Column("state", String, nullable=False, server_default="starting", comment="starting, following, waiting, halted"),
    Column("state_reason", String, comment="why halted or waiting, and what to do"),
    Column("follower", String, comment="who follows the head now, for people"),
    Column("follower_epoch", BigInteger, nullable=False, server_default="0", comment="+1 with each new follower"),
    Column(
        "bloom_checks",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="whether logs are checked against the blocks' blooms",
    ),
    Column("active", Boolean, nullable=False, server_default=text("true"), comment="still in the manifest"),
    timestamp("updated_at", nullable=False, default=True, comment="when the row was last written"),
    Column("thinned_number", BigInteger, comment="up to here blocks that bore no log were thinned out"),
    Column("followed_mark", BigInteger, comment="another one each time that other sources are followed"),
    Column("noted_above", BigInteger, comment="all rows above this block are in unfinalized_rows"),
    Column("noted_epoch", BigInteger, comment="the follower_epoch whose follower said so last"),
    timestamp("moved_at", comment="when the tip last changed, or the chain was first followed"),
    Column(
        "dev", Boolean, nullable=False, server_default=text("false"), comment="it makes blocks when they are needed"
    ),
    Column(
        "history_compared",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="blocks of history that were compared with the blooms of their headers",
    ),
    Column(
        "history_undecided",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="blocks of history that were to be compared, and whose blooms did not decide",
    ),
    comment="One EVM network each, and how far it is indexed",
)

leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True, comment="follow <chain id>, or what else one process at a time may do"),
    Column("holder", String, nullable=False, comment="application_name of the sessions of the process that has it"),
    Column("token", UUID, nullable=False, comment="proves a renewal to be the holder's"),
    timestamp("expires_at", nullable=False, comment="when the lease ends unless it is renewed"),
    comment="What one process at a time may do; a right ends by itself where it is not renewed",
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("position", Integer, nullable=False, comment="place in the manifest's list"),
    Column("host", String, nullable=False, comment="scheme and host only: URLs carry keys"),
    Column("state", String, nullable=False, comment="healthy, unhealthy or unknown"),
    Column("head_number", BigInteger, comment="newest block that the endpoint reported"),
    Column(
        "details",
        JSONB,
        nullable=False,
        server_default=text("'{}'::jsonb"),
        comment="measurements and learned limits, for people",
    ),
    timestamp("updated_at", nullable=False, default=True, comment="when the row was last written"),
    PrimaryKeyConstraint("chain_id", "position"),
    comment="The indexer's latest view of its endpoints",
)

call_permits = Table(
    "call_permits",
    metadata,
    Column("endpoint", String, primary_key=True, comment="chain, scheme and host, and which one of that host"),
    Column(
        "starts_at",
        ARRAY(DateTime(timezone=True)),
        nullable=False,
        comment="when calls start that processes have reserved, the last second of them",
    ),
    Column("calls", ARRAY(Integer), nullable=False, comment="how many calls start then"),
    comment="How all processes together keep requests_per_second; unlogged, since it is worth a second",
    prefixes=["UNLOGGED"],
)

credit_days = Table(
    "credit_days",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("endpoint", String, nullable=False, comment="scheme and host, and which one of that host"),
    Column("day", Date, nullable=False, comment="in UTC"),
    Column("position", Integer, nullable=False, comment="place among the chain's endpoints that are asked"),
    Column("budget", BigInteger, comment="credits_per_day of the manifest, where it says so"),
    Column("head", BigInteger, nullable=False, comment="credits that were spent, or taken to be, on all but history"),
    Column("history", BigInteger, nullable=False, comment="credits that were spent, or taken to be, on history"),
    Column(
        "pace",
        String,
        nullable=False,
        server_default=text("'full'"),
        comment="history, as far as credits go: full, slowed or stopped; spent: nothing is asked any more",
    ),
    timestamp("since", nullable=False, comment="when the day was counted first"),
    timestamp("history_from", nullable=False, comment="when history may take more"),
    Column("price", Numeric, comment="of a million credits, where the manifest says so"),
    Column("currency", String, comment="of the price, as the manifest writes it"),
    PrimaryKeyConstraint("chain_id", "endpoint", "day"),
    comment="What endpoints have cost, in credits of their providers, for 400 days",
)

history_sources = Table(
    "history_sources",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("host", String, nullable=False, comment="scheme and host only: URLs carry keys"),
    Column("blocks", BigInteger, nullable=False, comment="blocks of history that were read from it"),
    Column(
        "compared",
        BigInteger,
        nullable=False,
        comment="how many of its blocks were compared with headers of the chain's own nodes",
    ),
    Column(
        "fallback_blocks",
        BigInteger,
        nullable=False,
        comment="blocks that were read from the nodes, since it lacked them, failed, or was wrong",
    ),
    Column(
        "contradictions",
        BigInteger,
        nullable=False,
        comment="ranges in which it contradicted the nodes, the question or itself",
    ),
    Column("last_problem", String, comment="why blocks were last read from the nodes; null: they never were"),
    timestamp("updated_at", nullable=False, default=True, comment="when the row was last written"),
    PrimaryKeyConstraint("chain_id", "host"),
    comment="What became of the sources of history that are not nodes: sums over all processes",
)

samples = Table(
    "samples",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    timestamp("minute", nullable=False, comment="the minute, at its start"),
    Column("lag_seconds", Float, comment="age of the newest indexed block beside the newest there is"),
    Column("requests", BigInteger, nullable=False, comment="calls to nodes since the indexer's start"),
    Column(
        "rows_written",
        BigInteger,
        nullable=False,
        comment="rows put into the tables of the chain's contracts since Postgres' statistics begin",
    ),
    PrimaryKeyConstraint("chain_id", "minute"),
    comment="How each chain did, once a minute for a day: counters, whose differences are what happened between",
)

blocks = Table(
    "blocks",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("number", BigInteger, nullable=False, comment="the block's number"),
    Column("hash", LargeBinary, nullable=False, comment="hash of the block, 32 bytes"),
    Column("parent_hash", LargeBinary, comment="null where only the block's logs were seen"),
    timestamp("time", nullable=False, comment="the block's timestamp"),
    PrimaryKeyConstraint("chain_id", "number"),
    Index("blocks_time", "chain_id", "time"),
    comment="Blocks that bore a log, ends of chunks, all above finalized, and some of those followed before",
)

block_details = Table(
    "block_details",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("block_number", BigInteger, nullable=False, comment="the block"),
    Column("block_hash", LargeBinary, nullable=False, comment="hash of the block, 32 bytes"),
    timestamp("block_time", nullable=False, comment="the block's timestamp"),
    Column("miner", LargeBinary, comment="fee recipient, 20 bytes; null: not said"),
    Column("gas_limit", Numeric(78, 0), comment="null: not said"),
    Column("gas_used", Numeric(78, 0), comment="null: not said"),
    Column("base_fee", Numeric(78, 0), comment="wei per gas; null: before EIP-1559"),
    Column("transaction_count", BigInteger, comment="null: not said"),
    Column("size", Numeric(78, 0), comment="bytes"),
    PrimaryKeyConstraint("chain_id", "block_number"),
    comment="Blocks that bore events of contracts with include = block",
)

transactions = Table(
    "transactions",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("block_number", BigInteger, nullable=False, comment="the block"),
    Column("tx_index", BigInteger, nullable=False, comment="place of the transaction in the block, the first is 0"),
    Column("tx_hash", LargeBinary, nullable=False, comment="hash of the transaction, 32 bytes"),
    timestamp("block_time", nullable=False, comment="the block's timestamp"),
    Column("sender", LargeBinary, comment="who signed it, 20 bytes; null: not said"),
    Column("recipient", LargeBinary, comment="20 bytes; null: a contract was created"),
    Column("type", Numeric(78, 0), comment="EIP-2718 type; null: not said"),
    Column("value", Numeric(78, 0), comment="wei; null: transaction not included"),
    Column("nonce", Numeric(78, 0), comment="null: transaction not included"),
    Column("gas_limit", Numeric(78, 0), comment="null: transaction not included"),
    Column("status", Numeric(78, 0), comment="1: success; null: no receipt, or a state root"),
    Column("gas_used", Numeric(78, 0), comment="null: receipt not included"),
    Column("effective_gas_price", Numeric(78, 0), comment="wei per gas; null: receipt not included"),
    Column("created_contract", LargeBinary, comment="the contract it created, 20 bytes"),
    PrimaryKeyConstraint("chain_id", "block_number", "tx_index"),
    Index("transactions_hash", "chain_id", "tx_hash"),
    Index("transactions_sender", "chain_id", "sender", "block_number", "tx_index"),
    comment="Transactions that bore events of contracts with include = transaction or receipt",
)

missing_details = Table(
    "missing_details",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("block_number", BigInteger, nullable=False, comment="the block"),
    Column("kind", String, nullable=False, comment="block, transaction or receipt"),
    Column("tx_index", BigInteger, nullable=False, comment="place of the transaction; -1: the block itself"),
    Column("tx_hash", LargeBinary, nullable=False, comment="of the transaction, or of the block"),
    Column("reason", String, nullable=False, comment="what the nodes said, for people"),
    Column("failures", BigInteger, nullable=False, server_default="1", comment="how often in a row"),
    timestamp("failed_at", nullable=False, default=True, comment="when nodes were last asked in vain"),
    timestamp("retry_at", nullable=False, comment="not asked for again before"),
    PrimaryKeyConstraint("chain_id", "block_number", "kind", "tx_index"),
    Index("missing_details_retry", "chain_id", "retry_at"),
    comment="What include names and no node gave; asked for again and again, at growing intervals",
)

reorgs = Table(
    "reorgs",
    metadata,
    Column("id", BigInteger, primary_key=True, comment="number of the reorganisation"),
    Column("chain_id", BigInteger, ForeignKey(chains.c.chain_id), nullable=False, comment="EIP-155 chain id"),
    timestamp("detected_at", nullable=False, default=True, comment="when it was followed"),
    Column("common_number", BigInteger, nullable=False, comment="last block that both branches share"),
    Column("common_hash", LargeBinary, nullable=False, comment="hash of block common_number, 32 bytes"),
    Column("old_tip_number", BigInteger, nullable=False, comment="newest block of the dropped branch"),
    Column("old_tip_hash", LargeBinary, nullable=False, comment="hash of block old_tip_number, 32 bytes"),
    Column("new_tip_number", BigInteger, nullable=False, comment="newest block of the new branch when it was followed"),
    Column("new_tip_hash", LargeBinary, nullable=False, comment="hash of block new_tip_number, 32 bytes"),
    Column("depth", Integer, nullable=False, comment="blocks of the old branch that were dropped"),
    Column("rows_removed", BigInteger, nullable=False, comment="rows of event tables that were removed"),
    Column("rows_added", BigInteger, nullable=False, comment="rows of event tables that were added"),
    Index("reorgs_chain", "chain_id", "id"),
    comment="Every reorganisation that was followed",
)

orphans = Table(
    "orphans",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("number", BigInteger, nullable=False, comment="the block's number"),
    Column("hash", LargeBinary, nullable=False, comment="hash of the block, 32 bytes"),
    Column(
        "reorg_id",
        BigInteger,
        ForeignKey(reorgs.c.id),
        nullable=False,
        comment="the reorganisation that dropped it, gapless.reorgs.id",
    ),
    PrimaryKeyConstraint("chain_id", "number", "hash", "reorg_id"),
    comment="Blocks that were indexed and then reorganised away; kept for good, so that old cursors can be judged",
)
