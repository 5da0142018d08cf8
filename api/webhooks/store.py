"""Subscriptions and attempts in Postgres. Each change is one statement, so none needs a transaction around it.

Several processes deliver. One takes a subscription by a *lease*, and renews it while it is at work; every change that
it makes says that it still has it. A lease that is not renewed ends by itself, and another process goes on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from api.database import Database
from api.sql.statement import sent
from api.webhooks.subscription import Message

# What a message's making and the first look of a subscription depend on: where it is unchanged, there is nothing new.
_MARKS: Final = """
    SELECT c.chain_id, md5(concat_ws('/', c.tip_number, encode(c.tip_hash, 'hex'), c.safe_number, c.finalized_number,
        (SELECT version FROM gapless.catalog),
        (SELECT sum(e.version) || '+' || sum(e.rewrite_version) FROM gapless.events e))) AS mark
    FROM gapless.chains c"""

# A key that ended ends its subscriptions: they would go on telling what it may not read any more.
_KEY_HOLDS: Final = """(w.key_id IS NULL OR EXISTS (SELECT FROM gapless.api_keys k WHERE k.id = w.key_id
        AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())))"""

_SEALED: Final = """'url', encode(url, 'hex'), 'secret', encode(secret, 'hex'),
    'old_secret', CASE WHEN old_secret_until > now() THEN encode(old_secret, 'hex') END"""

_IS_DUE: Final = f"""(w.leased_until IS NULL OR w.leased_until < now()) AND {_KEY_HOLDS}
      AND (w.test_id IS NOT NULL OR (w.state = 'active' AND w.due_at <= now()
           AND (w.message_id IS NOT NULL OR w.looked IS DISTINCT FROM m.mark)))"""

# No window function locks rows: an owner's places are counted first, and who is due is asked twice.
_CLAIM: Final = f"""
WITH marks AS MATERIALIZED ({_MARKS}),
held AS MATERIALIZED (
    SELECT owner, count(*) AS count FROM gapless.webhooks WHERE lease = $1::text AND leased_until >= now()
    GROUP BY owner),
waiting AS MATERIALIZED (
    SELECT w.id, coalesce(h.count, 0) + row_number() OVER (PARTITION BY w.owner ORDER BY w.due_at, w.id) AS place
    FROM gapless.webhooks w LEFT JOIN marks m USING (chain_id) LEFT JOIN held h USING (owner)
    WHERE {_IS_DUE}),
due AS MATERIALIZED (
    SELECT w.id, m.mark FROM gapless.webhooks w LEFT JOIN marks m USING (chain_id)
    WHERE {_IS_DUE} AND w.id IN (SELECT id FROM waiting WHERE place <= $4::integer)
    ORDER BY w.due_at LIMIT $3::integer FOR UPDATE OF w SKIP LOCKED)
UPDATE gapless.webhooks w SET lease = $1::text, leased_until = now() + $2::float8 * interval '1 second'
FROM due WHERE w.id = due.id
RETURNING json_build_object('webhook', w.id, 'chain_id', w.chain_id, 'contract', w.contract, 'event', w.event,
    'filters', w.filters, 'finality', w.finality, 'batch', w.batch, 'state', w.state, 'position', w.position,
    'told_block', w.told_block, 'sequence', w.sequence, 'message_id', w.message_id, 'message_type', w.message_type,
    'failures', w.failures, 'due', w.due_at <= now(), 'test_id', w.test_id, 'mark', due.mark,
    'message', encode(w.message, 'hex'), {_SEALED})
"""

_RENEW: Final = """
UPDATE gapless.webhooks SET leased_until = now() + $2::float8 * interval '1 second'
WHERE lease = $1::text AND id = ANY ($3::text[])
"""

_LET_GO: Final = """
UPDATE gapless.webhooks SET lease = NULL, leased_until = NULL WHERE lease = $1::text AND id = ANY ($2::text[])
"""

_LET_ALL_GO: Final = "UPDATE gapless.webhooks SET lease = NULL, leased_until = NULL WHERE lease = $1::text"

# A subscription that found nothing waits for the chain; one that may find more at once waits for its turn only.
_LOOKED: Final = """
UPDATE gapless.webhooks SET position = $3::text, looked = $4::text, reason = $5::text,
    due_at = now() + $6::float8 * interval '1 second'
WHERE id = $1::text AND lease = $2::text AND position = $7::text AND message_id IS NULL AND state = 'active'
RETURNING id
"""

# Answers with what the message is to be signed with, as it is now: it may have been replaced since the claim.
_COMPOSED: Final = f"""
UPDATE gapless.webhooks w SET sequence = $3::bigint, message_id = $4::text, message_type = $5::text,
    message = $6::bytea, message_position = $7::text, told_block = $8::bigint, failures = 0
WHERE id = $1::text AND lease = $2::text AND sequence = $3::bigint - 1 AND message_id IS NULL AND state = 'active'
  AND {_KEY_HOLDS}
RETURNING json_build_object({_SEALED})
"""

_ATTEMPT: Final = """
attempt AS (
    INSERT INTO gapless.webhook_deliveries (webhook_id, message_id, message_type, attempt, status, error, answer,
        milliseconds, bytes)
    SELECT w.id, $3::text, $4::text, $5::integer, $6::integer, $7::text, $8::text, $9::integer, $10::integer
    FROM gapless.webhooks w WHERE w.id = $1::text)"""

_ACKNOWLEDGED: Final = f"""
WITH {_ATTEMPT}
UPDATE gapless.webhooks SET position = message_position, message_id = NULL, message_type = NULL, message = NULL,
    message_position = NULL, failures = 0, reason = NULL, delivered_at = now(), due_at = now(), looked = NULL
WHERE id = $1::text AND lease = $2::text AND message_id = $3::text
RETURNING position
"""

_FAILED: Final = f"""
WITH {_ATTEMPT}
UPDATE gapless.webhooks SET failures = failures + 1, reason = $11::text,
    state = CASE WHEN $12::float8 IS NULL THEN 'disabled' ELSE state END,
    due_at = now() + coalesce($12::float8, 0) * interval '1 second'
WHERE id = $1::text AND lease = $2::text AND message_id = $3::text
RETURNING state
"""

_TESTED: Final = f"""
WITH {_ATTEMPT}
UPDATE gapless.webhooks SET test_id = NULL WHERE id = $1::text AND lease = $2::text AND test_id = $3::text
RETURNING id
"""

_HINDERED: Final = """
UPDATE gapless.webhooks SET reason = $3::text, state = CASE WHEN $4::float8 IS NULL THEN 'disabled' ELSE state END,
    due_at = now() + coalesce($4::float8, 0) * interval '1 second', test_id = NULL
WHERE id = $1::text AND lease = $2::text
RETURNING state
"""

_PRUNE: Final = """
DELETE FROM gapless.webhook_deliveries WHERE id IN (
    SELECT id FROM gapless.webhook_deliveries WHERE at < now() - $1::float8 * interval '1 day' LIMIT 10000)
RETURNING id
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A subscription that this process delivers now.

    Attributes:
        webhook: its id.
        contract, event, filters, finality, batch: what is asked for.
        position: a cursor; all up to it was delivered.
        told_block: no row of a later block was ever in a message; None: none at all was.
        sequence: of the newest message.
        message_id, message_type, message: what is not acknowledged yet, if anything.
        failures: attempts of it that failed.
        due: whether it is time to look, or for the next attempt.
        test_id: of a test message that was asked for.
        mark: the chain's state; while it is the same there is nothing new.
        url, secret, old_secret: sealed; the old secret signs too while it is given.
    """

    webhook: str
    chain_id: int
    contract: str | None
    event: str | None
    filters: Mapping[str, str]
    finality: str
    batch: int
    state: str
    position: str
    told_block: int | None
    sequence: int
    message_id: str | None
    message_type: str | None
    message: bytes | None
    failures: int
    due: bool
    test_id: str | None
    mark: str | None
    url: bytes
    secret: bytes
    old_secret: bytes | None

    @classmethod
    def of(cls, text: bytes) -> "Claim":
        """Read what the database made."""
        body: dict[str, Any] = orjson.loads(text)
        for name in ("message", "url", "secret", "old_secret"):
            body[name] = None if body[name] is None else bytes.fromhex(body[name])
        return cls(**body)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to deliver a message."""

    message_id: str
    message_type: str
    number: int
    status: int | None
    error: str | None
    answer: str
    milliseconds: int
    size: int

    @property
    def values(self) -> list[object]:
        """As the statements take them, from the third on."""
        return [
            self.message_id,
            self.message_type,
            self.number,
            self.status,
            self.error,
            self.answer.replace("\0", "\ufffd"),
            self.milliseconds,
            self.size,
        ]


class Store:
    """What a delivering process changes.

    Args:
        database: a pool that writes.
        lease: a name of this process's own.
    """

    def __init__(self, database: Database, lease: str) -> None:
        self._database = database
        self._lease = lease

    def claim(self, most: int, seconds: float, *, share: int) -> list[Claim]:
        """Take subscriptions that have something to do, those that have waited longest first.

        Args:
            most: how many.
            seconds: for which they are ours.
            share: most of one owner, together with those that are ours already.
        """
        return [Claim.of(row[0] or b"{}") for row in self._run(_CLAIM, self._lease, seconds, most, share)]

    def renew(self, webhooks: Sequence[str], seconds: float) -> None:
        """Keep subscriptions for so much longer."""
        self._run(_RENEW, self._lease, seconds, list(webhooks))

    def let_go(self, webhooks: Sequence[str]) -> None:
        """Give subscriptions back."""
        self._run(_LET_GO, self._lease, list(webhooks))

    def let_all_go(self) -> None:
        """Give all subscriptions back that this process has."""
        self._run(_LET_ALL_GO, self._lease)

    def looked(
        self,
        claim: Claim,
        position: str,
        mark: str | None,
        *,
        reason: str | None = None,
        wait: float = 0,
    ) -> bool:
        """Note how far was looked without finding anything to tell. Every such method: False if it is ours no more."""
        return bool(self._run(_LOOKED, claim.webhook, self._lease, position, mark, reason, wait, claim.position))

    def composed(self, claim: Claim, message: Message) -> Claim | None:
        """Keep a message before it is sent: its id and its body are the same at every attempt.

        Returns:
            The claim with what the message is to be signed with; None if the subscription is ours no more.
        """
        rows = self._run(
            _COMPOSED,
            claim.webhook,
            self._lease,
            claim.sequence + 1,
            message.message_id,
            message.kind,
            message.body,
            message.position,
            message.told_block,
        )
        if not rows:
            return None
        sealed: dict[str, str | None] = orjson.loads(rows[0][0] or b"{}")
        return replace(
            claim,
            url=bytes.fromhex(sealed["url"] or ""),
            secret=bytes.fromhex(sealed["secret"] or ""),
            old_secret=bytes.fromhex(old) if (old := sealed["old_secret"]) else None,
            sequence=claim.sequence + 1,
            told_block=message.told_block,
        )

    def acknowledged(self, claim: Claim, attempt: Attempt) -> str | None:
        """The receiver has the message. Returns the position behind it, or None if the subscription is ours no more."""
        rows = self._run(_ACKNOWLEDGED, claim.webhook, self._lease, *attempt.values)
        return rows[0][0].decode() if rows and rows[0][0] else None

    def failed(self, claim: Claim, attempt: Attempt, reason: str, wait: float | None) -> bool:
        """It has not; the next attempt is after ``wait`` seconds, or, with None, when its owner says so."""
        return bool(self._run(_FAILED, claim.webhook, self._lease, *attempt.values, reason, wait))

    def tested(self, claim: Claim, attempt: Attempt) -> bool:
        """A test message was sent, whatever came of it."""
        return bool(self._run(_TESTED, claim.webhook, self._lease, *attempt.values))

    def hindered(self, claim: Claim, reason: str, wait: float | None) -> bool:
        """Nothing can be delivered for a reason of our own; to be tried again after ``wait`` seconds, or never."""
        return bool(self._run(_HINDERED, claim.webhook, self._lease, reason, wait))

    def prune(self, days: float) -> int:
        """Forget old attempts, some thousands at most. Returns how many."""
        return len(self._run(_PRUNE, days))

    def _run(self, text: str, *values: object) -> list[tuple[bytes | None, ...]]:
        return self._database.query(text, [sent(value) for value in values])
