"""The catalog: what the manifest declares, and how much of it is indexed; tokens and who holds them.

``sources`` carries the coverage; ``children`` is what factory rules have found; ``ledgers`` and ``holdings`` are
balances.
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
    Numeric,
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
    Column("id", Integer, primary_key=True),
    Column("name", String, nullable=False, unique=True, comment="name in the manifest"),
    Column("schema_name", String, nullable=False, unique=True, comment="Postgres schema of its event tables"),
    Column("abi", JSONB, nullable=False, comment="the whole ABI as given"),
    Column("active", Boolean, nullable=False, server_default=text("true"), comment="still in the manifest"),
    timestamp("created_at", nullable=False, default=True),
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
    Column(
        "coverage",
        INT8MULTIRANGE,
        nullable=False,
        server_default=NO_BLOCKS,
        comment="indexed blocks; open at its end: followed, up to the chain's tip_number (gapless.covered says it)",
    ),
    Column("verified", INT8MULTIRANGE, nullable=False, server_default=NO_BLOCKS),
    Column("active", Boolean, nullable=False, server_default=text("true")),
    timestamp("created_at", nullable=False, default=True),
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
    Column("chain_id", BigInteger, nullable=False),
    Column("address", LargeBinary, nullable=False),
    Column("block_number", BigInteger, nullable=False, comment="first block with code at the address, or with its log"),
    Column(
        "checked_from",
        BigInteger,
        comment="from here to block_number no log of the address was found; null: nobody looked",
    ),
    timestamp("found_at", nullable=False, default=True),
    PrimaryKeyConstraint("chain_id", "address"),
    comment='Where contracts with start_block = "auto" were deployed, as an archive node told once',
)

children = Table(
    "children",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    Column("contract_id", Integer, ForeignKey(contracts.c.id, ondelete="CASCADE"), nullable=False),
    Column("address", LargeBinary, nullable=False),
    Column("block_number", BigInteger, nullable=False, comment="block of birth"),
    Column("log_index", BigInteger, nullable=False),
    Column("factory_address", LargeBinary, nullable=False, comment="the contract that announced it"),
    PrimaryKeyConstraint("chain_id", "contract_id", "address"),
    Index("children_birth", "chain_id", "contract_id", "block_number"),
    comment="The addresses that a factory rule has found, each with its birth",
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
    timestamp("taken_at", nullable=False, default=True),
    timestamp("asked_again_at", comment="when calls that no node would run are asked again; null: there are none"),
    Column("attempts", SmallInteger, nullable=False, server_default="1"),
    PrimaryKeyConstraint("series_id", "chain_id", "block_number"),
    Index("series_points_asked_again", "series_id", "chain_id", postgresql_where=text("asked_again_at IS NOT NULL")),
    Index("series_points_block", "chain_id", "block_number"),
    comment="The blocks at which a series was read",
)

unfinalized_rows = Table(
    "unfinalized_rows",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    Column("block_number", BigInteger, nullable=False),
    Column("event_id", Integer, ForeignKey(events.c.id, ondelete="CASCADE"), nullable=False),
    PrimaryKeyConstraint("chain_id", "block_number", "event_id"),
    comment="Which events have rows or undecoded logs in blocks that can still be reorganised",
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
    timestamp("read_at", nullable=False, default=True),
    timestamp("asked_again_at", comment="null: never; it may not have been deployed, or no node would run its calls"),
    Column("attempts", SmallInteger, nullable=False, server_default="1", comment="times that it was asked in vain"),
    PrimaryKeyConstraint("chain_id", "address"),
    Index("tokens_block", "chain_id", "block_number"),
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
    Column("doubt", String, comment="why what its events tell may not be all; null: nothing speaks for that"),
    Column("version", BigInteger, nullable=False, server_default="0", comment="+1 with every change of its holdings"),
    timestamp("updated_at", nullable=False, default=True),
    timestamp("compared_at", comment="when its tokens were asked what holders have"),
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
    timestamp("found_at", nullable=False, default=True),
    PrimaryKeyConstraint("ledger_id", "token"),
    comment="Tokens whose balances do not follow from their transfers, as audits found",
)

earlier_transfers = Table(
    "earlier_transfers",
    metadata,
    Column("chain_id", BigInteger, nullable=False),
    Column("address", LargeBinary, nullable=False),
    Column("before_block", BigInteger, nullable=False, comment="from here on its transfers are counted"),
    Column("found_block", BigInteger, comment="a block before that in which it gave; null: none was found"),
    Column("silent", Boolean, nullable=False, comment="true: it gave nothing before that"),
    Column("checked_from", BigInteger, nullable=False, comment="from here to before_block it gave nothing"),
    Column("detail", String, comment="why it is not known, for people"),
    Column("attempts", SmallInteger, nullable=False, comment="times that nodes were asked in vain"),
    timestamp("asked_again_at", comment="when nodes are asked again; null: it is known"),
    PrimaryKeyConstraint("chain_id", "address", "before_block"),
    Index("earlier_transfers_found", "chain_id", "address", postgresql_where=text("found_block IS NOT NULL")),
    comment="Whether tokens whose balances are kept gave anything before their transfers are counted",
)

cache_secret = Table(
    "cache_secret",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False, comment="always 1"),
    Column("secret", LargeBinary, nullable=False, comment="32 random bytes; values in Redis are signed with them"),
    comment="What values in Redis are signed with, where the environment names no secret",
)
