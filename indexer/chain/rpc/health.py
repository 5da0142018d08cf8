"""Whether an endpoint is worth asking, and what an operator is told of it.

:class:`EndpointHealth` is a state machine without I/O; the caller passes the time. ``unknown`` (never asked, or its
punishment is over and nothing is proven yet) -> ``healthy`` on an answer -> ``unhealthy`` after several failures in a
row or too many of the last few -> after a pause, doubled each time, ``unknown`` again: then one caller probes it with
the very block it is about to read.

What an endpoint refuses to do (a method, history below a block) is kept apart: it may be healthy for all else.
"""

from dataclasses import dataclass, field
from typing import Literal

HealthState = Literal["unknown", "healthy", "unhealthy"]

_IN_A_ROW = 3
_LAST = 20
_TOO_MANY = 0.6
_FIRST_PAUSE = 5.0
_LONGEST_PAUSE = 300.0
_FATAL_PAUSE = 600.0
_BEHIND_FOR = 2.0
_REFUSED_FOR = 1800.0
# What is first said of history below a block may be one machine's behind a balancer: it is asked again soon, and after
# twice the time whenever it is said again.
_DOUBTED_FOR = 30.0


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What is refused of a method: blocks up to ``block``, or all (None); ``pause``: seconds for which it holds."""

    block: int | None
    until: float
    pause: float


@dataclass(slots=True)
class EndpointHealth:
    """One endpoint's health, head and refusals.

    A caller that changes it holds the endpoint's lock. One that only reads need not: each answer is made of one look
    at values that are replaced and never changed.

    Attributes:
        head: the newest block that this endpoint has said to have, or None where it was never asked.
        seen: the newest block that it has shown, asked for by number: it may have newer ones.
        reason: why it is unhealthy, for people.
    """

    state: HealthState = "unknown"
    reason: str = ""
    head: int | None = None
    seen: int = -1
    _row: int = 0
    _pause: float = _FIRST_PAUSE
    _until: float = 0.0
    _banned: bool = False
    _fatal: bool = False
    _outcomes: tuple[bool, ...] = ()
    _lacks: tuple[int, float] | None = None
    _refusals: dict[str, _Refusal] = field(default_factory=dict)

    @property
    def error_rate(self) -> float:
        """The share of failures among the last answers, 0 to 1."""
        outcomes = self._outcomes
        return outcomes.count(False) / len(outcomes) if outcomes else 0.0

    def succeeded(self) -> bool:
        """An answer came. Returns whether this changed the state."""
        if self._banned:
            return False  # it may well answer, for another chain
        changed = self.state != "healthy"
        if changed:
            self._outcomes = ()
        self._note(succeeded=True)
        self._row, self._pause = 0, _FIRST_PAUSE
        self.state, self.reason, self._fatal = "healthy", "", False
        return changed

    def failed(self, now: float, reason: str) -> bool:
        """No answer came, or one that cannot be believed. Returns whether this made the endpoint unhealthy."""
        self._note(succeeded=False)
        self._row += 1
        bad_share = len(self._outcomes) >= _LAST // 2 and self.error_rate >= _TOO_MANY
        # After a pause the first failure is enough: the endpoint has not recovered.
        if not (self._row >= _IN_A_ROW or bad_share or (self.state == "unknown" and self._pause > _FIRST_PAUSE)):
            return False
        return self._suspend(now, reason, self._pause)

    def ended(self, now: float, reason: str) -> bool:
        """The endpoint will not answer anything (a wrong key). Returns whether this made it unhealthy."""
        self._note(succeeded=False)
        self._fatal = True
        return self._suspend(now, reason, _FATAL_PAUSE)

    def banned(self, reason: str) -> None:
        """The endpoint serves another chain or history: nothing is asked of it but whether it still does."""
        self._banned, self.state, self.reason = True, "unhealthy", reason

    def restored(self) -> None:
        """The endpoint serves the chain again."""
        self._banned, self.state, self.reason = False, "unknown", ""
        self.head, self.seen, self._lacks = None, -1, None

    @property
    def is_out(self) -> bool:
        """Whether there is no use in asking the endpoint anything: banned, or refusing everything when last probed."""
        return self._banned or self._fatal

    @property
    def is_banned(self) -> bool:
        """Whether the endpoint serves something else than the chain, as far as is known."""
        return self._banned

    def due(self, now: float) -> bool:
        """Whether the pause of an unhealthy endpoint is over, so that it should be probed."""
        return self.state == "unhealthy" and not self._banned and now >= self._until

    def probing(self, now: float) -> None:
        """Note that a caller probes the endpoint now; no other needs to."""
        self.state = "unknown"
        self._until = now + self._pause

    def saw(self, number: int) -> None:
        """The endpoint showed a block that it was asked for."""
        self.seen = max(self.seen, number)
        if self.head is not None and number > self.head:
            self.head = number
        if self._lacks is not None and number >= self._lacks[0]:
            self._lacks = None

    def said_head(self, number: int) -> None:
        """The endpoint named its newest block, which after a reorg may be lower than before."""
        self.head = self.seen = number
        if self._lacks is not None and number >= self._lacks[0]:
            self._lacks = None

    def lacks(self, number: int, now: float) -> None:
        """The endpoint did not have this block just now."""
        self._lacks = (number, now + _BEHIND_FOR)
        self.seen = min(self.seen, number - 1)
        if self.head is not None and self.head >= number:
            self.head = number - 1

    def behind(self, number: int, now: float) -> bool:
        """Whether the endpoint was lately seen without this block."""
        lacks = self._lacks
        return lacks is not None and number >= lacks[0] and now < lacks[1]

    def refuses(self, method: str, block: int | None, now: float) -> None:
        """The endpoint does not answer this method, or this kind of question (at or below this block, of history)."""
        known = self._refusals.get(method)
        pause = _REFUSED_FOR if block is None else _DOUBTED_FOR
        if block is not None and known is not None and known.block is not None:
            if now < known.until:
                block, pause = max(block, known.block), known.pause
            elif now < known.until + _REFUSED_FOR:
                pause = min(2 * known.pause, _REFUSED_FOR)
        self._refusals = {**self._refusals, method: _Refusal(block, now + pause, pause)}

    def allows(self, kind: str, block: int | None, now: float) -> bool:
        """Whether the endpoint may be asked this, as far as is known.

        Args:
            kind: a method, or a kind of question of it: what is refused of the method is refused of all its kinds.
            block: the oldest block that it needs, where there is one.
            now: the time.
        """
        for name in {kind, kind.split(" ", maxsplit=1)[0]}:
            refusal = self._refusals.get(name)
            if (
                refusal is not None
                and now < refusal.until
                and (refusal.block is None or (block is not None and block <= refusal.block))
            ):
                return False
        return True

    def refusals(self, now: float) -> dict[str, int | None]:
        """Method or kind of question -> the block at or below which it is refused (None: at every block)."""
        return {method: refusal.block for method, refusal in self._refusals.items() if now < refusal.until}

    def _note(self, *, succeeded: bool) -> None:
        self._outcomes = (*self._outcomes, succeeded)[-_LAST:]

    def _suspend(self, now: float, reason: str, pause: float) -> bool:
        changed, self.state, self.reason = self.state != "unhealthy", "unhealthy", reason
        self._until = now + pause
        self._pause = min(max(self._pause, pause if pause < _FATAL_PAUSE else 0.0) * 2.0, _LONGEST_PAUSE)
        self._row = 0
        return changed


@dataclass(slots=True)
class MethodCount:
    """What a method has cost at one endpoint.

    Attributes:
        requests: calls asked.
        errors: calls failed, for whatever reason.
        bytes: of results.
        limited: calls failed because too many were asked.
    """

    requests: int = 0
    errors: int = 0
    bytes: int = 0
    limited: int = 0


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What an operator wants to know of one endpoint.

    Attributes:
        host: ``https://host/***``.
        state: ``healthy``, ``unhealthy`` or ``unknown``.
        reason: why it is unhealthy, or empty.
        priority: as configured.
        head: its newest known block.
        error_rate: the share of failures among the last answers, 0 to 1.
        latency: seconds for a request, a running mean, or None before the first.
        http_requests: HTTP requests so far.
        counts: method -> calls, failures and bytes.
        max_batch: the most calls it takes in a batch (1: none).
        max_blocks: the most blocks it allows in one ``eth_getLogs``, or None where no limit is known.
        concurrency: the requests that may be under way at once now.
        pace: calls a second that it allows, or None where no limit is known.
        refuses: method -> the block at or below which it is refused (None: at every block).
    """

    host: str
    state: HealthState
    reason: str
    priority: int
    head: int | None
    error_rate: float
    latency: float | None
    http_requests: int
    counts: dict[str, MethodCount]
    max_batch: int
    max_blocks: int | None
    concurrency: int
    pace: float | None
    refuses: dict[str, int | None]
