"""Jobs: work that was asked for through the API, taken by the process whose it is to do, one at a time.

The process that works on a job says so every few seconds. One that was not heard of for long is believed dead, and its
job is taken up again from the start: everything that jobs do may be done twice. What a process says of a job counts
only as long as the job is its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.store.database import jsonb

#: Seconds after which a process that was not heard of is believed dead.
LEASE: Final = 30.0
#: How often a job is begun before it is given up: it may be what kills the processes.
MOST_ATTEMPTS: Final = 3
_KEPT: Final = "90 days"

Outcome: TypeAlias = Literal["done", "failed", "cancelled"]
Standing: TypeAlias = Literal["ours", "cancelled", "lost"]


@dataclass(frozen=True, slots=True)
class JobClaim:
    """A job that this process works on.

    Attributes:
        job_id: which.
        kind: repair, audit, redecode or refresh_tokens.
        parameters: as they were asked for.
        worker: this process.
        attempt: how often the job was begun, this time included.
    """

    job_id: int
    kind: str
    parameters: Mapping[str, Any]
    worker: str
    attempt: int


def claim(
    connection: Connection,
    kind: str,
    worker: str,
    *,
    may: Callable[[Mapping[str, Any]], bool] = lambda _: True,
    lease: float = LEASE,
) -> JobClaim | None:
    """Take the oldest job of a kind that waits, or whose worker is believed dead.

    Args:
        connection: in a transaction.
        kind: of which.
        worker: who takes it.
        may: whether it is this process's to do, by its parameters.
        lease: seconds after which a worker that was not heard of is believed dead.
    """
    given: dict[str, Any] = {"kind": kind, "worker": worker, "lease": lease, "most": MOST_ATTEMPTS}
    waiting = "SELECT FROM gapless.jobs WHERE kind = :kind AND state IN ('queued', 'running') LIMIT 1"
    if connection.execute(sa.text(waiting), given).first() is None:
        return None
    connection.execute(
        sa.text("""
            UPDATE gapless.jobs
            SET state = CASE WHEN cancel_asked THEN 'cancelled' ELSE 'failed' END, ended_at = now(),
                error = CASE WHEN NOT cancel_asked THEN 'begun ' || attempts || ' times, and each time the process '
                        || 'that was at it died: see its log, and ask again' END
            WHERE kind = :kind AND state = 'running' AND heartbeat_at < now() - make_interval(secs => :lease)
              AND (attempts >= :most OR cancel_asked)
        """),
        given,
    )
    connection.execute(
        sa.text(f"DELETE FROM gapless.jobs WHERE kind = :kind AND ended_at < now() - interval '{_KEPT}'"), given
    )
    free = sa.text("""
        SELECT id, parameters FROM gapless.jobs
        WHERE kind = :kind AND (state = 'queued' OR (
            state = 'running' AND heartbeat_at < now() - make_interval(secs => :lease)))
    """)
    given["ids"] = [row.id for row in connection.execute(free, given) if may(row.parameters)]
    row = connection.execute(
        sa.text("""
            UPDATE gapless.jobs
            SET state = 'running', worker = :worker, attempts = attempts + 1, heartbeat_at = now(), started_at = now(),
                progress = NULL
            WHERE id = (
                SELECT id FROM gapless.jobs
                WHERE id = ANY(:ids) AND (state = 'queued' OR (
                    state = 'running' AND heartbeat_at < now() - make_interval(secs => :lease)))
                ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING id, parameters, attempts
        """),
        given,
    ).first()
    return None if row is None else JobClaim(row.id, kind, row.parameters, worker, row.attempts)


def beat(connection: Connection, job: JobClaim, progress: Mapping[str, Any]) -> Standing:
    """Say that a job is being worked on, and how far it is; returns whether to go on."""
    row = connection.execute(
        sa.text("""
            UPDATE gapless.jobs SET heartbeat_at = now(), progress = :progress
            WHERE id = :id AND state = 'running' AND worker = :worker AND attempts = :attempt
            RETURNING cancel_asked
        """),
        _mine(job) | {"progress": jsonb(dict(progress) or None)},
    ).first()
    if row is None:
        return "lost"
    return "cancelled" if row.cancel_asked else "ours"


def finish(
    connection: Connection,
    job: JobClaim,
    outcome: Outcome,
    *,
    result: Mapping[str, Any] | None = None,
    error: str | None = None,
) -> bool:
    """Note what came of a job; returns whether it was still this process's."""
    done = connection.execute(
        sa.text("""
            UPDATE gapless.jobs SET state = :state, result = :result, error = :error, ended_at = now()
            WHERE id = :id AND state = 'running' AND worker = :worker AND attempts = :attempt
        """),
        _mine(job) | {"state": outcome, "result": None if result is None else jsonb(dict(result)), "error": error},
    )
    return done.rowcount == 1


def give_back(connection: Connection, job: JobClaim) -> None:
    """Let another process do a job, because this one is told to stop; that counts as no attempt."""
    connection.execute(
        sa.text("""
            UPDATE gapless.jobs SET state = 'queued', worker = NULL, progress = NULL, attempts = attempts - 1
            WHERE id = :id AND state = 'running' AND worker = :worker AND attempts = :attempt
        """),
        _mine(job),
    )


def load(connection: Connection, limit: int = 50) -> list[dict[str, Any]]:
    """The newest jobs, the newest first."""
    rows = connection.execute(sa.text("SELECT * FROM gapless.jobs ORDER BY id DESC LIMIT :limit"), {"limit": limit})
    return [dict(row._mapping) for row in rows]


def _mine(job: JobClaim) -> dict[str, Any]:
    return {"id": job.job_id, "worker": job.worker, "attempt": job.attempt}
