"""Sending one message, and when it is sent again.

A message goes to an address that was judged, within a time that the receiver cannot stretch. Redirects are failures, as
Standard Webhooks has it.
"""

import http.client
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Final

from api.outbound import Destination, exchange
from api.webhooks.targets import Address, Network, Resolver, Target, TargetError, addresses, system_resolver

#: Seconds before each further attempt, as Standard Webhooks recommends: three days and three hours in all.
DELAYS: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
#: The same, as the setting ``WEBHOOKS_RETRY_DELAYS`` has it.
DELAYS_TEXT: Final = ",".join(f"{delay:.0f}" for delay in DELAYS)
#: How much longer than said it may take: many that failed together do not come back together.
JITTER: Final = 0.1
#: No receiver makes us wait longer than this.
LONGEST: Final = 86_400.0

#: Bytes of an answer that are kept.
ANSWER_BYTES: Final = 500


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt.

    Attributes:
        status: of the answer; None if there was none.
        error: why there was none.
        answer: its first bytes as text.
        retry_after: seconds that the header ``Retry-After`` says.
        seconds: how long it took.
    """

    status: int | None
    error: str | None
    answer: str
    retry_after: float | None
    seconds: float


class Sender:
    """Sends messages.

    Args:
        allowed: networks that may be asked though they are not public.
        timeout: seconds for an attempt as a whole.
        agent: the header ``User-Agent``.
        wall: the time of day, for ``Retry-After``.
        resolve: name and port to addresses.
        tls: how receivers prove who they are; left out: as this machine's certificates say.
    """

    def __init__(
        self,
        allowed: Sequence[Network],
        *,
        timeout: float,
        agent: str,
        wall: Callable[[], datetime],
        resolve: Resolver = system_resolver,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._allowed = tuple(allowed)
        self._timeout = timeout
        self._agent = agent
        self._wall = wall
        self._resolve = resolve
        self._tls = tls or ssl.create_default_context()
        self._clock = clock

    def check(self, target: Target) -> None:
        """Resolve a name and judge what it resolves to, without sending.

        Raises:
            TargetError: no message may be sent there.
        """
        addresses(target, self._allowed, self._resolve)

    def send(self, target: Target, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """POST a message. Whatever goes wrong is an outcome, never an exception."""
        started = self._clock()
        try:
            places = addresses(target, self._allowed, self._resolve)
            return self._exchange(target, places, body, headers, started)
        except TargetError as error:
            text = f"not sent: {error}"
        except ssl.SSLCertVerificationError as error:
            text = f"its certificate is not accepted: {error.verify_message}"
        except TimeoutError:
            text = f"no answer within {self._timeout:g} seconds"
        except ConnectionRefusedError:
            text = "the connection was refused"
        except (OSError, http.client.HTTPException, ValueError) as error:
            # Its text could repeat what the receiver sent, or the URL.
            text = f"the connection failed: {type(error).__name__}"
        return Outcome(None, text, "", None, self._clock() - started)

    def _exchange(
        self, target: Target, addresses: Sequence[Address], body: bytes, headers: Mapping[str, str], started: float
    ) -> Outcome:
        destination = Destination(
            [str(one) for one in addresses], target.host, target.port, self._tls if target.secure else None
        )
        sent = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "User-Agent": self._agent,
            "Connection": "close",
            **headers,
        }
        # Resolving cannot be interrupted; what is left after it has a time of its own.
        answer = exchange(
            destination, "POST", target.path, sent, body, timeout=self._timeout, most=ANSWER_BYTES, clock=self._clock
        )
        # The status counts, whether the rest came or not.
        return Outcome(
            answer.status,
            None,
            _shown(answer.body),
            parse_retry_after(answer.headers.get("Retry-After"), self._wall()),
            self._clock() - started,
        )


def _shown(answer: bytes) -> str:
    text = answer.decode("utf-8", "replace")
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
