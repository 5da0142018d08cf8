"""Logs of foreign shapes are counted

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_FOREIGN = """
        (SELECT 'logs of ' || e.name || ' in block ' || f.block_number || ' are not counted: they have ' || f.topics
             || ' topics, other arguments are indexed'
         FROM gapless.foreign_shapes f JOIN gapless.events e ON e.id = f.event_id
         WHERE f.addresses @> ARRAY[of_token] AND f.chain_id = l.chain_id AND f.event_id = ANY (l.event_ids)
           AND f.block_number BETWEEN l.start_block AND l.through_block
         ORDER BY f.block_number LIMIT 1),"""
# As before, with one reason more.
_PROBLEM = """
    CREATE OR REPLACE FUNCTION gapless.balance_problem(of_ledger integer, of_token bytea) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        (SELECT p.detail FROM gapless.balance_problems p WHERE p.ledger_id = l.id AND p.token = of_token),
        CASE WHEN EXISTS (SELECT FROM gapless.holdings n
                            WHERE n.ledger_id = l.id AND n.token = of_token AND n.amount < 0)
               THEN 'somebody has less than nothing: the token gives without Transfer events' END,
        l.doubt,
        (SELECT 'a log of ' || e.name || ' in block ' || u.block_number || ' is not counted: ' || u.reason
         FROM gapless.undecoded_logs u JOIN gapless.events e ON e.id = u.event_id
         WHERE u.chain_id = l.chain_id AND u.contract_address = of_token AND u.event_id = ANY (l.event_ids)
           AND NOT u.has_row AND u.block_number BETWEEN l.start_block AND l.through_block
         ORDER BY u.block_number LIMIT 1),{}
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


def upgrade() -> None:
    op.create_table(
        "foreign_shapes",
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column(
            "topics", sa.SmallInteger(), nullable=False, comment="how many topics each log has, the first included"
        ),
        sa.Column(
            "logs",
            sa.Integer(),
            sa.Computed("cardinality(addresses)", persisted=True),
            nullable=False,
            comment="how many there are",
        ),
        sa.Column(
            "addresses",
            postgresql.ARRAY(sa.LargeBinary()),
            nullable=False,
            comment="of the contract of each log, 20 bytes",
        ),
        sa.ForeignKeyConstraint(["event_id"], ["gapless.events.id"], ondelete="CASCADE"),
        schema="gapless",
        comment="Logs of an event's signature that another declaration's indexed arguments explain, "
        "counted and not kept",
    )
    op.create_index(
        "foreign_shapes_block", "foreign_shapes", ["event_id", "chain_id", "block_number"], schema="gapless"
    )

    op.create_index(
        "foreign_shapes_addresses",
        "foreign_shapes",
        ["addresses"],
        schema="gapless",
        postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
    )
    op.execute(_PROBLEM.format(_FOREIGN))


def downgrade() -> None:
    op.execute(_PROBLEM.format(""))
    op.drop_table("foreign_shapes", schema="gapless")
