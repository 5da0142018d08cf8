"""Children follow from the announcing events: adoption of new rules, and what refused rows announced

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "deployments",
        sa.Column(
            "adopted",
            sa.Boolean(),
            nullable=False,
            server_default=sa.text("true"),
            comment="false: the factory rules are new, and their children not looked for in the tables yet",
        ),
        schema="gapless",
    )
    op.add_column(
        "undecoded_logs",
        sa.Column("announced", JSONB(), nullable=True, comment="addresses in a row that Postgres refused, by column"),
        schema="gapless",
    )
    # What those rows announced is known from the children that they made.
    op.execute("""
        UPDATE gapless.undecoded_logs u SET announced = found.announced
        FROM (
            SELECT l.event_id, l.chain_id, l.block_number, l.log_index,
                   jsonb_object_agg((k ->> 'name') || substr(f ->> 'argument', length(k ->> 'argument') + 1),
                                    '0x' || encode(c.address, 'hex')) AS announced
            FROM gapless.undecoded_logs l
            JOIN gapless.events e ON e.id = l.event_id
            JOIN gapless.contracts a ON a.id = e.contract_id
            JOIN gapless.children c
              ON (c.chain_id, c.block_number, c.log_index) = (l.chain_id, l.block_number, l.log_index)
            JOIN gapless.deployments d ON (d.contract_id, d.chain_id) = (c.contract_id, c.chain_id)
            CROSS JOIN jsonb_array_elements(d.factories) f
            JOIN LATERAL jsonb_array_elements(e.columns) k ON k ->> 'argument' = split_part(f ->> 'argument', '.', 1)
            WHERE NOT l.has_row AND f ->> 'contract' = a.name AND f ->> 'event' = e.signature
            GROUP BY l.event_id, l.chain_id, l.block_number, l.log_index
        ) found
        WHERE (u.event_id, u.chain_id, u.block_number, u.log_index)
            = (found.event_id, found.chain_id, found.block_number, found.log_index)
    """)


def downgrade() -> None:
    op.drop_column("undecoded_logs", "announced", schema="gapless")
    op.drop_column("deployments", "adopted", schema="gapless")
