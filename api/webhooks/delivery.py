"""Delivering a subscription: find a message, keep it, send it, note what came of it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from api.webhooks import sealed_secrets, sender, subscription
from api.webhooks.looking import BrokenPositionError, Looker
from api.webhooks.sealed_secrets import SealedError, Vault
from api.webhooks.sender import Outcome, Sender
from api.webhooks.store import Attempt, Claim, Store
from api.webhooks.subscription import Message
from api.webhooks.targets import Target, TargetError, parse

log = logging.getLogger(__name__)

#: Messages of one subscription before others have their turn.
TURN: Final = 20
#: Seconds before a secret is tried again that no key opens.
_SEALED_WAIT: Final = 300.0


class Deliverer:
    """Delivers.

    Args:
        store: for what changes.
        looker: finds messages.
        vault: opens secrets.
        sender: sends.
        delays: seconds before each further attempt of a message.
        allow_http: whether a URL need not be encrypted.
        random: a number from 0 to 1.
        wall: the time of day.
    """

    def __init__(
        self,
        store: Store,
        looker: Looker,
        vault: Vault,
        sender: Sender,
        *,
        delays: Sequence[float],
        allow_http: bool,
        random: Callable[[], float],
        wall: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._looker = looker
        self._vault = vault
        self._sender = sender
        self._delays = tuple(delays)
        self._allow_http = allow_http
        self._random = random
        self._wall = wall

    def work(self, claim: Claim, stopping: Callable[[], bool]) -> None:
        """Do what a subscription has to do now: some messages at most.

        Args:
            claim: of the subscription.
            stopping: whether to begin nothing more.

        Raises:
            ApiError: the database does not answer, or the like: nothing is lost, the lease will end.
        """
        opened = self._opened(claim)
        if opened is None:
            return
        if claim.test_id is not None:
            self._test(claim, claim.test_id, *opened)
        if claim.state != "active" or not claim.due:
            return
        for _ in range(TURN):
            if stopping():
                return
            message = _kept(claim)
            if message is None:
                found = self._next(claim)
                if found is None:
                    return
                claim, message = found
                if (opened := self._opened(claim)) is None:
                    return
            position = self._send(claim, message, *opened)
            if position is None:
                return
            claim = replace(claim, position=position, message_id=None, message=None, failures=0)

    def _opened(self, claim: Claim) -> tuple[Target, list[str]] | None:
        """Where to send, and what to sign with; None if that cannot be read, which is noted."""
        try:
            url = self._vault.open(claim.url, f"{claim.webhook} url")
            sealed = [each for each in (claim.secret, claim.old_secret) if each is not None]
            secrets = [self._vault.open(each, f"{claim.webhook} secret") for each in sealed]
            return parse(url, allow_http=self._allow_http), secrets
        except SealedError as error:
            self._store.hindered(claim, f"its secret cannot be read: {error}", _SEALED_WAIT)
            log.error("the secret of webhook %s cannot be read: %s", claim.webhook, error)
        except TargetError as error:
            self._store.hindered(claim, f"its URL {error}", None)
        return None

    def _next(self, claim: Claim) -> tuple[Claim, Message] | None:
        """Find the next message and keep it; None if there is none, or the subscription is another's now."""
        try:
            found = self._looker.look(claim)
        except BrokenPositionError as error:
            self._store.hindered(claim, str(error), None)
            return None
        if isinstance(found, Message):
            kept = self._store.composed(claim, found)
            return None if kept is None else (kept, found)
        mark = claim.mark if found.finished else None
        self._store.looked(claim, found.position, mark, reason=found.reason, wait=found.wait)
        return None

    def _send(self, claim: Claim, message: Message, target: Target, secrets: Sequence[str]) -> str | None:
        """Send a message once. Returns the position behind it if the receiver has it now."""
        failures = claim.failures if claim.message_id == message.message_id else 0
        outcome = self._post(target, secrets, message.message_id, message.body)
        attempt = _attempt(message.message_id, message.kind, failures + 1, outcome, len(message.body))
        verdict = sender.judge(
            outcome.status, failures, retry_after=outcome.retry_after, delays=self._delays, random=self._random
        )
        if verdict.acknowledged:
            return self._store.acknowledged(claim, attempt)
        what = outcome.error or f"the receiver answered {outcome.status}"
        if verdict.gone:
            reason = "the receiver answered 410 Gone: it wants no more messages"
        elif verdict.wait is None:
            reason = f"{message.message_id} was not acknowledged at {failures + 1} attempts, at last: {what}"
        else:
            reason = what
        self._store.failed(claim, attempt, reason, verdict.wait)
        level = logging.WARNING if verdict.wait is None else logging.INFO
        log.log(
            level,
            "webhook %s %s: %s",
            claim.webhook,
            "is disabled" if verdict.wait is None else f"tries again in {verdict.wait:.0f} s",
            reason,
            extra={"host": target.host, "message_id": message.message_id, "attempt": failures + 1},
        )
        return None

    def _test(self, claim: Claim, message_id: str, target: Target, secrets: Sequence[str]) -> None:
        body = subscription.test(claim.webhook, self._wall())
        outcome = self._post(target, secrets, message_id, body)
        self._store.tested(claim, _attempt(message_id, subscription.TEST, 1, outcome, len(body)))

    def _post(self, target: Target, secrets: Sequence[str], message_id: str, body: bytes) -> Outcome:
        timestamp = int(self._wall().timestamp())
        return self._sender.send(target, body, sealed_secrets.headers(message_id, timestamp, body, secrets))


def _kept(claim: Claim) -> Message | None:
    """The message that is not acknowledged yet, if there is one."""
    if claim.message_id is None or claim.message is None:
        return None
    return Message(claim.message_id, claim.message_type or "", claim.message, "", claim.told_block)


def _attempt(message_id: str, kind: str, number: int, outcome: Outcome, size: int) -> Attempt:
    return Attempt(
        message_id=message_id,
        message_type=kind,
        number=number,
        status=outcome.status,
        error=outcome.error,
        answer=outcome.answer,
        milliseconds=round(outcome.seconds * 1000),
        size=size,
    )
