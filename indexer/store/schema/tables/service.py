"""What is kept beside the data: what audits found and nodes did not give; what comes in through the API."""

from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from indexer.store.schema.tables.catalog import events, sources
from indexer.store.schema.tables.chain import NO_NAMES, chains, metadata, timestamp
from indexer.store.schema.tables.programs import programs

#: What the API changes, and how.
API_CHANGES: Final = {
    "api_keys": "INSERT, UPDATE",
    "jobs": "INSERT, UPDATE",
    "token_secrets": "INSERT, DELETE",
    "webhooks": "INSERT, UPDATE, DELETE",
    "webhook_deliveries": "INSERT, DELETE",
}
#: What analysts do not read: what signs and proves, the receivers of webhooks, what administrators asked for.
SECRET: Final = (*API_CHANGES, "cache_secret")

digests = Table(
    "digests",
    metadata,
    Column(
        "source_id",
        Integer,
        ForeignKey(sources.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the source, gapless.sources.id",
    ),
    Column("first_block", BigInteger, nullable=False, comment="first block of the range"),
    Column("last_block", BigInteger, nullable=False, comment="last block of the range, included"),
    Column("rows", BigInteger, nullable=False, comment="rows of the range"),
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
    Column("id", BigInteger, primary_key=True, comment="number of the finding"),
    Column("chain_id", BigInteger, ForeignKey(chains.c.chain_id), nullable=False, comment="EIP-155 chain id"),
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
        comment="gap, outside, duplicate, dangling, child, digest, balance, derived, program, against or proof",
    ),
    Column("first_block", BigInteger, nullable=False, comment="first block that is concerned"),
    Column("last_block", BigInteger, nullable=False, comment="last block that is concerned, included"),
    Column("count", BigInteger, nullable=False, comment="rows or blocks that are concerned"),
    Column("detail", String, nullable=False, comment="what is wrong, for people"),
    timestamp("found_at", nullable=False, default=True, comment="when it was found"),
    timestamp("repaired_at", comment="null: not yet"),
    Column(
        "program_id",
        Integer,
        ForeignKey(programs.c.id, ondelete="CASCADE"),
        comment="the build of a program that is concerned, gapless.programs.id; null: none is",
    ),
    Index("findings_chain", "chain_id", "id"),
    comment="What audits found wrong, until it is repaired",
)

failed_ranges = Table(
    "failed_ranges",
    metadata,
    Column(
        "source_id",
        Integer,
        ForeignKey(sources.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the source, gapless.sources.id",
    ),
    Column("first_block", BigInteger, nullable=False, comment="first block of the range"),
    Column("last_block", BigInteger, nullable=False, comment="last block of the range, included"),
    Column("reason", String, nullable=False, comment="what the nodes said, for people"),
    Column("failures", BigInteger, nullable=False, server_default="1", comment="how often in a row"),
    timestamp("failed_at", nullable=False, default=True, comment="when nodes were last asked in vain"),
    timestamp("retry_at", nullable=False, comment="not asked for again before"),
    PrimaryKeyConstraint("source_id", "first_block"),
    comment="Blocks of history that could not be fetched lately, and when they are asked for again",
)

undecoded_logs = Table(
    "undecoded_logs",
    metadata,
    Column(
        "event_id",
        Integer,
        ForeignKey(events.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the event whose topic the log bears, gapless.events.id",
    ),
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("block_number", BigInteger, nullable=False, comment="block that bore the log"),
    Column("log_index", BigInteger, nullable=False, comment="place of the log in the block, as the node numbers them"),
    timestamp("block_time", nullable=False, comment="the block's timestamp"),
    Column("tx_hash", LargeBinary, nullable=False, comment="hash of the transaction, 32 bytes"),
    Column("tx_index", BigInteger, nullable=False, comment="place of the transaction in the block, the first is 0"),
    Column(
        "contract_address",
        LargeBinary,
        nullable=False,
        comment="who emitted the log, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
    ),
    Column("topics", ARRAY(LargeBinary), nullable=False, comment="all topics, 32 bytes each, the event's first"),
    Column("data", LargeBinary, nullable=False, comment="the log's data, raw"),
    Column("reason", String, nullable=False, comment="why it cannot be decoded, for people"),
    Column("has_row", Boolean, nullable=False, comment="true: the row is in the table, with a text altered"),
    Column("announced", JSONB(none_as_null=True), comment="addresses in a row that Postgres refused, by column"),
    PrimaryKeyConstraint("event_id", "chain_id", "block_number", "log_index"),
    Index(
        "undecoded_logs_address",
        *("contract_address", "event_id", "chain_id", "block_number"),
        postgresql_where=text("NOT has_row"),
    ),
    comment="Logs that bear an event's topic but not its shape, raw, each with the reason",
)

foreign_shapes = Table(
    "foreign_shapes",
    metadata,
    Column(
        "event_id",
        Integer,
        ForeignKey(events.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the event, gapless.events.id",
    ),
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("block_number", BigInteger, nullable=False, comment="the block that bore the logs"),
    Column("topics", SmallInteger, nullable=False, comment="how many topics each log has, the first included"),
    Column(
        "logs",
        Integer,
        Computed("cardinality(addresses)", persisted=True),
        nullable=False,
        comment="how many there are",
    ),
    Column("addresses", ARRAY(LargeBinary), nullable=False, comment="of the contract of each log, 20 bytes"),
    Index("foreign_shapes_block", "event_id", "chain_id", "block_number"),
    Index("foreign_shapes_addresses", "addresses", postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
    comment="Logs of an event's signature that another declaration's indexed arguments explain, counted and not kept",
)


api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Integer, primary_key=True, comment="number of the key"),
    Column("name", String, nullable=False, comment="whose it is, for people"),
    Column("hash", LargeBinary, nullable=False, unique=True, comment="SHA-256 of the key, which is kept nowhere"),
    Column("prefix", String, nullable=False, comment="its first characters, to recognise it by"),
    Column("scopes", ARRAY(String), nullable=False, comment="read, webhooks, admin"),
    Column(
        "origins",
        ARRAY(String),
        nullable=False,
        server_default=NO_NAMES,
        comment="web origins that may use it; none: any, and programs too",
    ),
    Column("rate", Integer, comment="requests a minute; null: as the settings say"),
    timestamp("expires_at", comment="null: never"),
    timestamp("created_at", nullable=False, default=True, comment="when the key was made"),
    timestamp("revoked_at", comment="when the key was revoked; null: it was not"),
    comment="Keys of the read API",
)

token_secrets = Table(
    "token_secrets",
    metadata,
    Column("id", Integer, primary_key=True, comment="number of the secret"),
    Column("secret", LargeBinary, nullable=False, comment="32 random bytes; whoever knows them can make tokens"),
    timestamp("created_at", nullable=False, default=True, comment="when the secret was made"),
    comment="What the API signs its short-lived tokens with; the newest signs, older ones end",
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True, comment="number of the job"),
    Column("kind", String, nullable=False, comment="repair, audit, redecode or refresh_tokens"),
    Column("parameters", JSONB, nullable=False, comment="what was asked for, by the kind's names"),
    Column(
        "state", String, nullable=False, server_default="queued", comment="queued, running, done, failed or cancelled"
    ),
    Column("progress", JSONB, comment="how far it is, as the job's kind tells it"),
    Column("result", JSONB, comment="what came of it, once it is done"),
    Column("error", String, comment="why it failed"),
    Column("created_by", String, nullable=False, comment="who asked for it, such as: key 3"),
    Column(
        "cancel_asked", Boolean, nullable=False, server_default=text("false"), comment="true: it ends at its next step"
    ),
    Column("worker", String, comment="the process that is at it"),
    Column("attempts", Integer, nullable=False, server_default="0", comment="how often it was begun"),
    timestamp("created_at", nullable=False, default=True, comment="when it was asked for"),
    timestamp("started_at", comment="when it was last begun; null: not yet"),
    timestamp("heartbeat_at", comment="when its worker was last heard of; taken over when that is long ago"),
    timestamp("ended_at", comment="when it ended; null: not yet"),
    CheckConstraint("state IN ('queued', 'running', 'done', 'failed', 'cancelled')", name="jobs_state"),
    Index("jobs_waiting", "kind", "id", postgresql_where=text("state IN ('queued', 'running')")),
    comment="Work that was asked for through the API, and what became of it",
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String, primary_key=True, comment="name of the webhook, random"),
    Column("owner", String, nullable=False, comment="who made it, such as: key 3"),
    Column("key_id", Integer, ForeignKey(api_keys.c.id), comment="of the key that made it; it ends with that key"),
    Column("url", LargeBinary, nullable=False, comment="encrypted: paths and queries carry secrets"),
    Column("host", String, nullable=False, comment="the URL's host, which may be shown"),
    Column("secret", LargeBinary, nullable=False, comment="encrypted; signs the messages"),
    Column("old_secret", LargeBinary, comment="encrypted; signs too until old_secret_until"),
    timestamp("old_secret_until", comment="until when old_secret signs too"),
    Column("description", String, comment="what it is for, in its owner's words"),
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("contract", String, comment="null: all of the chain"),
    Column("event", String, comment="its API name; null: all of the contract"),
    Column("filters", JSONB, nullable=False, server_default=text("'{}'::jsonb"), comment="as in the URL of the rows"),
    Column(
        "finality",
        String,
        nullable=False,
        server_default="finalized",
        comment="which rows are delivered: finalized, safe or latest",
    ),
    Column("batch", Integer, nullable=False, server_default="100", comment="most rows of a message"),
    Column("state", String, nullable=False, server_default="active", comment="active, paused or disabled"),
    Column("reason", String, comment="why it is disabled, or not delivered"),
    Column("position", String, nullable=False, comment="a cursor: all up to it was delivered"),
    Column("told_block", BigInteger, comment="no row of a later block was in a message; null: none at all was"),
    Column("looked", String, comment="the chain's state in which nothing more was found"),
    Column("sequence", BigInteger, nullable=False, server_default="0", comment="of the newest message"),
    Column("message_id", String, comment="of the message that is not acknowledged yet"),
    Column("message_type", String, comment="type of that message"),
    Column("message", LargeBinary, comment="its body, the same at every attempt"),
    Column("message_position", String, comment="the position once it is acknowledged"),
    Column("failures", Integer, nullable=False, server_default="0", comment="failed attempts of it"),
    timestamp("due_at", nullable=False, default=True, comment="when to look or to try again"),
    Column("test_id", String, comment="of a test message that was asked for"),
    Column("lease", String, comment="who is delivering"),
    timestamp("leased_until", comment="when the lease ends"),
    timestamp("created_at", nullable=False, default=True, comment="when the webhook was made"),
    timestamp("delivered_at", comment="when a message was last acknowledged"),
    Index("webhooks_owner_idx", "owner"),
    comment="Subscriptions to rows, delivered by HTTP",
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", BigInteger, primary_key=True, comment="number of the row"),
    Column(
        "webhook_id",
        String,
        ForeignKey(webhooks.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the webhook, gapless.webhooks.id",
    ),
    Column("message_id", String, nullable=False, comment="of the message"),
    Column("message_type", String, nullable=False, comment="type of the message"),
    Column("attempt", Integer, nullable=False, comment="1 is the first"),
    timestamp("at", nullable=False, default=True, comment="when it was sent"),
    Column("status", Integer, comment="of the answer; null: there was none"),
    Column("error", String, comment="why there was no answer"),
    Column("answer", String, comment="its first bytes"),
    Column("milliseconds", Integer, nullable=False, comment="how long the answer took"),
    Column("bytes", Integer, nullable=False, comment="of the message"),
    Index("webhook_deliveries_webhook_id_idx", "webhook_id", "id"),
    Index("webhook_deliveries_at_idx", "at"),
    comment="Attempts to deliver messages, kept for some days",
)

cache_secret = Table(
    "cache_secret",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="always 1"),
    Column("secret", LargeBinary, nullable=False, comment="32 random bytes; values in Redis are signed with them"),
    comment="What values in Redis are signed with, where the environment names no secret",
)
