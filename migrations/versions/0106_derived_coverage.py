"""How far derived tables are counted, as a view

Revision ID: 0106
Revises: 0105
"""

from typing import Final

from alembic import op

revision = "0106"
down_revision = "0105"
branch_labels = None
depends_on = None

_VIEW: Final = """
CREATE VIEW gapless.derived_coverage AS
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
_COMMENTS: Final = {
    "name": "name in the manifest",
    "kind": "rows, aggregate or program",
    "generation": "counts the builds of one name, from 1",
    "served": "true: it is what derived.<name> shows",
    "stale": "true: it is no longer what the manifest asks for; remark says why",
    "remark": "why it is stale, for people",
    "chain_id": "EIP-155 chain id",
    "wanted": "the blocks that it is to count, up to the chain's tip",
    "covered": "the blocks that it counts, and whose input rows are complete",
    "problem": "why it is counted no further, for people",
    "problem_block": "the block at which that happened",
    "version": "+1 with every change of its rows on the chain",
    "derived_id": "the generation, gapless.derived.id",
}


def upgrade() -> None:
    op.execute(_VIEW)
    op.execute(
        "COMMENT ON VIEW gapless.derived_coverage IS 'How far each build of a derived table is counted, by chain'"
    )
    for name, comment in _COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN gapless.derived_coverage.{name} IS '" + comment.replace("'", "''") + "'")


def downgrade() -> None:
    op.execute("DROP VIEW gapless.derived_coverage")
