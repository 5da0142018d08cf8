"""Jobs that were asked for, and keys of the API without their hashes: what the API's own paths read and write."""

from typing import Final

from api.sql.statement import time

_SHOWN_OF_JOB: Final = f"""json_build_object(
    'id', j.id, 'kind', j.kind, 'parameters', j.parameters, 'state', j.state, 'cancel_asked', j.cancel_asked,
    'progress', j.progress, 'result', j.result, 'error', j.error, 'created_by', j.created_by, 'attempts', j.attempts,
    'created_at', {time("j.created_at")}, 'started_at', {time("j.started_at")},
    'heartbeat_at', {time("j.heartbeat_at")}, 'ended_at', {time("j.ended_at")})"""

#: What ``/status`` leaves out of jobs: for administrators who asked and what is long; for all others what was asked for
#: and what came of it, which may name what only administrators may know.
LONG_OF_JOB: Final = ("created_by", "result", "heartbeat_at")
PRIVATE_OF_JOB: Final = (*LONG_OF_JOB, "parameters", "progress", "error")

#: One JSON array: the newest jobs first. $1: their state, or null for all; $2: how many.
LIST_JOBS: Final = f"""
SELECT coalesce(json_agg({_SHOWN_OF_JOB} ORDER BY j.id DESC), '[]')
FROM (SELECT * FROM gapless.jobs WHERE $1::text IS NULL OR state = $1 ORDER BY id DESC LIMIT $2) j
"""

#: One row with the job's JSON object, or none. $1: its id.
ONE_JOB: Final = f"SELECT {_SHOWN_OF_JOB} FROM gapless.jobs j WHERE id = $1"

#: Asks for a job, unless too many wait already; then there is no row. Kind, parameters, who, how many may wait.
CREATE_JOB: Final = f"""
WITH made AS (
    INSERT INTO gapless.jobs (kind, parameters, created_by) SELECT $1, $2::text::jsonb, $3
    WHERE (SELECT count(*) FROM gapless.jobs WHERE state IN ('queued', 'running')) < $4 RETURNING *)
SELECT {_SHOWN_OF_JOB} FROM made j
"""

#: Ends a job that waits, and asks for the end of one that is under way. One row if there is such a job. $1: its id.
CANCEL_JOB: Final = f"""
WITH ended AS (
    UPDATE gapless.jobs SET
        cancel_asked = cancel_asked OR state IN ('queued', 'running'),
        ended_at = CASE state WHEN 'queued' THEN now() ELSE ended_at END,
        state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END
    WHERE id = $1 RETURNING *)
SELECT {_SHOWN_OF_JOB} FROM ended j
"""

#: One JSON array for ``/status``: what is waiting or under way, and the last ten that have ended. $1: members that are
#: left out: those of :data:`PRIVATE_OF_JOB`, or for administrators of :data:`LONG_OF_JOB`.
RECENT_JOBS: Final = f"""
SELECT coalesce(json_agg((to_jsonb({_SHOWN_OF_JOB}) - $1::text[]) ORDER BY j.id DESC), '[]')
FROM (
    (SELECT * FROM gapless.jobs WHERE state IN ('queued', 'running') ORDER BY id DESC LIMIT 50)
    UNION ALL
    (SELECT * FROM gapless.jobs WHERE state NOT IN ('queued', 'running') ORDER BY id DESC LIMIT 10)
) j
"""

_SHOWN_OF_KEY: Final = f"""json_build_object(
    'id', id, 'name', name, 'begins', prefix, 'scopes', scopes, 'origins', origins, 'rate', rate,
    'created_at', {time("created_at")}, 'expires_at', {time("expires_at")}, 'revoked_at', {time("revoked_at")})"""

#: One JSON array: all keys, the oldest first.
LIST_KEYS: Final = f"SELECT coalesce(json_agg({_SHOWN_OF_KEY} ORDER BY id), '[]') FROM gapless.api_keys"

#: One row with the key's JSON object, or none. $1: its id.
ONE_KEY: Final = f"SELECT {_SHOWN_OF_KEY} FROM gapless.api_keys WHERE id = $1"

#: Makes a key: name, hash, prefix, scopes, origins, rate, expiry.
CREATE_KEY: Final = f"""
INSERT INTO gapless.api_keys (name, hash, prefix, scopes, origins, rate, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {_SHOWN_OF_KEY}
"""

#: Makes a key worthless; one that is so already stays as it is. $1: its id.
REVOKE_KEY: Final = """
UPDATE gapless.api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING id
"""
