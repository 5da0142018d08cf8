"""Tokens, what they say of themselves, and who holds how much of them: ``ledgers`` and ``holdings`` are balances."""

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
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

from indexer.store.schema.tables.catalog import contracts
from indexer.store.schema.tables.chain import metadata, timestamp

tokens = Table(
    "tokens",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column(
        "address",
        LargeBinary,
        nullable=False,
        comment="the token's contract, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
    ),
    Column("kind", String, comment="erc20, erc721, erc1155 or null: unknown"),
    Column("name", String, comment="what name() answered; null: nothing usable"),
    Column("symbol", String, comment="what symbol() answered; null: nothing usable"),
    Column("decimals", SmallInteger, comment="null: unknown, which is neither 0 nor 18"),
    Column("problems", JSONB, comment='what was odd, by field: {"symbol": "bytes32"}'),
    Column("block_number", BigInteger, nullable=False, comment="read at this block"),
    timestamp("read_at", nullable=False, default=True, comment="when it was last read"),
    timestamp("asked_again_at", comment="null: never; it may not have been deployed, or no node would run its calls"),
    Column("attempts", SmallInteger, nullable=False, server_default="1", comment="times that it was asked in vain"),
    PrimaryKeyConstraint("chain_id", "address"),
    Index("tokens_block", "chain_id", "block_number"),
    comment="What tokens say of themselves",
)

ledgers = Table(
    "ledgers",
    metadata,
    Column("id", Integer, primary_key=True, comment="number of the ledger"),
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column(
        "contract_id",
        Integer,
        ForeignKey(contracts.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the contract whose transfers are counted, gapless.contracts.id",
    ),
    Column("kind", String, nullable=False, comment="erc20, erc721 or erc1155"),
    Column("event_ids", ARRAY(Integer), nullable=False, comment="the transfer events that it counts, ascending"),
    Column("place", JSONB, nullable=False, comment="whose transfers it counts, as in sources.place"),
    Column("start_block", BigInteger, nullable=False, comment="first block that is counted"),
    Column("through_block", BigInteger, nullable=False, comment="its holdings are true at the end of this block"),
    Column("live", Boolean, nullable=False, comment="false: it goes no further; stale, or no longer wanted"),
    Column("served", Boolean, nullable=False, comment="the one that answers; another one may be under way"),
    Column("remark", String, comment="why it is not live"),
    Column("doubt", String, comment="why what its events tell may not be all; null: nothing speaks for that"),
    Column("version", BigInteger, nullable=False, server_default="0", comment="+1 with every change of its holdings"),
    timestamp("updated_at", nullable=False, default=True, comment="when the row was last written"),
    timestamp("compared_at", comment="when its tokens were asked what holders have"),
    Column(
        "daily",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="whether holdings_daily has its balances at the ends of days",
    ),
    Index("ledgers_live", "contract_id", "chain_id", unique=True, postgresql_where=text("live")),
    Index("ledgers_served", "contract_id", "chain_id", unique=True, postgresql_where=text("served")),
    comment="The balances of one contract on one chain, and how far they go",
)


def _whose() -> tuple[Column[Any], ...]:
    """The columns that say whose balance of what a row holds."""
    return (
        Column("ledger_id", Integer, nullable=False, comment="the ledger, gapless.ledgers.id"),
        Column("token", LargeBinary, nullable=False, comment="the token's contract, 20 bytes"),
        Column("token_id", Numeric(78, 0), nullable=False, comment="0 for ERC-20"),
        Column(
            "holder",
            LargeBinary,
            nullable=False,
            comment="the account, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
        ),
    )


holdings = Table(
    "holdings",
    metadata,
    # No foreign key, which would be looked up for every row; what a deleted ledger leaves behind is swept up.
    *_whose(),
    Column("amount", Numeric, nullable=False, comment="in the token's smallest unit; 1 for ERC-721; never 0"),
    PrimaryKeyConstraint("ledger_id", "token", "token_id", "holder"),
    Index("holdings_holder", "holder", "ledger_id", "token", "token_id"),
    Index("holdings_top", "ledger_id", "token", "token_id", "amount", "holder"),
    Index("holdings_empty", "ledger_id", postgresql_where=text("amount = 0")),
    Index("holdings_negative", "ledger_id", "token", postgresql_where=text("amount < 0")),
    comment="Who has how much of what, by the transfers that a ledger has counted (see the view balances)",
)

holdings_daily = Table(
    "holdings_daily",
    metadata,
    *_whose(),
    Column("day", Date, nullable=False, comment="the day (UTC)"),
    Column("change", Numeric, nullable=False, comment="what the day added, less what it took; never 0"),
    Column("amount", Numeric, nullable=False, comment="at its end, in the token's smallest unit; 1 for ERC-721"),
    PrimaryKeyConstraint("ledger_id", "token", "token_id", "holder", "day"),
    # With the day, so that the largest of a day are found in the index alone.
    Index("holdings_daily_top", "ledger_id", "token", "token_id", "amount", "holder", "day"),
    # Days come one after the other: for those before most rows.
    Index("holdings_daily_day", "day", postgresql_using="brin", postgresql_with={"autosummarize": "on"}),
    Index("holdings_daily_unchanged", "ledger_id", postgresql_where=text("change = 0")),
    comment="Who had how much of what at the ends of days, a row for each day with a change (see balance_daily)",
)

balance_problems = Table(
    "balance_problems",
    metadata,
    Column(
        "ledger_id",
        Integer,
        ForeignKey(ledgers.c.id, ondelete="CASCADE"),
        nullable=False,
        comment="the ledger, gapless.ledgers.id",
    ),
    Column(
        "token",
        LargeBinary,
        nullable=False,
        comment="the token's contract, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
    ),
    Column("detail", String, nullable=False, comment="what is wrong, for people"),
    Column("block_number", BigInteger, nullable=False, comment="found at this block"),
    timestamp("found_at", nullable=False, default=True, comment="when it was found"),
    PrimaryKeyConstraint("ledger_id", "token"),
    comment="Tokens whose balances do not follow from their transfers, as audits found",
)

earlier_transfers = Table(
    "earlier_transfers",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id"),
    Column(
        "address",
        LargeBinary,
        nullable=False,
        comment="the token, 20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
    ),
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

own_labels = Table(
    "own_labels",
    metadata,
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155 chain id; 0: on every chain"),
    Column(
        "address",
        LargeBinary,
        nullable=False,
        comment="20 bytes; gapless.hex shows it, gapless.addr('0x…') writes it",
    ),
    Column("name", String, nullable=False, comment="what the address is called"),
    PrimaryKeyConstraint("address", "chain_id"),
    CheckConstraint("length(address) = 20", name="own_labels_address"),
    CheckConstraint("name <> ''", name="own_labels_name"),
    comment="Names that you give to addresses: Gapless reads them in gapless.labels, and never changes them",
)
