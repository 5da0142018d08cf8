"""How far sources are indexed."""

from typing import Final

#: One JSON array: all sources of the contract $1, or of all contracts where it is null. A source is wanted up to its
#: end or to the newest block that is indexed on its chain, whichever comes first.
SOURCES: Final = """
SELECT coalesce(json_agg(json_build_object(
    'event', s.event_id, 'chain_id', s.chain_id, 'place', s.place, 'active', s.active,
    'start_block', s.start_block, 'end_block', s.end_block,
    'coverage', w.covered::text, 'verified', s.verified::text,
    'wanted', (CASE WHEN w.last >= s.start_block THEN int8multirange(int8range(s.start_block, w.last, '[]')) END)::text,
    'missing', (CASE WHEN w.last >= s.start_block
                THEN int8multirange(int8range(s.start_block, w.last, '[]')) - w.covered END)::text
    ) ORDER BY s.chain_id, s.event_id, s.id), '[]')
FROM gapless.sources s
JOIN gapless.events e ON e.id = s.event_id AND e.contract_id = coalesce($1::integer, e.contract_id)
JOIN (SELECT c.chain_id, c.tip_number, greatest(c.tip_number, max(upper(a.coverage)) - 1) AS number
      FROM gapless.chains c LEFT JOIN gapless.sources a ON a.chain_id = c.chain_id
      GROUP BY c.chain_id) i ON i.chain_id = s.chain_id,
LATERAL (SELECT least(s.end_block, i.number) AS last,
                gapless.covered(s.coverage, s.end_block, i.tip_number) AS covered) w
WHERE s.active OR s.coverage <> '{}'
"""

#: Rows of the tables of contract $1, as the planner estimates them, by event id; null before the first ANALYZE.
ROWS: Final = """
SELECT coalesce(json_object_agg(e.id, CASE WHEN t.reltuples >= 0 THEN t.reltuples::bigint END), '{}')
FROM gapless.events e
JOIN gapless.contracts c ON c.id = e.contract_id
JOIN pg_catalog.pg_namespace n ON n.nspname = c.schema_name
JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.relname = e.table_name
WHERE e.contract_id = $1::integer
"""
