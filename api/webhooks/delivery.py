"""Delivering a subscription: find what it is to be told next, keep it as a message, send it, note what came of it."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from api.catalog import Catalog
from api.catalog_watch import CatalogWatch
from api.cursors import Position
from api.database import Database
from api.errors import ApiError
from api.live import changes
from api.live.changes import Changes, Scope
from api.webhooks import sealed_secrets, sender, subscription
from api.webhooks.sealed_secrets import SealedError, Vault
from api.webhooks.sender import Outcome, Sender
from api.webhooks.store import Attempt, Claim, Store
from api.webhooks.subscription import Message, compile_scope
from api.webhooks.targets import Target, TargetError, parse

#: Answers without a row that are taken in one turn; each may have looked through many blocks.
_MOST_LOOKS: Final = 50
#: Blocks to look through when all at once took too long, and then fewer.
_SPANS: Final = (None, 100_000, 10_000, 1000, 100, 10, 1)
#: Seconds before a subscription is looked at again whose contract is not indexed.
_UNKNOWN_WAIT: Final = 60.0

_CATALOG_VERSION: Final = "SELECT version FROM gapless.catalog"

log = logging.getLogger(__name__)

#: Messages of one subscription before others have their turn.
TURN: Final = 20
#: Seconds before a secret is tried again that no key opens.
_SEALED_WAIT: Final = 300.0


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to tell.

    Attributes:
        position: how far that is certain.
        finished: nothing more is there until the chain changes.
        reason: what keeps it from being told more, for its owner.
        wait: seconds before it is worth while to look again.
    """

    position: str
    finished: bool = True
    reason: str | None = None
    wait: float = 0


class BrokenPositionError(Exception):
    """A subscription stands at a block that this database never had."""


class Looker:
    """Finds messages.

    Args:
        database: where from.
        watch: what is indexed.
        window: most blocks to look through at once where no index serves the filters.
        wall: the time of day.
    """

    def __init__(self, database: Database, watch: CatalogWatch, window: int, wall: Callable[[], datetime]) -> None:
        self._database = database
        self._watch = watch
        self._window = window
        self._wall = wall
        self._lock = threading.Lock()
        self._seen: tuple[int, Catalog] | None = None

    def look(self, claim: Claim) -> Message | Nothing:
        """The next message of a subscription, or how far there is none.

        Raises:
            BrokenPositionError: only its owner can say where it goes on.
            ApiError: DATABASE_UNAVAILABLE and the like.
        """
        position = Position.parse(claim.position)
        for _ in range(_MOST_LOOKS):
            try:
                found = self._read(claim, position)
            except _UnknownError as error:
                return Nothing(str(position), reason=str(error), wait=_UNKNOWN_WAIT)
            if found.common_block is not None:
                position = found.position or position
                if claim.told_block is not None and claim.told_block > found.common_block:
                    return subscription.reverted(
                        claim.webhook,
                        claim.sequence + 1,
                        claim.chain_id,
                        found.common_block,
                        position=str(position),
                        why="reorg",
                        now=self._wall(),
                    )
                # Nothing of what is gone was ever told.
            elif found.rows:
                return self._rows(claim, found)
            else:
                position = found.position or position
                if not found.more:
                    return Nothing(str(position), reason=_waiting(found))
        return Nothing(str(position), finished=False)

    def _rows(self, claim: Claim, found: Changes) -> Message:
        count = subscription.fitting([len(row.data) for row in found.rows])
        rows = found.rows[:count]
        behind = found.position if count == len(found.rows) else None
        last = rows[-1].position.block
        return subscription.rows(
            claim.webhook,
            claim.sequence + 1,
            claim.chain_id,
            [row.data for row in rows],
            position=str(behind or rows[-1].position),
            told_block=max(last, claim.told_block or 0),
            now=self._wall(),
        )

    def _read(self, claim: Claim, position: Position) -> Changes:
        """What follows a position, by a catalog that is the database's at that very moment.

        By an older one, rows of an event that was just added would be passed by.
        """
        while True:
            version, catalog = self._exact()
            found = self._read_by(self._compiled(catalog, claim), position)
            if found.catalog == version:
                return found
            self._renew()

    def _read_by(self, scope: Scope, position: Position) -> Changes:
        for span in _SPANS:
            try:
                return changes.read(self._database, scope, position, span=span)
            except ApiError as error:
                if error.code == "INVALID_CURSOR":
                    raise BrokenPositionError(
                        f"it stands at {position}, a block that was never indexed here: replay it from a block"
                    ) from None
                if error.code != "QUERY_TOO_EXPENSIVE" or span == _SPANS[-1]:
                    raise
        raise AssertionError("the last span returns or raises")

    def _compiled(self, catalog: Catalog, claim: Claim) -> Scope:
        chain = catalog.chains.get(claim.chain_id)
        if chain is None:
            raise _UnknownError("its chain is not indexed any more")
        try:
            return compile_scope(
                catalog,
                chain,
                claim.contract,
                claim.event,
                claim.filters,
                claim.finality,
                limit=claim.batch,
                window=self._window,
            )
        except ApiError as error:
            raise _UnknownError(error.message) from None

    def _exact(self) -> tuple[int, Catalog]:
        """A catalog, and the version of the indexer's catalog that it is surely of."""
        seen = self._seen
        if seen is None or seen[1].version != self._watch.current().version:
            return self._renew()
        return seen

    def _renew(self) -> tuple[int, Catalog]:
        with self._lock:
            # The version first: where it is still the same when rows are read, the catalog is of it.
            version = int(self._database.query(_CATALOG_VERSION)[0][0] or 0)
            self._seen = seen = (version, self._watch.renewed())
        return seen


class _UnknownError(Exception):
    """What a subscription asks for is not indexed (any more)."""


def _waiting(found: Changes) -> str | None:
    if found.waiting_for is None:
        return None
    return f"block {found.waiting_for} is not indexed yet, and what follows it waits for it"


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
