"""The catalog: what the manifest declares, and how much of it is indexed.

``sources`` carries the coverage; ``children`` is what factory rules have found.
"""

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
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB

from indexer.store.schema.tables.chain import NO_BLOCKS, NO_NAMES, chains, metadata, timestamp

catalog = Table(
    "catalog",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="always 1"),
    Column("version", BigInteger, nullable=False, comment="+1 with every change of what is declared"),
    comment="One row: the version of contracts, events, sources and series as a whole",
)

contracts = Table(
    "contracts",
    metadata,
    Column("id", Integer, primary_key=True, comment="number of the contract"),
    Column("name", String, nullable=False, unique=True, comment="name in the manifest"),
    Column("schema_name", String, nullable=False, unique=True, comment="Postgres schema of its event tables"),
    Column("abi", JSONB, nullable=False, comment="the whole ABI as given"),
    Column("active", Boolean, nullable=False, server_default=text("true"), comment="still in the manifest"),
    timestamp("created_at", nullable=False, default=True, comment="when the row was added"),
    comment="A name, an ABI, and (by deployments) where it lives",
)

deployments = Table(
    "deployments",
    metadata,
    Column(
        "contract_id",
        Integer,
        ForeignKey(contracts.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the contract, gapless.contracts.id",
    ),
    Column("chain_id", BigInteger, ForeignKey(chains.c.chain_id), nullable=False, comment="EIP-155 chain id"),
    Column("kind", String, nullable=False, comment="addresses, factory or any"),
    Column(
        "addresses",
        ARRAY(LargeBinary),
        nullable=False,
        server_default=text("'{}'::bytea[]"),
        comment="of kind addresses: 20 bytes each; else empty",
    ),
    Column("factories", JSONB(none_as_null=True), comment="[{contract, event, argument}] of a factory rule"),
    Column("start_block", BigInteger, nullable=False, comment="first wanted block"),
    Column("end_block", BigInteger, comment="last wanted block; null: for ever"),
    Column("active", Boolean, nullable=False, server_default=text("true"), comment="still in the manifest"),
    Column(
        "include",
        ARRAY(String),
        nullable=False,
        server_default=NO_NAMES,
        comment="what to keep besides the logs: block, transaction, receipt",
    ),
    Column(
        "included",
        INT8MULTIRANGE,
        nullable=False,
        server_default=NO_BLOCKS,
        comment="blocks for whose events all of include is there",
    ),
    Column(
        "adopted",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="false: the factory rules are new, and their children not looked for in the tables yet",
    ),
    PrimaryKeyConstraint("contract_id", "chain_id"),
    Index("deployments_addresses", "addresses", postgresql_using="gin"),
    comment="Where a contract lives on one chain, as the manifest says",
)

events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True, comment="number of the event"),
    Column(
        "contract_id",
        Integer,
        ForeignKey(contracts.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the contract, gapless.contracts.id",
    ),
    Column("name", String, nullable=False, comment="name in the ABI"),
    Column("api_name", String, nullable=False, comment="name in the API: the ABI's, or Name~selector if overloaded"),
    Column("signature", String, nullable=False, comment="Transfer(address,address,uint256)"),
    Column("topic0", LargeBinary, nullable=False, comment="keccak-256 of the signature, also of an anonymous event"),
    Column("anonymous", Boolean, nullable=False, comment="true: its logs have no topic0"),
    Column("abi", JSONB, nullable=False, comment="the event's item of the ABI"),
    Column("table_name", String, nullable=False, comment="in the contract's schema_name"),
    Column("columns", JSONB, nullable=False, comment="the arguments' columns (indexer.abi.columns.Column), in order"),
    Column("layout_version", Integer, nullable=False, comment="layout of its table"),
    Column(
        "version",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="+1 with rows or coverage that history gets; new rows of the head show in the chain's tip",
    ),
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
        server_default=NO_NAMES,
        comment="columns that are to have an index",
    ),
    Column(
        "indexes_put_off",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="true: a large first backfill is under way, the indexes are built at its end",
    ),
    Column("view_name", String, comment="the readable view beside its table; null: not made yet"),
    Column("view_version", Integer, nullable=False, server_default="0", comment="its form"),
    UniqueConstraint("contract_id", "topic0"),
    UniqueConstraint("contract_id", "table_name"),
    comment="One event of a contract's ABI, and its table",
)

sources = Table(
    "sources",
    metadata,
    Column("id", Integer, primary_key=True, comment="number of the source"),
    Column("chain_id", BigInteger, ForeignKey(chains.c.chain_id), nullable=False, comment="EIP-155 chain id"),
    Column(
        "event_id",
        Integer,
        ForeignKey(events.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the event, gapless.events.id",
    ),
    Column("place", JSONB, nullable=False, comment="where: {kind, addresses | factory, filters}; disjoint per event"),
    Column("start_block", BigInteger, nullable=False, comment="first wanted block"),
    Column("end_block", BigInteger, comment="last wanted block; null: no end"),
    Column(
        "coverage",
        INT8MULTIRANGE,
        nullable=False,
        server_default=NO_BLOCKS,
        comment="indexed blocks; open at its end: followed, up to the chain's tip_number (gapless.covered says it)",
    ),
    Column(
        "verified",
        INT8MULTIRANGE,
        nullable=False,
        server_default=NO_BLOCKS,
        comment="blocks proven against receipts roots",
    ),
    Column("active", Boolean, nullable=False, server_default=text("true"), comment="still in the manifest"),
    timestamp("created_at", nullable=False, default=True, comment="when the row was added"),
    Column(
        "followed",
        Boolean,
        Computed("upper_inf(coverage)", persisted=True),
        nullable=False,
        comment="true: new blocks are covered as the chain's tip_number moves",
    ),
    Index("sources_event", "event_id"),
    Index("sources_chain", "chain_id"),
    comment="chain x contract x event x where: the unit whose coverage is tracked",
)

deployment_blocks = Table(
    "deployment_blocks",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column(
        "address",
        LargeBinary,
        nullable=False,
        comment="the contract, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
    ),
    Column("block_number", BigInteger, nullable=False, comment="first block with code at the address, or with its log"),
    Column(
        "checked_from",
        BigInteger,
        comment="from here to block_number no log of the address was found; null: nobody looked",
    ),
    timestamp("found_at", nullable=False, default=True, comment="when it was found"),
    PrimaryKeyConstraint("chain_id", "address"),
    comment='Where contracts with start_block = "auto" were deployed, as an archive node told once',
)

children = Table(
    "children",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column(
        "contract_id",
        Integer,
        ForeignKey(contracts.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the contract that the address is a child of, gapless.contracts.id",
    ),
    Column(
        "address",
        LargeBinary,
        nullable=False,
        comment="the child, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
    ),
    Column("block_number", BigInteger, nullable=False, comment="block of birth"),
    Column("log_index", BigInteger, nullable=False, comment="place in the block of the log that announced it"),
    Column("factory_address", LargeBinary, nullable=False, comment="the contract that announced it"),
    PrimaryKeyConstraint("chain_id", "contract_id", "address"),
    Index("children_birth", "chain_id", "contract_id", "block_number"),
    comment="The addresses that a factory rule has found, each with its birth",
)

series = Table(
    "series",
    metadata,
    Column("id", Integer, primary_key=True, comment="number of the series"),
    Column("name", String, nullable=False, unique=True, comment="name in the manifest"),
    Column(
        "contract_id",
        Integer,
        ForeignKey(contracts.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the contract that is asked, gapless.contracts.id",
    ),
    Column("calls", JSONB, nullable=False, comment="function signatures, in order"),
    Column("every", String, nullable=False, comment="the schedule, as in the manifest"),
    Column("table_name", String, nullable=False, comment="in the contract's schema_name"),
    Column("columns", JSONB, nullable=False, comment="the outputs' columns, in order"),
    Column("version", BigInteger, nullable=False, server_default="0", comment="+1 with every change of its rows"),
    Column("active", Boolean, nullable=False, server_default=text("true"), comment="still in the manifest"),
    Column("definition", JSONB, comment="arguments and names of the calls, and the query; null: none of them"),
    UniqueConstraint("contract_id", "table_name"),
    comment="A snapshot: a series of multicall reads taken on a schedule, each at one block",
)

series_points = Table(
    "series_points",
    metadata,
    Column(
        "series_id",
        Integer,
        ForeignKey(series.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the series, gapless.series.id",
    ),
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("block_number", BigInteger, nullable=False, comment="block at which all calls were made"),
    Column("block_hash", LargeBinary, nullable=False, comment="hash of the block, 32 bytes"),
    timestamp("taken_at", nullable=False, default=True, comment="when the calls were made"),
    timestamp("asked_again_at", comment="when calls that no node would run are asked again; null: there are none"),
    Column("attempts", SmallInteger, nullable=False, server_default="1", comment="how often the calls were made"),
    PrimaryKeyConstraint("series_id", "chain_id", "block_number"),
    Index("series_points_asked_again", "series_id", "chain_id", postgresql_where=text("asked_again_at IS NOT NULL")),
    Index("series_points_block", "chain_id", "block_number"),
    comment="The blocks at which a series was read",
)

unfinalized_rows = Table(
    "unfinalized_rows",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column("block_number", BigInteger, nullable=False, comment="the block"),
    Column(
        "event_id",
        Integer,
        ForeignKey(events.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the event, gapless.events.id",
    ),
    PrimaryKeyConstraint("chain_id", "block_number", "event_id"),
    comment="Which events have rows or undecoded logs in blocks that can still be reorganised",
)
