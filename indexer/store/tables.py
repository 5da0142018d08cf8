"""The static tables: schema ``gapless``, kept by Alembic (``migrations/``).

Event tables and snapshot series are not here: they are made from ABIs (``store.event_tables``), one Postgres schema a
contract, and described in the ``events`` and ``series`` tables below, which are *the catalog*.

Every ``*_id`` of a chain is the EIP-155 chain id. Addresses are 20 bytes, hashes 32. Numbers of blocks are ``bigint``.
Multiranges of blocks are ``int8multirange``: Postgres keeps them normalised, half open (``[first, last + 1)``).
"""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB

SCHEMA = "gapless"

metadata = MetaData(schema=SCHEMA)

_now = text("now()")
_empty_multirange = text("'{}'::int8multirange")
_no_names = text("'{}'::varchar[]")


def _timestamp(
    name: str, *, nullable: bool = True, default: bool = False, comment: str | None = None
) -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        nullable=nullable,
        server_default=_now if default else None,
        comment=comment,
    )


catalog = Table(
    "catalog",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="always 1"),
    Column("version", BigInteger, nullable=False, comment="+1 with every change of what is declared"),
    comment="One row: the version of contracts, events, sources and series as a whole",
)

chains = Table(
    "chains",
    metadata,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False, comment="EIP-155 chain id"),
    Column("name", String, nullable=False, unique=True, comment="name in the manifest"),
    Column("genesis_hash", LargeBinary, comment="hash of block 0: another one is another chain"),
    Column("head_number", BigInteger, comment="newest block that the nodes reported"),
    _timestamp("head_time"),
    _timestamp("head_seen_at", comment="when head_number was last reported"),
    Column("tip_number", BigInteger, comment="newest block that the follower has indexed"),
    Column("tip_hash", LargeBinary),
    _timestamp("tip_time"),
    Column("safe_number", BigInteger, comment="newest block with the node's tag safe"),
    Column("finalized_number", BigInteger, comment="the follower alone writes above it, backfill alone below"),
    Column("finalized_hash", LargeBinary),
    Column("state", String, nullable=False, server_default="starting", comment="starting, following, waiting, halted"),
    Column("state_reason", String, comment="why halted or waiting, and what to do"),
    Column("follower", String, comment="who follows the head now, for people"),
    Column("follower_epoch", BigInteger, nullable=False, server_default="0", comment="+1 with each new follower"),
    Column("bloom_checks", Boolean, nullable=False, server_default=text("true")),
    Column("active", Boolean, nullable=False, server_default=text("true"), comment="still in the manifest"),
    _timestamp("updated_at", nullable=False, default=True),
    comment="One EVM network each, and how far it is indexed",
)

contracts = Table(
    "contracts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True, comment="name in the manifest"),
    Column("schema_name", String, nullable=False, unique=True, comment="Postgres schema of its event tables"),
    Column("abi", JSONB, nullable=False, comment="the whole ABI as given"),
    Column("active", Boolean, nullable=False, server_default=text("true"), comment="still in the manifest"),
    _timestamp("created_at", nullable=False, default=True),
    comment="A name, an ABI, and (by deployments) where it lives",
)

deployments = Table(
    "deployments",
    metadata,
    Column("contract_id", Integer, ForeignKey(contracts.c.id, ondelete="CASCADE"), nullable=False),
    Column("chain_id", BigInteger, ForeignKey(chains.c.chain_id), nullable=False),
    Column("kind", String, nullable=False, comment="addresses, factory or any"),
    Column("addresses", ARRAY(LargeBinary), nullable=False, server_default=text("'{}'::bytea[]")),
    Column("factories", JSONB(none_as_null=True), comment="[{contract, event, argument}] of a factory rule"),
    Column("start_block", BigInteger, nullable=False),
    Column("end_block", BigInteger, comment="last wanted block; null: for ever"),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column(
        "include",
        ARRAY(String),
        nullable=False,
        server_default=_no_names,
        comment="what to keep besides the logs: block, transaction, receipt",
    ),
    Column(
        "included",
        INT8MULTIRANGE,
        nullable=False,
        server_default=_empty_multirange,
        comment="blocks for whose events all of include is there",
    ),
    PrimaryKeyConstraint("contract_id", "chain_id"),
    comment="Where a contract lives on one chain, as the manifest says",
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("contract_id", Integer, ForeignKey(contracts.c.id, ondelete="CASCADE"), nullable=False),
    Column("name", String, nullable=False, comment="name in the ABI"),
    Column("api_name", String, nullable=False, comment="name in the API: the ABI's, or Name~selector if overloaded"),
    Column("signature", String, nullable=False, comment="Transfer(address,address,uint256)"),
    Column("topic0", LargeBinary, nullable=False, comment="keccak-256 of the signature, also of an anonymous event"),
    Column("anonymous", Boolean, nullable=False),
    Column("abi", JSONB, nullable=False, comment="the event's item of the ABI"),
    Column("table_name", String, nullable=False, comment="in the contract's schema_name"),
    Column("columns", JSONB, nullable=False, comment="the arguments' columns (indexer.abi.columns.Column), in order"),
    Column("layout_version", Integer, nullable=False),
    Column("version", BigInteger, nullable=False, server_default="0", comment="+1 in every transaction that adds rows"),
    Column(
        "rewrite_version",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="+1 in every transaction that changes what a covered, finalized range answers",
    ),
    Column("active", Boolean, nullable=False, server_default=text("true"), comment="still in the manifest"),
    Column(
        "indexes",
        ARRAY(String),
        nullable=False,
        server_default=_no_names,
        comment="columns that are to have an index",
    ),
    Column(
        "indexes_put_off",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="true: a large first backfill is under way, the indexes are built at its end",
    ),
    UniqueConstraint("contract_id", "topic0"),
    UniqueConstraint("contract_id", "table_name"),
    comment="One event of a contract's ABI, and its table",
)

sources = Table(
    "sources",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("chain_id", BigInteger, ForeignKey(chains.c.chain_id), nullable=False),
    Column("event_id", Integer, ForeignKey(events.c.id, ondelete="CASCADE"), nullable=False),
    Column("place", JSONB, nullable=False, comment="where: {kind, addresses | factory, filters}; disjoint per event"),
    Column("start_block", BigInteger, nullable=False),
    Column("end_block", BigInteger),
    Column("coverage", INT8MULTIRANGE, nullable=False, server_default=_empty_multirange),
    Column("verified", INT8MULTIRANGE, nullable=False, server_default=_empty_multirange),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    _timestamp("created_at", nullable=False, default=True),
    Index("sources_event", "event_id"),
    Index("sources_chain", "chain_id"),
    comment="chain x contract x event x where: the unit whose coverage is tracked",
)

digests = Table(
    "digests",
    metadata,
    Column("source_id", Integer, ForeignKey(sources.c.id, ondelete="CASCADE"), nullable=False),
    Column("first_block", BigInteger, nullable=False),
    Column("last_block", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("digest", Numeric, nullable=False, comment="sum of hash_record_extended over the rows: no order, additive"),
    Column(
        "method",
        String,
        nullable=False,
        server_default="",
        comment="Postgres' major version and the layout's: another one hashes otherwise",
    ),
    PrimaryKeyConstraint("source_id", "first_block"),
    comment="What the rows of a covered range summed up to when they were written; disjoint, within coverage",
)

findings = Table(
    "findings",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("chain_id", BigInteger, ForeignKey(chains.c.chain_id), nullable=False),
    Column(
        "event_id",
        Integer,
        ForeignKey(events.c.id, ondelete="CASCADE"),
        comment="null: the chain as a whole is concerned",
    ),
    Column(
        "source_id",
        Integer,
        ForeignKey(sources.c.id, ondelete="CASCADE"),
        comment="null: rows that belong to no source",
    ),
    Column(
        "kind",
        String,
        nullable=False,
        comment="gap, outside, duplicate, dangling, child, digest, balance, against or proof",
    ),
    Column("first_block", BigInteger, nullable=False),
    Column("last_block", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False, comment="rows or blocks that are concerned"),
    Column("detail", String, nullable=False, comment="what is wrong, for people"),
    _timestamp("found_at", nullable=False, default=True),
    _timestamp("repaired_at", comment="null: not yet"),
    Index("findings_chain", "chain_id", "id"),
    comment="What audits found wrong, until it is repaired",
)

children = Table(
    "children",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    Column("contract_id", Integer, ForeignKey(contracts.c.id, ondelete="CASCADE"), nullable=False),
    Column("address", LargeBinary, nullable=False),
    Column("block_number", BigInteger, nullable=False, comment="block of birth"),
    Column("log_index", Integer, nullable=False),
    Column("factory_address", LargeBinary, nullable=False, comment="the contract that announced it"),
    PrimaryKeyConstraint("chain_id", "contract_id", "address"),
    Index("children_birth", "chain_id", "contract_id", "block_number"),
    comment="The addresses that a factory rule has found, each with its birth",
)

blocks = Table(
    "blocks",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("parent_hash", LargeBinary, comment="null where only the block's logs were seen"),
    _timestamp("time", nullable=False),
    PrimaryKeyConstraint("chain_id", "number"),
    Index("blocks_time", "chain_id", "time"),
    comment="Blocks that bore a log, ends of chunks, and all above finalized that the reorg check needs",
)

block_details = Table(
    "block_details",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", LargeBinary, nullable=False),
    _timestamp("block_time", nullable=False),
    Column("miner", LargeBinary, nullable=False, comment="fee recipient, 20 bytes"),
    Column("gas_limit", Numeric(20, 0), nullable=False),
    Column("gas_used", Numeric(20, 0), nullable=False),
    Column("base_fee", Numeric(78, 0), comment="wei per gas; null: before EIP-1559"),
    Column("transaction_count", Integer, nullable=False),
    Column("size", BigInteger, comment="bytes"),
    PrimaryKeyConstraint("chain_id", "block_number"),
    comment="Blocks that bore events of contracts with include = block",
)

transactions = Table(
    "transactions",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("tx_index", Integer, nullable=False),
    Column("tx_hash", LargeBinary, nullable=False),
    _timestamp("block_time", nullable=False),
    Column("sender", LargeBinary, nullable=False, comment="who signed it, 20 bytes"),
    Column("recipient", LargeBinary, comment="20 bytes; null: a contract was created"),
    Column("type", SmallInteger, comment="EIP-2718 type; null: not said"),
    Column("value", Numeric(78, 0), comment="wei; null: transaction not included"),
    Column("nonce", Numeric(20, 0), comment="null: transaction not included"),
    Column("gas_limit", Numeric(20, 0), comment="null: transaction not included"),
    Column("status", SmallInteger, comment="1: success; null: no receipt, or a state root"),
    Column("gas_used", Numeric(20, 0), comment="null: receipt not included"),
    Column("effective_gas_price", Numeric(78, 0), comment="wei per gas; null: receipt not included"),
    Column("created_contract", LargeBinary, comment="the contract it created, 20 bytes"),
    PrimaryKeyConstraint("chain_id", "block_number", "tx_index"),
    Index("transactions_hash", "chain_id", "tx_hash"),
    Index("transactions_sender", "chain_id", "sender", "block_number", "tx_index"),
    comment="Transactions that bore events of contracts with include = transaction or receipt",
)

deployment_blocks = Table(
    "deployment_blocks",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    Column("address", LargeBinary, nullable=False),
    Column("block_number", BigInteger, nullable=False, comment="first block with code at the address"),
    _timestamp("found_at", nullable=False, default=True),
    PrimaryKeyConstraint("chain_id", "address"),
    comment='Where contracts with start_block = "auto" were deployed, as an archive node told once',
)

reorgs = Table(
    "reorgs",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("chain_id", BigInteger, ForeignKey(chains.c.chain_id), nullable=False),
    _timestamp("detected_at", nullable=False, default=True),
    Column("common_number", BigInteger, nullable=False, comment="last block that both branches share"),
    Column("common_hash", LargeBinary, nullable=False),
    Column("old_tip_number", BigInteger, nullable=False),
    Column("old_tip_hash", LargeBinary, nullable=False),
    Column("new_tip_number", BigInteger, nullable=False),
    Column("new_tip_hash", LargeBinary, nullable=False),
    Column("depth", Integer, nullable=False, comment="blocks of the old branch that were dropped"),
    Column("rows_removed", BigInteger, nullable=False),
    Column("rows_added", BigInteger, nullable=False),
    Index("reorgs_chain", "chain_id", "id"),
    comment="Every reorganisation that was followed",
)

orphans = Table(
    "orphans",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("reorg_id", BigInteger, ForeignKey(reorgs.c.id), nullable=False),
    PrimaryKeyConstraint("chain_id", "number", "hash", "reorg_id"),
    comment="Blocks that were indexed and then reorganised away; kept for good, so that old cursors can be judged",
)

undecoded_logs = Table(
    "undecoded_logs",
    metadata,
    Column("event_id", Integer, ForeignKey(events.c.id, ondelete="CASCADE"), nullable=False),
    Column("chain_id", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("log_index", Integer, nullable=False),
    _timestamp("block_time", nullable=False),
    Column("tx_hash", LargeBinary, nullable=False),
    Column("tx_index", Integer, nullable=False),
    Column("contract_address", LargeBinary, nullable=False),
    Column("topics", ARRAY(LargeBinary), nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("reason", String, nullable=False),
    Column("has_row", Boolean, nullable=False, comment="true: the row is in the table, with a text altered"),
    PrimaryKeyConstraint("event_id", "chain_id", "block_number", "log_index"),
    comment="Logs that bear an event's topic but not its shape, raw, each with the reason",
)

tokens = Table(
    "tokens",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    Column("address", LargeBinary, nullable=False),
    Column("kind", String, comment="erc20, erc721, erc1155 or null: unknown"),
    Column("name", String),
    Column("symbol", String),
    Column("decimals", SmallInteger, comment="null: unknown, which is neither 0 nor 18"),
    Column("problems", JSONB, comment='what was odd, by field: {"symbol": "bytes32"}'),
    Column("block_number", BigInteger, nullable=False, comment="read at this block"),
    _timestamp("read_at", nullable=False, default=True),
    PrimaryKeyConstraint("chain_id", "address"),
    comment="What tokens say of themselves",
)

ledgers = Table(
    "ledgers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("chain_id", BigInteger, nullable=False),
    Column("contract_id", Integer, ForeignKey(contracts.c.id, ondelete="CASCADE"), nullable=False),
    Column("kind", String, nullable=False, comment="erc20, erc721 or erc1155"),
    Column("event_ids", ARRAY(Integer), nullable=False, comment="the transfer events that it counts, ascending"),
    Column("place", JSONB, nullable=False, comment="whose transfers it counts, as in sources.place"),
    Column("start_block", BigInteger, nullable=False),
    Column("through_block", BigInteger, nullable=False, comment="its holdings are true at the end of this block"),
    Column("live", Boolean, nullable=False, comment="false: it goes no further; stale, or no longer wanted"),
    Column("served", Boolean, nullable=False, comment="the one that answers; another one may be under way"),
    Column("remark", String, comment="why it is not live"),
    Column("version", BigInteger, nullable=False, server_default="0", comment="+1 with every change of its holdings"),
    _timestamp("updated_at", nullable=False, default=True),
    Index("ledgers_live", "contract_id", "chain_id", unique=True, postgresql_where=text("live")),
    Index("ledgers_served", "contract_id", "chain_id", unique=True, postgresql_where=text("served")),
    comment="The balances of one contract on one chain, and how far they go",
)

holdings = Table(
    "holdings",
    metadata,
    # No foreign key, which would be looked up for every row; what a deleted ledger leaves behind is swept up.
    Column("ledger_id", Integer, nullable=False),
    Column("token", LargeBinary, nullable=False, comment="the token's contract, 20 bytes"),
    Column("token_id", Numeric(78, 0), nullable=False, comment="0 for ERC-20"),
    Column("holder", LargeBinary, nullable=False),
    Column("amount", Numeric, nullable=False, comment="in the token's smallest unit; 1 for ERC-721; never 0"),
    PrimaryKeyConstraint("ledger_id", "token", "token_id", "holder"),
    Index("holdings_holder", "holder", "ledger_id", "token", "token_id"),
    Index("holdings_top", "ledger_id", "token", "token_id", "amount", "holder"),
    Index("holdings_empty", "ledger_id", postgresql_where=text("amount = 0")),
    Index("holdings_negative", "ledger_id", "token", postgresql_where=text("amount < 0")),
    comment="Who has how much of what, by the transfers that a ledger has counted (see the view balances)",
)

balance_problems = Table(
    "balance_problems",
    metadata,
    Column("ledger_id", Integer, ForeignKey(ledgers.c.id, ondelete="CASCADE"), nullable=False),
    Column("token", LargeBinary, nullable=False),
    Column("detail", String, nullable=False, comment="what is wrong, for people"),
    Column("block_number", BigInteger, nullable=False, comment="found at this block"),
    _timestamp("found_at", nullable=False, default=True),
    PrimaryKeyConstraint("ledger_id", "token"),
    comment="Tokens whose balances do not follow from their transfers, as audits found",
)

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True, comment="name in the manifest"),
    Column("contract_id", Integer, ForeignKey(contracts.c.id, ondelete="CASCADE"), nullable=False),
    Column("calls", JSONB, nullable=False, comment="function signatures, in order"),
    Column("every", String, nullable=False, comment="the schedule, as in the manifest"),
    Column("table_name", String, nullable=False, comment="in the contract's schema_name"),
    Column("columns", JSONB, nullable=False, comment="the outputs' columns, in order"),
    Column("version", BigInteger, nullable=False, server_default="0"),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    Column("definition", JSONB, comment="arguments and names of the calls, and the query; null: none of them"),
    UniqueConstraint("contract_id", "table_name"),
    comment="A snapshot: a series of multicall reads taken on a schedule, each at one block",
)

series_points = Table(
    "series_points",
    metadata,
    Column("series_id", Integer, ForeignKey(series.c.id, ondelete="CASCADE"), nullable=False),
    Column("chain_id", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("block_hash", LargeBinary, nullable=False),
    _timestamp("taken_at", nullable=False, default=True),
    PrimaryKeyConstraint("series_id", "chain_id", "block_number"),
    comment="The blocks at which a series was read",
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    Column("position", Integer, nullable=False, comment="place in the manifest's list"),
    Column("host", String, nullable=False, comment="scheme and host only: URLs carry keys"),
    Column("state", String, nullable=False),
    Column("head_number", BigInteger),
    Column("details", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    _timestamp("updated_at", nullable=False, default=True),
    PrimaryKeyConstraint("chain_id", "position"),
    comment="The indexer's latest view of its endpoints",
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, comment="whose it is, for people"),
    Column("hash", LargeBinary, nullable=False, unique=True, comment="SHA-256 of the key, which is kept nowhere"),
    Column("prefix", String, nullable=False, comment="its first characters, to recognise it by"),
    Column("scopes", ARRAY(String), nullable=False, comment="read, webhooks, admin"),
    Column(
        "origins",
        ARRAY(String),
        nullable=False,
        server_default=_no_names,
        comment="web origins that may use it; none: any, and programs too",
    ),
    Column("rate", Integer, comment="requests a minute; null: as the settings say"),
    _timestamp("expires_at", comment="null: never"),
    _timestamp("created_at", nullable=False, default=True),
    _timestamp("revoked_at"),
    comment="Keys of the read API",
)

token_secrets = Table(
    "token_secrets",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("secret", LargeBinary, nullable=False, comment="32 random bytes; whoever knows them can make tokens"),
    _timestamp("created_at", nullable=False, default=True),
    comment="What the API signs its short-lived tokens with; the newest signs, older ones end",
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String, nullable=False, comment="repair, audit, redecode or refresh_tokens"),
    Column("parameters", JSONB, nullable=False),
    Column("state", String, nullable=False, server_default="queued"),
    Column("progress", JSONB, comment="how far it is, as the job's kind tells it"),
    Column("result", JSONB, comment="what came of it, once it is done"),
    Column("error", String, comment="why it failed"),
    Column("created_by", String, nullable=False, comment="who asked for it, such as: key 3"),
    Column("cancel_asked", Boolean, nullable=False, server_default=text("false")),
    Column("worker", String, comment="the process that is at it"),
    Column("attempts", Integer, nullable=False, server_default="0", comment="how often it was begun"),
    _timestamp("created_at", nullable=False, default=True),
    _timestamp("started_at"),
    _timestamp("heartbeat_at", comment="when its worker was last heard of; taken over when that is long ago"),
    _timestamp("ended_at"),
    CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="jobs_state"),
    Index("jobs_waiting", "kind", "id", postgresql_where=text("state IN ('queued', 'running')")),
    comment="Work that was asked for through the API, and what became of it",
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False, comment="who made it, such as: key 3"),
    Column("key_id", Integer, ForeignKey(api_keys.c.id), comment="of the key that made it; it ends with that key"),
    Column("url", LargeBinary, nullable=False, comment="encrypted: paths and queries carry secrets"),
    Column("host", String, nullable=False, comment="the URL's host, which may be shown"),
    Column("secret", LargeBinary, nullable=False, comment="encrypted; signs the messages"),
    Column("old_secret", LargeBinary, comment="encrypted; signs too until old_secret_until"),
    _timestamp("old_secret_until"),
    Column("description", String),
    Column("chain_id", BigInteger, nullable=False),
    Column("contract", String, comment="null: all of the chain"),
    Column("event", String, comment="its API name; null: all of the contract"),
    Column("filters", JSONB, nullable=False, server_default=text("'{}'::jsonb"), comment="as in the URL of the rows"),
    Column("finality", String, nullable=False, server_default="finalized"),
    Column("batch", Integer, nullable=False, server_default="100", comment="most rows of a message"),
    Column("state", String, nullable=False, server_default="active", comment="active, paused or disabled"),
    Column("reason", String, comment="why it is disabled, or not delivered"),
    Column("position", String, nullable=False, comment="a cursor: all up to it was delivered"),
    Column("told_block", BigInteger, comment="no row of a later block was in a message; null: none at all was"),
    Column("looked", String, comment="the chain's state in which nothing more was found"),
    Column("sequence", BigInteger, nullable=False, server_default="0", comment="of the newest message"),
    Column("message_id", String, comment="of the message that is not acknowledged yet"),
    Column("message_type", String),
    Column("message", LargeBinary, comment="its body, the same at every attempt"),
    Column("message_position", String, comment="the position once it is acknowledged"),
    Column("failures", Integer, nullable=False, server_default="0", comment="failed attempts of it"),
    _timestamp("due_at", nullable=False, default=True, comment="when to look or to try again"),
    Column("test_id", String, comment="of a test message that was asked for"),
    Column("lease", String, comment="who is delivering"),
    _timestamp("leased_until"),
    _timestamp("created_at", nullable=False, default=True),
    _timestamp("delivered_at", comment="when a message was last acknowledged"),
    Index("webhooks_owner_idx", "owner"),
    comment="Subscriptions to rows, delivered by HTTP",
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("webhook_id", String, ForeignKey(webhooks.c.id, ondelete="CASCADE"), nullable=False),
    Column("message_id", String, nullable=False),
    Column("message_type", String, nullable=False),
    Column("attempt", Integer, nullable=False, comment="1 is the first"),
    _timestamp("at", nullable=False, default=True),
    Column("status", Integer, comment="of the answer; null: there was none"),
    Column("error", String, comment="why there was no answer"),
    Column("answer", String, comment="its first bytes"),
    Column("milliseconds", Integer, nullable=False),
    Column("bytes", Integer, nullable=False, comment="of the message"),
    Index("webhook_deliveries_webhook_id_idx", "webhook_id", "id"),
    Index("webhook_deliveries_at_idx", "at"),
    comment="Attempts to deliver messages, kept for some days",
)
