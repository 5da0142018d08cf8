"""Statements about subscriptions, as their owners see and change them. Delivery has its own: :mod:`api.webhooks.store`.

Everywhere ``$1`` is their owner; null means that the principal may see all.
"""

from typing import Final

from api.cursors import HASH_BYTES
from api.sql.statement import time

_MINE: Final = "($1::text IS NULL OR w.owner = $1::text)"
_THIS: Final = f"w.id = $2::text AND {_MINE}"


def _moment(expression: str) -> str:
    return f"CASE WHEN {expression} IS NOT NULL THEN {time(expression)} END"


#: One subscription as JSON; ``url`` is still sealed.
_SHOWN: Final = f"""json_build_object('id', w.id, 'url', encode(w.url, 'hex'), 'description', w.description,
    'chain_id', w.chain_id, 'contract', w.contract, 'event', w.event, 'filters', w.filters, 'finality', w.finality,
    'batch', w.batch, 'state', CASE WHEN w.state = 'active' AND w.failures > 0 THEN 'failing' ELSE w.state END,
    'reason', w.reason, 'cursor', w.position, 'sequence', w.sequence,
    'pending', CASE WHEN w.message_id IS NOT NULL THEN json_build_object('message_id', w.message_id,
        'type', w.message_type, 'failures', w.failures,
        'next_attempt_at', CASE WHEN w.state = 'active' THEN {time("w.due_at")} END) END,
    'old_secret_until', CASE WHEN w.old_secret_until > now() THEN {time("w.old_secret_until")} END,
    'created_at', {time("w.created_at")}, 'delivered_at', {_moment("w.delivered_at")})"""

LIST: Final = f"""
SELECT coalesce(json_agg({_SHOWN} ORDER BY w.created_at, w.id), '[]') FROM gapless.webhooks w WHERE {_MINE}
"""

ONE: Final = f"SELECT {_SHOWN} FROM gapless.webhooks w WHERE {_THIS}"

#: No row if there are as many as there may be.
CREATE: Final = f"""
INSERT INTO gapless.webhooks AS w (owner, id, key_id, url, host, secret, description, chain_id, contract, event,
    filters, finality, batch, position)
SELECT $1::text, $2::text, $3::integer, $4::bytea, $5::text, $6::bytea, $7::text, $8::bigint, $9::text, $10::text,
    $11::jsonb, $12::text, $13::integer, $14::text
WHERE (SELECT count(*) FROM gapless.webhooks o WHERE o.owner = $1::text) < $15::bigint
RETURNING {_SHOWN}
"""

#: What is null stays as it is. Going on again is a fresh start for what was not acknowledged.
CHANGE: Final = f"""
UPDATE gapless.webhooks w SET url = coalesce($3::bytea, url), host = coalesce($4::text, host),
    description = coalesce($5::text, description),
    failures = CASE WHEN $6::text = 'active' THEN 0 ELSE failures END,
    reason = CASE WHEN $6::text = 'active' THEN NULL ELSE reason END,
    due_at = CASE WHEN $6::text = 'active' THEN now() ELSE due_at END,
    looked = CASE WHEN $6::text = 'active' THEN NULL ELSE looked END,
    state = coalesce($6::text, state)
WHERE {_THIS}
RETURNING {_SHOWN}
"""

DELETE: Final = f"DELETE FROM gapless.webhooks w WHERE {_THIS} RETURNING w.id"

ROTATE: Final = f"""
UPDATE gapless.webhooks w SET secret = $3::bytea,
    old_secret = CASE WHEN $4::float8 > 0 THEN secret END,
    old_secret_until = CASE WHEN $4::float8 > 0 THEN now() + $4::float8 * interval '1 hour' END
WHERE {_THIS}
RETURNING {_SHOWN}
"""

#: What is on its way for the same owner: a test takes a thread that delivers, of which one owner is not to have all.
TESTING: Final = f"""
SELECT o.id FROM gapless.webhooks w JOIN gapless.webhooks o ON o.owner = w.owner AND o.id <> w.id
WHERE {_THIS} AND o.test_id IS NOT NULL LIMIT 1
"""

TEST: Final = f"UPDATE gapless.webhooks w SET test_id = $3::text WHERE {_THIS} RETURNING w.test_id"

#: The facts that setting a subscription back depends on.
STANDING: Final = f"""
SELECT json_build_object('chain_id', w.chain_id, 'sequence', w.sequence, 'told_block', w.told_block,
    'finalized', c.finalized_number)
FROM gapless.webhooks w JOIN gapless.chains c USING (chain_id) WHERE {_THIS}
"""

#: With a message that is to be delivered first, or without.
REPLAY: Final = f"""
UPDATE gapless.webhooks w SET position = CASE WHEN $5::text IS NULL THEN $4::text ELSE position END,
    sequence = sequence + CASE WHEN $5::text IS NULL THEN 0 ELSE 1 END,
    message_id = $5::text, message_type = $6::text, message = $7::bytea,
    message_position = CASE WHEN $5::text IS NOT NULL THEN $4::text END,
    told_block = $8::bigint, failures = 0, reason = NULL, due_at = now(), looked = NULL
WHERE {_THIS} AND w.sequence = $3::bigint
RETURNING {_SHOWN}
"""

DELIVERIES: Final = f"""
SELECT coalesce(json_agg(json_build_object('id', d.id, 'message_id', d.message_id, 'type', d.message_type,
    'attempt', d.attempt, 'at', {time("d.at")}, 'status', d.status, 'error', d.error, 'answer', d.answer,
    'milliseconds', d.milliseconds, 'bytes', d.bytes) ORDER BY d.id DESC), '[]')
FROM (SELECT d.* FROM gapless.webhook_deliveries d JOIN gapless.webhooks w ON w.id = d.webhook_id
      WHERE {_THIS} AND d.id < $3::bigint ORDER BY d.id DESC LIMIT $4::integer) d
"""

#: Where to stand so as to be told from the block ``$2`` on. Above what is final that is at a block whose hash is known,
#: so that a reorganisation is noticed; it may be some blocks before.
PLACE: Final = f"""
SELECT json_build_object('indexed', i.indexed, 'block', p.number, 'branch', (
    SELECT encode(substr(b.hash, 1, {HASH_BYTES}), 'hex') FROM gapless.blocks b
    WHERE b.chain_id = c.chain_id AND b.number = p.number AND b.number > coalesce(c.finalized_number, -1)))
FROM gapless.chains c,
LATERAL (SELECT greatest(c.tip_number, (SELECT max(upper(s.coverage)) - 1 FROM gapless.sources s
                                        WHERE s.chain_id = c.chain_id)) AS indexed) i,
LATERAL (SELECT max(b.number) AS number FROM gapless.blocks b
         WHERE b.chain_id = c.chain_id AND b.number <= $2::bigint) known,
LATERAL (SELECT CASE WHEN $2::bigint <= coalesce(c.finalized_number, -1) THEN $2::bigint
                     ELSE greatest(c.finalized_number, 0, known.number) END AS number) p
WHERE c.chain_id = $1::bigint
"""
