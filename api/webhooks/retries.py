"""When a message that was not acknowledged is sent again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: Seconds before each further attempt, as Standard Webhooks recommends: three days and three hours in all.
DELAYS: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
#: The same, as the setting ``WEBHOOKS_RETRY_DELAYS`` has it.
DELAYS_TEXT: Final = ",".join(f"{delay:.0f}" for delay in DELAYS)
#: How much longer than said it may take: many that failed together do not come back together.
JITTER: Final = 0.1
#: No receiver makes us wait longer than this.
LONGEST: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an attempt's end means.

    Attributes:
        acknowledged: the receiver has the message.
        gone: it wants none any more (410).
        wait: seconds before the next attempt; None if there is none: acknowledged, gone, or given up.
    """

    acknowledged: bool
    gone: bool = False
    wait: float | None = None


def parse_delays(text: str) -> tuple[float, ...]:
    """Read ``WEBHOOKS_RETRY_DELAYS``: seconds with commas between.

    Raises:
        ValueError: a part is no number of seconds, or there is none.
    """
    delays = tuple(float(part) for part in text.split(","))
    if not all(0 <= delay <= 30 * LONGEST for delay in delays):
        raise ValueError("each must be from 0 seconds to 30 days")
    return delays


def judge(
    status: int | None,
    failures: int,
    *,
    retry_after: float | None = None,
    delays: Sequence[float] = DELAYS,
    random: Callable[[], float],
) -> Verdict:
    """Decide what an attempt's end means.

    Args:
        status: of the answer; None if there was none. Redirects are failures: where to is not what was checked.
        failures: attempts of this message that failed before this one.
        retry_after: seconds that a 429 or 503 asked for.
        delays: seconds before each further attempt.
        random: a number from 0 to 1.
    """
    if status is not None and 200 <= status < 300:
        return Verdict(acknowledged=True)
    if status == 410:
        return Verdict(acknowledged=False, gone=True)
    if failures >= len(delays):
        return Verdict(acknowledged=False)
    wait = delays[failures] * (1 + JITTER * random())
    if status in (429, 503) and retry_after is not None:
        wait = max(wait, min(retry_after, LONGEST))
    return Verdict(acknowledged=False, wait=wait)


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Read the header ``Retry-After``: seconds, or a date (RFC 9110, 10.2.3). What is neither is None."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
