"""Jobs that were asked for: what the API's own paths read and write of them."""

from typing import Final

from api.sql.json_text import time

_SHOWN: Final = f"""json_build_object(
    'id', j.id, 'kind', j.kind, 'parameters', j.parameters, 'state', j.state, 'cancel_asked', j.cancel_asked,
    'progress', j.progress, 'result', j.result, 'error', j.error, 'created_by', j.created_by, 'attempts', j.attempts,
    'created_at', {time("j.created_at")}, 'started_at', {time("j.started_at")},
    'heartbeat_at', {time("j.heartbeat_at")}, 'ended_at', {time("j.ended_at")})"""

#: What ``/status`` leaves out of jobs: for administrators who asked and what is long; for all others what was asked for
#: and what came of it, which may name what is nobody else's concern.
LONG: Final = ("created_by", "result", "heartbeat_at")
PRIVATE: Final = (*LONG, "parameters", "progress", "error")

#: One JSON array: the newest jobs first. $1: their state, or null for all; $2: how many.
LIST: Final = f"""
SELECT coalesce(json_agg({_SHOWN} ORDER BY j.id DESC), '[]')
FROM (SELECT * FROM gapless.jobs WHERE $1::text IS NULL OR state = $1 ORDER BY id DESC LIMIT $2) j
"""

#: One row with the job's JSON object, or none. $1: its id.
ONE: Final = f"SELECT {_SHOWN} FROM gapless.jobs j WHERE id = $1"

#: Asks for a job, unless too many wait already; then there is no row. Kind, parameters, who, how many may wait.
CREATE: Final = f"""
WITH made AS (
    INSERT INTO gapless.jobs (kind, parameters, created_by) SELECT $1, $2::text::jsonb, $3
    WHERE (SELECT count(*) FROM gapless.jobs WHERE state IN ('queued', 'running')) < $4 RETURNING *)
SELECT {_SHOWN} FROM made j
"""

#: Ends a job that waits, and asks for the end of one that is under way. One row if there is such a job. $1: its id.
CANCEL: Final = f"""
WITH ended AS (
    UPDATE gapless.jobs SET
        cancel_asked = cancel_asked OR state IN ('queued', 'running'),
        ended_at = CASE state WHEN 'queued' THEN now() ELSE ended_at END,
        state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END
    WHERE id = $1 RETURNING *)
SELECT {_SHOWN} FROM ended j
"""

#: One JSON array for ``/status``: what is waiting or under way, and the last ten that have ended. $1: members that are
#: left out: those of :data:`PRIVATE`, or for administrators of :data:`LONG`.
RECENT: Final = f"""
SELECT coalesce(json_agg((to_jsonb({_SHOWN}) - $1::text[]) ORDER BY j.id DESC), '[]')
FROM (
    (SELECT * FROM gapless.jobs WHERE state IN ('queued', 'running') ORDER BY id DESC LIMIT 50)
    UNION ALL
    (SELECT * FROM gapless.jobs WHERE state NOT IN ('queued', 'running') ORDER BY id DESC LIMIT 10)
) j
"""
