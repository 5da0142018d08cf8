"""How far programs have come, beside derived tables

Revision ID: 0110
Revises: 0109
"""

from typing import Final

from alembic import op

revision = "0110"
down_revision = "0109"
branch_labels = None
depends_on = None

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
# Of a program, each table: what it handled counts up to the first block whose rows are others since.
_PROGRAMS: Final = """
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
_DERIVED_ID: Final = "COMMENT ON COLUMN gapless.derived_coverage.derived_id IS 'the generation, gapless.derived.id"
_GENERATION: Final = "COMMENT ON COLUMN gapless.derived_coverage.generation IS 'counts the builds of one name, from 1"


def upgrade() -> None:
    op.execute(_DERIVED + _PROGRAMS)
    op.execute(f"{_DERIVED_ID}; null: of a program''s table'")
    op.execute(f"{_GENERATION}; of a program, gapless.programs.id'")


def downgrade() -> None:
    op.execute(_DERIVED)
    op.execute(f"{_DERIVED_ID}'")
    op.execute(f"{_GENERATION}'")
