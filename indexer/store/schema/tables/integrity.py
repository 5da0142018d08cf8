"""What is known of the rows' truth: digests, what audits found, and logs that do not have their event's shape."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
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
from indexer.store.schema.tables.chain import chains, metadata, timestamp

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
    timestamp("found_at", nullable=False, default=True),
    timestamp("repaired_at", comment="null: not yet"),
    Index("findings_chain", "chain_id", "id"),
    comment="What audits found wrong, until it is repaired",
)

failed_ranges = Table(
    "failed_ranges",
    metadata,
    Column("source_id", Integer, ForeignKey(sources.c.id, ondelete="CASCADE"), nullable=False),
    Column("first_block", BigInteger, nullable=False),
    Column("last_block", BigInteger, nullable=False),
    Column("reason", String, nullable=False, comment="what the nodes said, for people"),
    Column("failures", BigInteger, nullable=False, server_default="1", comment="how often in a row"),
    timestamp("failed_at", nullable=False, default=True),
    timestamp("retry_at", nullable=False, comment="not asked for again before"),
    PrimaryKeyConstraint("source_id", "first_block"),
    comment="Blocks of history that could not be fetched lately, and when they are asked for again",
)

undecoded_logs = Table(
    "undecoded_logs",
    metadata,
    Column("event_id", Integer, ForeignKey(events.c.id, ondelete="CASCADE"), nullable=False),
    Column("chain_id", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("log_index", BigInteger, nullable=False),
    timestamp("block_time", nullable=False),
    Column("tx_hash", LargeBinary, nullable=False),
    Column("tx_index", BigInteger, nullable=False),
    Column("contract_address", LargeBinary, nullable=False),
    Column("topics", ARRAY(LargeBinary), nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("reason", String, nullable=False),
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
    Column("event_id", Integer, ForeignKey(events.c.id, ondelete="CASCADE"), nullable=False),
    Column("chain_id", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
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
