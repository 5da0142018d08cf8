"""What a message says. The form is that of Standard Webhooks: type, timestamp, data."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson

ROWS: Final = "event.rows"
REVERTED: Final = "event.reverted"
TEST: Final = "webhook.test"

#: Bytes of rows in a message; one row alone may have more.
MAX_ROWS_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is kept until it is acknowledged.

    Attributes:
        position: where the subscription stands once it is.
        told_block: no row of a later block was ever in a message; None: none at all was.
    """

    message_id: str
    kind: str
    body: bytes
    position: str
    told_block: int | None


def message_id(webhook: str, sequence: int) -> str:
    """The id of a subscription's message: by its number, so that no two have the same, whatever happens to the chain.

    The message is kept under it before it is first sent: the same id at every attempt, whoever makes it.
    """
    return f"msg_{webhook.removeprefix('wh_')}_{sequence}"


def rows(
    webhook: str, sequence: int, chain_id: int, data: Sequence[bytes], *, position: str, told_block: int, now: datetime
) -> Message:
    """Rows in the chain's order.

    Args:
        webhook: the subscription's id.
        sequence: of the message.
        chain_id: the chain.
        data: the rows' JSON.
        position: the cursor behind them.
        told_block: the newest block of which a row was told, these included.
        now: the time.
    """
    body = b"".join(
        (
            _head(ROWS, webhook, sequence, now),
            b',"chain_id":%d,"cursor":%b,"rows":[' % (chain_id, orjson.dumps(position)),
            b",".join(data),
            b"]}}",
        )
    )
    return Message(message_id(webhook, sequence), ROWS, body, position, told_block)


def reverted(
    webhook: str,
    sequence: int,
    chain_id: int,
    common_block: int,
    *,
    position: str,
    why: Literal["reorg", "replay"],
    now: datetime,
) -> Message:
    """Rows of later blocks than ``common_block`` that were told do not hold any more; what holds follows.

    Args:
        webhook: the subscription's id.
        sequence: of the message.
        chain_id: the chain.
        common_block: the last block that holds.
        position: the cursor from which it goes on.
        why: the chain was reorganised, or the owner asked to be told again.
        now: the time.
    """
    facts = {"chain_id": chain_id, "cursor": position, "common_block": common_block, "reason": why}
    body = _head(REVERTED, webhook, sequence, now) + b"," + orjson.dumps(facts)[1:] + b"}"
    return Message(message_id(webhook, sequence), REVERTED, body, position, common_block)


def test(webhook: str, now: datetime) -> bytes:
    """The body of a test message, which says nothing."""
    return orjson.dumps({"type": TEST, "timestamp": _time(now), "data": {"webhook": webhook}})


def fitting(sizes: Sequence[int], limit: int = MAX_ROWS_BYTES) -> int:
    """How many of the first rows fit into a message; one at least.

    Args:
        sizes: bytes of each.
        limit: bytes together.
    """
    together = 0
    for count, size in enumerate(sizes):
        together += size
        if together > limit:
            return max(1, count)
    return len(sizes)


def _head(kind: str, webhook: str, sequence: int, now: datetime) -> bytes:
    """The beginning of a message, up to its data's own members."""
    head: dict[str, Any] = {
        "type": kind,
        "timestamp": _time(now),
        "data": {"webhook": webhook, "sequence": sequence},
    }
    return orjson.dumps(head)[:-2]


def _time(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
