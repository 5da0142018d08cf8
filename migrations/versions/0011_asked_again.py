"""What is asked again and when; why balances may not be all; what values in Redis are signed with

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_NEGATIVE = """CASE WHEN EXISTS (SELECT FROM gapless.holdings n
                                WHERE n.ledger_id = h.ledger_id AND n.token = h.token AND n.amount < 0)
                   THEN 'somebody has less than nothing: the token gives without Transfer events' END"""
_BALANCES = """
    CREATE OR REPLACE VIEW gapless.balances AS
    SELECT l.chain_id, c.name AS contract, l.kind, h.token, h.token_id, h.holder, h.amount,
           l.through_block AS block_number, NOT l.live AS stale, {} AS problem
    FROM gapless.holdings h
    JOIN gapless.ledgers l ON l.id = h.ledger_id AND l.served
    JOIN gapless.contracts c ON c.id = l.contract_id
    LEFT JOIN gapless.balance_problems p ON p.ledger_id = h.ledger_id AND p.token = h.token
"""


def upgrade() -> None:
    op.add_column(
        "tokens",
        sa.Column(
            "asked_again_at",
            sa.DateTime(timezone=True),
            comment="null: never; it may not have been deployed, or no node would run its calls",
        ),
        schema="gapless",
    )
    op.add_column(
        "tokens",
        sa.Column(
            "attempts",
            sa.SmallInteger(),
            server_default="1",
            nullable=False,
            comment="times that it was asked in vain",
        ),
        schema="gapless",
    )
    op.execute("UPDATE gapless.tokens SET asked_again_at = read_at + interval '1 hour' WHERE kind IS NULL")
    op.add_column(
        "series_points",
        sa.Column(
            "asked_again_at",
            sa.DateTime(timezone=True),
            comment="when calls that no node would run are asked again; null: there are none",
        ),
        schema="gapless",
    )
    op.add_column(
        "series_points",
        sa.Column("attempts", sa.SmallInteger(), server_default="1", nullable=False),
        schema="gapless",
    )
    op.create_index(
        "series_points_asked_again",
        "series_points",
        ["series_id", "chain_id"],
        postgresql_where=sa.text("asked_again_at IS NOT NULL"),
        schema="gapless",
    )
    op.add_column(
        "ledgers",
        sa.Column(
            "doubt", sa.String(), comment="why what its events tell may not be all; null: nothing speaks for that"
        ),
        schema="gapless",
    )
    op.execute(_BALANCES.format(f"coalesce(p.detail, {_NEGATIVE}, l.doubt)"))
    op.create_table(
        "cache_secret",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="always 1"),
        sa.Column(
            "secret", sa.LargeBinary(), nullable=False, comment="32 random bytes; values in Redis are signed with them"
        ),
        sa.PrimaryKeyConstraint("id"),
        schema="gapless",
        comment="What values in Redis are signed with, where the environment names no secret",
    )
    op.execute("""
        INSERT INTO gapless.cache_secret (id, secret)
        SELECT 1, decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
    """)


def downgrade() -> None:
    op.drop_table("cache_secret", schema="gapless")
    op.execute(_BALANCES.format(f"coalesce(p.detail, {_NEGATIVE})"))
    op.drop_column("ledgers", "doubt", schema="gapless")
    op.drop_column("series_points", "attempts", schema="gapless")
    op.drop_column("series_points", "asked_again_at", schema="gapless")
    op.drop_column("tokens", "attempts", schema="gapless")
    op.drop_column("tokens", "asked_again_at", schema="gapless")
