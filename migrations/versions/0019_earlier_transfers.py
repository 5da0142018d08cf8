"""Balances are exact only where nothing may be missing: earlier transfers, undecoded logs, open findings

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

_NEGATIVE = """CASE WHEN EXISTS (SELECT FROM gapless.holdings n
                            WHERE n.ledger_id = {0} AND n.token = {1} AND n.amount < 0)
               THEN 'somebody has less than nothing: the token gives without Transfer events' END"""

# Each reason is one SELECT; the first that tells one is shown.
_PROBLEM = f"""
    CREATE FUNCTION gapless.balance_problem(of_ledger integer, of_token bytea) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        (SELECT p.detail FROM gapless.balance_problems p WHERE p.ledger_id = l.id AND p.token = of_token),
        {_NEGATIVE.format("l.id", "of_token")},
        l.doubt,
        (SELECT 'a log of ' || e.name || ' in block ' || u.block_number || ' is not counted: ' || u.reason
         FROM gapless.undecoded_logs u JOIN gapless.events e ON e.id = u.event_id
         WHERE u.chain_id = l.chain_id AND u.contract_address = of_token AND u.event_id = ANY (l.event_ids)
           AND NOT u.has_row AND u.block_number BETWEEN l.start_block AND l.through_block
         ORDER BY u.block_number LIMIT 1),
        (SELECT 'an audit found its rows wrong in block ' || f.first_block || ' (' || f.kind || '): ' || f.detail
         FROM gapless.findings f
         WHERE f.chain_id = l.chain_id AND f.repaired_at IS NULL
           AND (f.event_id IS NULL OR f.event_id = ANY (l.event_ids))
           AND f.first_block <= l.through_block AND f.last_block >= l.start_block
         ORDER BY f.first_block LIMIT 1),
        (SELECT CASE
            WHEN e.found_block IS NOT NULL
            THEN 'it gave in block ' || e.found_block || ', and is counted from block ' || b.before
            WHEN e.silent THEN NULL
            WHEN l.place ->> 'kind' = 'factory' AND b.before > l.start_block THEN (
                SELECT 'its factory announces tokens that gave before that: 0x' || encode(o.address, 'hex')
                    || ' gave in block ' || o.found_block || '; this one may have given before block ' || b.before
                FROM gapless.earlier_transfers o JOIN gapless.children c
                  ON c.chain_id = o.chain_id AND c.contract_id = l.contract_id AND c.address = o.address
                 AND c.block_number = o.before_block
                WHERE o.chain_id = l.chain_id AND o.found_block IS NOT NULL LIMIT 1)
            WHEN b.before > 1
            THEN 'it is not known whether it gave before block ' || b.before || ', from which it is counted'
                || coalesce(': ' || e.detail, '') END
         FROM (SELECT greatest(l.start_block, (
                   SELECT c.block_number FROM gapless.children c
                   WHERE l.place ->> 'kind' = 'factory' AND c.chain_id = l.chain_id
                     AND c.contract_id = l.contract_id AND c.address = of_token)) AS before) b
         LEFT JOIN gapless.earlier_transfers e
           ON e.chain_id = l.chain_id AND e.address = of_token AND e.before_block = b.before))
    FROM gapless.ledgers l WHERE l.id = of_ledger
    $$
"""
_BALANCES = """
    CREATE OR REPLACE VIEW gapless.balances AS
    SELECT l.chain_id, c.name AS contract, l.kind, h.token, h.token_id, h.holder, h.amount,
           l.through_block AS block_number, NOT l.live AS stale, {} AS problem
    FROM gapless.holdings h
    JOIN gapless.ledgers l ON l.id = h.ledger_id AND l.served
    JOIN gapless.contracts c ON c.id = l.contract_id
"""
_JOIN = "LEFT JOIN gapless.balance_problems p ON p.ledger_id = h.ledger_id AND p.token = h.token"


def upgrade() -> None:
    op.create_table(
        "earlier_transfers",
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.LargeBinary(), nullable=False),
        sa.Column("before_block", sa.BigInteger(), nullable=False, comment="from here on its transfers are counted"),
        sa.Column("found_block", sa.BigInteger(), comment="a block before that in which it gave; null: none was found"),
        sa.Column("silent", sa.Boolean(), nullable=False, comment="true: it gave nothing before that"),
        sa.Column("checked_from", sa.BigInteger(), nullable=False, comment="from here to before_block it gave nothing"),
        sa.Column("detail", sa.String(), comment="why it is not known, for people"),
        sa.Column("attempts", sa.SmallInteger(), nullable=False, comment="times that nodes were asked in vain"),
        sa.Column(
            "asked_again_at", sa.DateTime(timezone=True), comment="when nodes are asked again; null: it is known"
        ),
        sa.PrimaryKeyConstraint("chain_id", "address", "before_block"),
        schema="gapless",
        comment="Whether tokens whose balances are kept gave anything before their transfers are counted",
    )
    op.create_index(
        "earlier_transfers_found",
        "earlier_transfers",
        ["chain_id", "address"],
        schema="gapless",
        postgresql_where=sa.text("found_block IS NOT NULL"),
    )
    op.create_index(
        "undecoded_logs_address",
        "undecoded_logs",
        ["contract_address", "event_id", "chain_id", "block_number"],
        schema="gapless",
        postgresql_where=sa.text("NOT has_row"),
    )
    op.add_column(
        "ledgers",
        sa.Column("compared_at", sa.DateTime(timezone=True), comment="when its tokens were asked what holders have"),
        schema="gapless",
    )
    op.execute(_PROBLEM)
    op.execute(_BALANCES.format("gapless.balance_problem(l.id, h.token)::varchar"))


def downgrade() -> None:
    problem = f"coalesce(p.detail, {_NEGATIVE.format('h.ledger_id', 'h.token')}, l.doubt)"
    op.execute(_BALANCES.format(problem) + _JOIN)
    op.execute("DROP FUNCTION gapless.balance_problem(integer, bytea)")
    op.drop_column("ledgers", "compared_at", schema="gapless")
    op.drop_index("undecoded_logs_address", "undecoded_logs", schema="gapless")
    op.drop_table("earlier_transfers", schema="gapless")
