"""How everything stands, for ``/status`` and the status page: chains, sources, what is known of an address."""

from typing import Final

from api.sql.statement import hexadecimal, time
from indexer.store.lag import disk_full, lag, shown_reason, shown_state, stalled

#: Undecoded logs and those of foreign shapes are counted no further: more than this is many.
MOST_COUNTED: Final = 10_000

#: One JSON array: every chain, how far it is, and its endpoints.
CHAINS: Final = f"""
SELECT coalesce(json_agg(json_build_object(
    'chain_id', c.chain_id, 'name', c.name, 'active', c.active, 'state', {shown_state("c")},
    'state_reason', {shown_reason("c")}, 'stalled', {stalled("c")},
    'head_block', greatest(c.head_number, i.number), 'head_time', {time("c.head_time")},
    'head_seen_at', {time("c.head_seen_at")},
    'indexed_block', i.number, 'indexed_time', {time("c.tip_time")},
    'safe_block', c.safe_number, 'finalized_block', c.finalized_number,
    'lag_seconds', ({lag("c.head_time", "c.tip_time", "c.head_seen_at")})::bigint,
    'reorgs', (SELECT count(*) FROM gapless.reorgs r WHERE r.chain_id = c.chain_id),
    'undecoded_logs', (SELECT count(*) FROM (SELECT FROM gapless.undecoded_logs u WHERE u.chain_id = c.chain_id
                                             LIMIT {MOST_COUNTED}) u),
    'foreign_logs', (SELECT least(coalesce(sum(f.logs), 0), {MOST_COUNTED})
                     FROM (SELECT logs FROM gapless.foreign_shapes WHERE chain_id = c.chain_id
                           LIMIT {MOST_COUNTED}) f),
    'unread', (SELECT coalesce(json_agg(json_build_object('contract', f.contract, 'event', f.event,
                   'first_block', f.first, 'last_block', f.last, 'reason', f.reason, 'failures', f.failures,
                   'retry_at', {time("f.retry_at")}) ORDER BY f.contract, f.event, f.first), '[]')
               FROM (SELECT k.name AS contract, e.api_name AS event, f.first_block AS first, f.last_block AS last,
                            f.reason, f.failures, f.retry_at
                     FROM gapless.failed_ranges f JOIN gapless.sources s ON s.id = f.source_id AND s.active
                     JOIN gapless.events e ON e.id = s.event_id JOIN gapless.contracts k ON k.id = e.contract_id
                     WHERE s.chain_id = c.chain_id
                       AND NOT int8multirange(int8range(f.first_block, f.last_block, '[]')) <@ s.coverage
                     ORDER BY f.first_block LIMIT 100) f),
    'endpoints', (SELECT coalesce(json_agg(json_build_object('host', e.host, 'state', e.state,
                      'head_block', e.head_number, 'updated_at', {time("e.updated_at")},
                      'credits', (SELECT json_build_object('used', d.head + d.history, 'head', d.head,
                                                           'per_day', d.budget, 'pace', d.pace)
                                  FROM gapless.credit_days d
                                  WHERE d.chain_id = e.chain_id AND d.endpoint = e.host || ' ' || e.place
                                    AND d.day = (now() AT TIME ZONE 'UTC')::date)) ORDER BY e.position), '[]')
                  FROM (SELECT *, row_number() OVER (PARTITION BY chain_id, host ORDER BY position) AS place
                        FROM gapless.endpoints) e WHERE e.chain_id = c.chain_id)
    ) ORDER BY c.chain_id), '[]')
FROM gapless.chains c
JOIN (SELECT c.chain_id, greatest(c.tip_number, max(upper(s.coverage)) - 1) AS number
      FROM gapless.chains c LEFT JOIN gapless.sources s ON s.chain_id = c.chain_id
      GROUP BY c.chain_id) i ON i.chain_id = c.chain_id
"""

#: One JSON object: how far derived tables and programs have come, and why they go no further.
FOLLOWING: Final = """
SELECT json_build_object(
    'derived', (SELECT coalesce(json_agg(json_build_object(
            'name', d.name, 'kind', d.kind, 'chain_id', d.chain_id, 'stale', d.stale, 'remark', d.remark,
            'problem', d.problem, 'blocks_wanted', w.blocks, 'blocks_missing', m.blocks
        ) ORDER BY d.name, d.chain_id), '[]')
        FROM gapless.derived_coverage d
        JOIN gapless.chains n ON n.chain_id = d.chain_id AND n.active,
        LATERAL (SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint AS blocks FROM unnest(d.wanted) r) w,
        LATERAL (SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint AS blocks
                 FROM unnest(d.wanted - d.covered) r) m
        WHERE d.served AND d.kind <> 'program'),
    'programs', (SELECT coalesce(json_agg(json_build_object(
            'name', p.name, 'chain_id', p.chain_id, 'stale', p.stale, 'problem', p.problem,
            'true_at_block', p.block_number, 'rebuilt_to', p.rebuilt_to, 'tables', p.tables
        ) ORDER BY p.name, p.chain_id), '[]')
        FROM gapless.program_states p)
)
"""

#: Minutes for which the page shows how each chain did.
TREND_MINUTES: Final = 60


def _a_minute(column: str) -> str:
    """SQL of how much a counter grew a minute since the sample before; null behind a new beginning of its count."""
    grown = f"{column} - lag({column}) OVER w"
    return f"CASE WHEN {grown} >= 0 THEN ({grown}) * 60 / extract(epoch FROM minute - lag(minute) OVER w) END"


#: One JSON object: what only the page tells.
PAGE: Final = f"""
SELECT json_build_object(
    'at', {time("now()")},
    'silent_seconds', (
        SELECT coalesce(json_object_agg(chain_id, extract(epoch FROM now() - head_seen_at)::bigint), '{{}}')
        FROM gapless.chains),
    'traffic', (
        SELECT coalesce(json_object_agg(chain_id || '/' || place, json_build_object(
            'reason', details->'reason', 'counts', details->'counts')), '{{}}')
        FROM (SELECT *, row_number() OVER (PARTITION BY chain_id ORDER BY position) - 1 AS place
              FROM gapless.endpoints) e),
    'trends', (
        SELECT coalesce(json_object_agg(chain_id, minutes), '{{}}') FROM (
            SELECT chain_id, json_agg(json_build_object('ago', ago, 'lag', lag_seconds, 'rows', rows_written,
                                                        'requests', requests) ORDER BY ago DESC) AS minutes
            FROM (SELECT chain_id, lag_seconds,
                         (extract(epoch FROM date_trunc('minute', now()) - minute) / 60)::int AS ago,
                         {_a_minute("rows_written")} AS rows_written, {_a_minute("requests")} AS requests
                  FROM gapless.samples WHERE minute > now() - interval '{TREND_MINUTES + 1} minutes'
                  WINDOW w AS (PARTITION BY chain_id ORDER BY minute)) m
            WHERE ago < {TREND_MINUTES} GROUP BY chain_id) t),
    'indexes_put_off', (SELECT coalesce(json_agg(id), '[]') FROM gapless.events WHERE active AND indexes_put_off),
    'series', (SELECT coalesce(json_agg(json_build_object(
        'name', s.name, 'contract', c.name, 'schema_name', c.schema_name, 'table_name', s.table_name,
        'every', s.every, 'calls', s.calls, 'chain', n.name, 'block', p.block_number, 'taken_at', {time("p.taken_at")})
        ORDER BY c.name, s.name, n.chain_id), '[]')
        FROM gapless.series s JOIN gapless.contracts c ON c.id = s.contract_id
        JOIN gapless.deployments d ON d.contract_id = c.id AND d.active
        JOIN gapless.chains n ON n.chain_id = d.chain_id
        LEFT JOIN LATERAL (SELECT p.block_number, p.taken_at FROM gapless.series_points p
                           WHERE p.series_id = s.id AND p.chain_id = d.chain_id
                           ORDER BY p.block_number DESC LIMIT 1) p ON true
        WHERE s.active),
    'reorgs', (SELECT coalesce(json_agg(json_build_object(
        'chain', n.name, 'detected_at', {time("r.detected_at")}, 'depth', r.depth, 'common_block', r.common_number,
        'old_tip', r.old_tip_number, 'new_tip', r.new_tip_number, 'old_hash', {hexadecimal("r.old_tip_hash")},
        'rows_removed', r.rows_removed, 'rows_added', r.rows_added) ORDER BY r.id DESC), '[]')
        FROM (SELECT * FROM gapless.reorgs ORDER BY id DESC LIMIT 10) r JOIN gapless.chains n USING (chain_id)),
    'findings', (SELECT coalesce(json_agg(json_build_object('chain', n.name, 'kind', f.kind, 'count', f.count)
                                          ORDER BY n.name, f.kind), '[]')
        FROM (SELECT chain_id, kind, sum(count) AS count FROM gapless.findings WHERE repaired_at IS NULL
              GROUP BY chain_id, kind) f JOIN gapless.chains n USING (chain_id)))
"""

#: One JSON array: the names of the chains of the manifest whose heads stand still.
STALLED: Final = f"""
SELECT coalesce(json_agg(c.name ORDER BY c.chain_id), '[]') FROM gapless.chains c WHERE c.active AND {stalled("c")}
"""

#: Whether a chain of the manifest waits for room on Postgres' disk.
DISK_FULL: Final = f"SELECT EXISTS (SELECT FROM gapless.chains c WHERE c.active AND {disk_full('c')})"

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
SOURCE_ROWS: Final = """
SELECT coalesce(json_object_agg(e.id, CASE WHEN t.reltuples >= 0 THEN t.reltuples::bigint END), '{}')
FROM gapless.events e
JOIN gapless.contracts c ON c.id = e.contract_id
JOIN pg_catalog.pg_namespace n ON n.nspname = c.schema_name
JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.relname = e.table_name
WHERE e.contract_id = $1::integer
"""

#: On chain $1, of address $2: the contracts that factories announced there, one a line, and whether it is a token.
KNOWN_OF_ADDRESS: Final = """
SELECT (SELECT string_agg(c.name, chr(10))
        FROM gapless.children b JOIN gapless.contracts c ON c.id = b.contract_id
        WHERE b.chain_id = $1::bigint AND b.address = $2::bytea),
       EXISTS (SELECT FROM gapless.tokens t WHERE t.chain_id = $1::bigint AND t.address = $2::bytea)
"""
