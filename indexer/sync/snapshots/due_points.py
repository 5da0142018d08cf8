"""When a snapshot series is due: at which blocks, at which times. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.cron import CronTrigger

from indexer.manifest.model import Schedule, Snapshot


def past_times(every: Schedule, first: int, last: int) -> Iterator[tuple[int, int]]:
    """The times at which a series by the clock is due, each with the one before, in Unix seconds.

    Args:
        every: in seconds (the multiples of so many since 1970) or by cron (UTC).
        first: the first time that counts.
        last: the last one.
    """
    if every.kind == "seconds":
        for moment in range(-(-first // every.amount) * every.amount, last + 1, every.amount):
            yield moment - every.amount, moment
        return
    trigger = CronTrigger.from_crontab(every.cron or "", timezone="UTC")
    before = first - 1
    fire = trigger.get_next_fire_time(None, utc(first))
    while fire is not None and fire.timestamp() <= last:
        yield before, int(fire.timestamp())
        before = int(fire.timestamp())
        fire = trigger.get_next_fire_time(fire, fire + timedelta(seconds=1))


def utc(seconds: int) -> datetime:
    """A time in Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def due(snapshot: Snapshot, last: int | None, tip: int) -> list[int]:
    """The blocks at which a series "every N blocks" is still to be read, ascending.

    Args:
        snapshot: with a schedule in blocks: those whose number N divides.
        last: the newest block at which it was read; None: never.
        tip: the newest block that is indexed.
    """
    step = snapshot.every.amount
    first = tip // step * step if last is None else (last // step + 1) * step
    earliest = -(-(snapshot.start_block or 0) // step) * step
    return list(range(max(first, earliest), tip + 1, step))
