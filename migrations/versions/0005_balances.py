"""Balances: ledgers, holdings, and the view that joins them

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BALANCES = """
    CREATE VIEW gapless.balances AS
    SELECT l.chain_id, c.name AS contract, l.kind, h.token, h.token_id, h.holder, h.amount,
           l.through_block AS block_number, NOT l.live AS stale,
           CASE WHEN p.token IS NOT NULL THEN p.detail
                WHEN EXISTS (SELECT FROM gapless.holdings n
                             WHERE n.ledger_id = h.ledger_id AND n.token = h.token AND n.amount < 0)
                THEN 'somebody has less than nothing: the token gives without Transfer events' END AS problem
    FROM gapless.holdings h
    JOIN gapless.ledgers l ON l.id = h.ledger_id AND l.served
    JOIN gapless.contracts c ON c.id = l.contract_id
    LEFT JOIN gapless.balance_problems p ON p.ledger_id = h.ledger_id AND p.token = h.token
"""


def upgrade() -> None:
    op.create_table(
        "ledgers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("contract_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False, comment="erc20, erc721 or erc1155"),
        sa.Column(
            "event_ids",
            postgresql.ARRAY(sa.Integer()),
            nullable=False,
            comment="the transfer events that it counts, ascending",
        ),
        sa.Column(
            "place", postgresql.JSONB(), nullable=False, comment="whose transfers it counts, as in sources.place"
        ),
        sa.Column("start_block", sa.BigInteger(), nullable=False),
        sa.Column(
            "through_block",
            sa.BigInteger(),
            nullable=False,
            comment="its holdings are true at the end of this block",
        ),
        sa.Column(
            "live", sa.Boolean(), nullable=False, comment="false: it goes no further; stale, or no longer wanted"
        ),
        sa.Column("served", sa.Boolean(), nullable=False, comment="the one that answers; another one may be under way"),
        sa.Column("remark", sa.String(), comment="why it is not live"),
        sa.Column(
            "version",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="+1 with every change of its holdings",
        ),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["contract_id"], ["gapless.contracts.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="The balances of one contract on one chain, and how far they go",
    )
    for flag in ("live", "served"):
        op.create_index(
            f"ledgers_{flag}",
            "ledgers",
            ["contract_id", "chain_id"],
            unique=True,
            postgresql_where=sa.text(flag),
            schema="gapless",
        )
    op.create_table(
        "holdings",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=False, comment="the token's contract, 20 bytes"),
        sa.Column("token_id", sa.Numeric(78, 0), nullable=False, comment="0 for ERC-20"),
        sa.Column("holder", sa.LargeBinary(), nullable=False),
        sa.Column(
            "amount",
            sa.Numeric(),
            nullable=False,
            comment="in the token's smallest unit; 1 for ERC-721; never 0",
        ),
        sa.PrimaryKeyConstraint("ledger_id", "token", "token_id", "holder"),
        schema="gapless",
        comment="Who has how much of what, by the transfers that a ledger has counted (see the view balances)",
    )
    # Every change of an amount leaves a dead row and three dead index entries behind.
    op.execute("ALTER TABLE gapless.holdings SET (autovacuum_vacuum_scale_factor = 0.05)")
    op.create_index("holdings_holder", "holdings", ["holder", "ledger_id", "token", "token_id"], schema="gapless")
    op.create_index(
        "holdings_top", "holdings", ["ledger_id", "token", "token_id", "amount", "holder"], schema="gapless"
    )
    op.create_index(
        "holdings_empty", "holdings", ["ledger_id"], postgresql_where=sa.text("amount = 0"), schema="gapless"
    )
    op.create_index(
        "holdings_negative",
        "holdings",
        ["ledger_id", "token"],
        postgresql_where=sa.text("amount < 0"),
        schema="gapless",
    )
    op.create_table(
        "balance_problems",
        sa.Column("ledger_id", sa.Integer(), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False, comment="what is wrong, for people"),
        sa.Column("block_number", sa.BigInteger(), nullable=False, comment="found at this block"),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["ledger_id"], ["gapless.ledgers.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("ledger_id", "token"),
        schema="gapless",
        comment="Tokens whose balances do not follow from their transfers, as audits found",
    )
    op.alter_column(
        "findings",
        "kind",
        comment="gap, outside, duplicate, dangling, child, digest, balance, against or proof",
        existing_comment="gap, outside, duplicate, dangling, child, digest, against or proof",
        existing_type=sa.String(),
        existing_nullable=False,
        schema="gapless",
    )
    op.execute(_BALANCES)
    op.execute("COMMENT ON VIEW gapless.balances IS 'Who has how much of what, and the block at which that is true'")


def downgrade() -> None:
    op.execute("DROP VIEW IF EXISTS gapless.transfers")
    op.execute("DROP VIEW gapless.balances")
    op.alter_column(
        "findings",
        "kind",
        comment="gap, outside, duplicate, dangling, child, digest, against or proof",
        existing_comment="gap, outside, duplicate, dangling, child, digest, balance, against or proof",
        existing_type=sa.String(),
        existing_nullable=False,
        schema="gapless",
    )
    op.drop_table("balance_problems", schema="gapless")
    op.drop_table("holdings", schema="gapless")
    op.drop_table("ledgers", schema="gapless")
