"""What can go wrong, and what is tried again when."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

#: Too many requests, an overloaded server, one that is being started, a proxy without one.
_PASSING: Final = frozenset((429, 502, 503, 504))


class GaplessError(Exception):
    """A refusal of the API.

    Attributes:
        status: of HTTP.
        code: of the API, such as ``INVALID_PARAMETER``; ``UNKNOWN`` where something else answered.
        details: what is wrong with which parameter.
        request_id: it is in the server's log, too.
        retry_after: seconds to wait, where the server says so.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str = "UNKNOWN",
        details: tuple[Mapping[str, Any], ...] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details
        self.request_id = request_id
        self.retry_after = retry_after


class Reorged(GaplessError):  # noqa: N818  # it is what has happened
    """The block of a cursor was reorganised away.

    Attributes:
        common_block: what was read of later blocks is void; read on from there.
    """

    common_block: int = -1


class UnreachableError(Exception):
    """The server cannot be reached, or the connection broke."""


def refusal(status: int, headers: Mapping[str, str], text: str, now: datetime) -> GaplessError:
    """The error that an answer stands for, also where something between us and the API gave it.

    Args:
        status: of HTTP.
        headers: by name in any case (as httpx has them).
        text: of the answer.
        now: for a Retry-After that is a date.
    """
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    body: dict[str, Any] = read if isinstance(read, dict) else {}
    code = str(body.get("code", "UNKNOWN"))
    details = body.get("details")
    kind = Reorged if code == "REORGED" else GaplessError
    error = kind(
        str(body.get("error") or f"the server answers {status}: {text[:200]}"),
        status=status,
        code=code,
        details=tuple(details) if isinstance(details, list) else (),
        request_id=headers.get("X-Request-Id"),
        retry_after=_seconds(headers.get("Retry-After"), now),
    )
    if isinstance(error, Reorged):
        error.common_block = int(body.get("common_block", -1))
    return error


def _seconds(header: str | None, now: datetime) -> float | None:
    """Seconds that a header Retry-After tells to wait (RFC 9110, 10.2.3): a number or a date."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - now).total_seconds())
    except (ValueError, TypeError):
        return None


@dataclass(frozen=True)
class Retries:
    """How often and how patiently what passes by itself is tried again.

    Attributes:
        attempts: of one request in all; 1 tries nothing again. A stream has no such bound.
        first_delay: seconds before the second attempt; twice as long before each further one.
        longest_delay: seconds at most. A server that tells a longer Retry-After is not asked again.
    """

    attempts: int = 5
    first_delay: float = 0.5
    longest_delay: float = 30.0

    def delay(self, attempt: int, error: Exception, chance: float) -> float:
        """Seconds before the next attempt: as the server says, else twice as long each time, less up to a half.

        Args:
            attempt: the one that failed, from 1.
            error: what it failed with.
            chance: from 0 to 1.
        """
        told = error.retry_after if isinstance(error, GaplessError) else None
        own = min(self.longest_delay, self.first_delay * 2.0 ** min(attempt - 1, 20)) * (1 - chance / 2)
        return own if told is None else max(told, min(own, self.first_delay))

    def next_delay(self, attempt: int, error: Exception, chance: float) -> float:
        """As :meth:`delay`, for a request.

        Raises:
            GaplessError, UnreachableError: the error, where it does not pass, or was met often enough.
        """
        seconds = self.delay(attempt, error, chance)
        if not passes(error) or attempt >= self.attempts or seconds > self.longest_delay:
            raise error
        return seconds


def passes(error: Exception) -> bool:
    """Whether it is worth coming back."""
    return isinstance(error, UnreachableError) or (isinstance(error, GaplessError) and error.status in _PASSING)
