"""Why programs stand still that have no build yet, or whose next build does

Revision ID: 0113
Revises: 0112
"""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0113"
down_revision = "0112"
branch_labels = None
depends_on = None

# A build that is read shows why the one that is to take its place stands still; where there is no build that goes on,
# what was noted of the program itself counts. A program without any build is told with nothing but that.
_STATES: Final = """
CREATE OR REPLACE VIEW gapless.program_states AS
SELECT p.name, p.chain_id, p.through_block AS block_number,
       NOT p.live OR p.problem IS NOT NULL OR d.reason IS NOT NULL AS stale,
       coalesce(p.problem, 'what is built in its place stands still: ' || n.problem, s.problem, d.reason,
                CASE WHEN NOT p.live THEN p.remark END)::varchar AS problem,
       n.through_block AS rebuilt_to,
       ARRAY(SELECT t ->> 'name' FROM jsonb_array_elements(p.tables) t) AS tables
FROM gapless.programs p
LEFT JOIN gapless.programs n ON n.name = p.name AND n.chain_id = p.chain_id AND n.live AND n.id <> p.id
LEFT JOIN gapless.program_standstills s
    ON s.name = p.name AND s.chain_id = p.chain_id AND NOT p.live AND n.id IS NULL
LEFT JOIN LATERAL (
    SELECT o.reason FROM gapless.program_disturbances o
    WHERE o.program_id = p.id AND o.first_block <= p.through_block ORDER BY o.first_block, o.id LIMIT 1
) d ON true
WHERE p.served
UNION ALL
SELECT s.name, s.chain_id, NULL, true, s.problem, NULL, '{}'
FROM gapless.program_standstills s
WHERE NOT EXISTS (SELECT FROM gapless.programs p WHERE p.name = s.name AND p.chain_id = s.chain_id AND p.served)
"""
_STATES_BEFORE: Final = """
CREATE OR REPLACE VIEW gapless.program_states AS
SELECT p.name, p.chain_id, p.through_block AS block_number,
       NOT p.live OR p.problem IS NOT NULL OR d.reason IS NOT NULL AS stale,
       coalesce(p.problem, d.reason, CASE WHEN NOT p.live THEN p.remark END)::varchar AS problem,
       n.through_block AS rebuilt_to,
       ARRAY(SELECT t ->> 'name' FROM jsonb_array_elements(p.tables) t) AS tables
FROM gapless.programs p
LEFT JOIN gapless.programs n ON n.name = p.name AND n.chain_id = p.chain_id AND n.live AND n.id <> p.id
LEFT JOIN LATERAL (
    SELECT o.reason FROM gapless.program_disturbances o
    WHERE o.program_id = p.id AND o.first_block <= p.through_block ORDER BY o.first_block, o.id LIMIT 1
) d ON true
WHERE p.served
"""
# The same of their tables. What stands before them is that of migration 0106.
_DERIVED: Final = """
CREATE OR REPLACE VIEW gapless.derived_coverage AS
SELECT d.name, d.kind, d.generation, d.served, NOT d.active OR d.remark IS NOT NULL AS stale, d.remark,
       i.chain_id, i.wanted,
       i.wanted * i.covered
       * CASE WHEN d.table_name IS NULL THEN i.covered ELSE coalesce(p.coverage, '{}') END AS covered,
       p.problem, p.problem_block, coalesce(p.version, 0) AS version, d.id AS derived_id
FROM gapless.derived d
CROSS JOIN LATERAL (
    SELECT s.chain_id,
           range_agg(int8range(s.start_block,
                               greatest(s.start_block, coalesce(least(s.end_block, n.tip_number), -1) + 1))) AS wanted,
           range_intersect_agg(gapless.covered(s.coverage, s.end_block, n.tip_number)
                               + int8multirange(int8range(0, s.start_block))
                               + CASE WHEN s.end_block IS NULL THEN '{}'::int8multirange
                                      ELSE int8multirange(int8range(s.end_block + 1, NULL)) END) AS covered
    FROM gapless.sources s JOIN gapless.chains n ON n.chain_id = s.chain_id
    WHERE s.active AND s.event_id = ANY (d.event_ids) GROUP BY s.chain_id
) i
LEFT JOIN gapless.derived_progress p ON p.derived_id = d.id AND p.chain_id = i.chain_id
"""
_PROGRAMS: Final = """
UNION ALL
SELECT (t ->> 'name')::varchar, 'program'::varchar, p.id, p.served,
       NOT p.live OR p.problem IS NOT NULL OR d.first_block IS NOT NULL,
       coalesce(d.reason, CASE WHEN NOT p.live THEN p.remark END)::varchar, p.chain_id,
       int8multirange(int8range(p.start_block, greatest(p.start_block, coalesce(n.tip_number, -1) + 1))),
       int8multirange(int8range(p.start_block,
                                greatest(p.start_block, least(p.through_block + 1, d.first_block)))),
       coalesce(p.problem, 'what is built in its place stands still: ' || b.problem, s.problem)::varchar,
       p.problem_block, p.version, NULL
FROM gapless.programs p
CROSS JOIN LATERAL jsonb_array_elements(p.tables) t
LEFT JOIN gapless.chains n ON n.chain_id = p.chain_id
LEFT JOIN gapless.programs b ON p.served AND b.name = p.name AND b.chain_id = p.chain_id AND b.live AND b.id <> p.id
LEFT JOIN gapless.program_standstills s
    ON s.name = p.name AND s.chain_id = p.chain_id AND p.served AND NOT p.live AND b.id IS NULL
LEFT JOIN LATERAL (
    SELECT o.first_block, o.reason FROM gapless.program_disturbances o
    WHERE o.program_id = p.id AND o.first_block <= p.through_block ORDER BY o.first_block, o.id LIMIT 1
) d ON true
"""
_PROGRAMS_BEFORE: Final = """
UNION ALL
SELECT (t ->> 'name')::varchar, 'program'::varchar, p.id, p.served,
       NOT p.live OR p.problem IS NOT NULL OR d.first_block IS NOT NULL,
       coalesce(d.reason, CASE WHEN NOT p.live THEN p.remark END)::varchar, p.chain_id,
       int8multirange(int8range(p.start_block, greatest(p.start_block, coalesce(n.tip_number, -1) + 1))),
       int8multirange(int8range(p.start_block,
                                greatest(p.start_block, least(p.through_block + 1, d.first_block)))),
       p.problem, p.problem_block, p.version, NULL
FROM gapless.programs p
CROSS JOIN LATERAL jsonb_array_elements(p.tables) t
LEFT JOIN gapless.chains n ON n.chain_id = p.chain_id
LEFT JOIN LATERAL (
    SELECT o.first_block, o.reason FROM gapless.program_disturbances o
    WHERE o.program_id = p.id AND o.first_block <= p.through_block ORDER BY o.first_block, o.id LIMIT 1
) d ON true
"""
_BLOCK: Final = "COMMENT ON COLUMN gapless.program_states.block_number IS 'its tables are true at the end of this block"


def upgrade() -> None:
    op.create_table(
        "program_standstills",
        sa.Column("name", sa.String(), nullable=False, comment="name in the manifest"),
        sa.Column("chain_id", sa.BigInteger(), nullable=False, comment="EIP-155 chain id"),
        sa.Column("problem", sa.String(), nullable=False, comment="why it stands still, for people"),
        sa.Column(
            "noted_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="when that was noted",
        ),
        sa.PrimaryKeyConstraint("name", "chain_id", name=op.f("pk_program_standstills")),
        schema="gapless",
        comment="Programs that have no build which goes on, and why none begins",
    )
    op.execute(_STATES)
    op.execute(_DERIVED + _PROGRAMS)
    op.execute(f"{_BLOCK}; null: it has none yet'")
    op.execute(
        "COMMENT ON VIEW gapless.program_states IS "
        "'Programs whose tables can be read, how far they are true, and programs that cannot begin'"
    )


def downgrade() -> None:
    op.execute(_STATES_BEFORE)
    op.execute(_DERIVED + _PROGRAMS_BEFORE)
    op.execute(f"{_BLOCK}'")
    op.execute(
        "COMMENT ON VIEW gapless.program_states IS 'Programs whose tables can be read, and how far they are true'"
    )
    op.drop_table("program_standstills", schema="gapless")
