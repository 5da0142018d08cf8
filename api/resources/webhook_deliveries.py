"""What a webhook's owner does about its messages: see the attempts, have rows told again, test, change the secret."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final

import falcon
import orjson
from pydantic import Field

from api.access import principal_of
from api.body import Body, NoBody, Operation
from api.context import Context
from api.cursors import Position
from api.errors import ApiError
from api.limits import RateLimits
from api.parameters import Parameters
from api.resources.base import Resource, send_json
from api.resources.webhooks import ONE, ONE_WITH_SECRET, TEXT, WebhookPath, known, nothing
from api.schemas import BLOCK, TIME, an_array, an_object, nullable
from api.sql import webhooks as sql
from api.values import MAX_BLOCK, integer
from api.webhooks import sealed_secrets, subscription

#: Attempts to change what delivery changes at the same time.
_TRIES: Final = 5
_NEWEST: Final = 2**63 - 1
#: Test messages a minute of one client: each is a request to a server of its choice.
TESTS: Final = 10

_DELIVERY: Final = an_object(
    {
        "id": {"type": "integer"},
        "message_id": TEXT,
        "type": TEXT,
        "attempt": {"type": "integer", "minimum": 1},
        "at": TIME,
        "status": nullable({"type": "integer", "description": "Of the answer; null: there was none."}),
        "error": nullable({**TEXT, "description": "Why there was no answer."}),
        "answer": nullable({**TEXT, "description": "Its first bytes."}),
        "milliseconds": {"type": "integer"},
        "bytes": {"type": "integer", "description": "Of the message."},
    }
)


class ReplayRequest(Body):
    """Where to go on from."""

    from_block: Annotated[int, Field(ge=0, le=MAX_BLOCK, description="Rows from this block on are told again.")]


class RotateRequest(Body):
    """How to replace a secret."""

    overlap_hours: Annotated[float, Field(ge=0, le=168, description="Hours for which the old secret signs too.")] = 24.0


class DeliveryParameters(Parameters):
    """Which attempts."""

    limit: Annotated[int, integer(1, 1000)] = Field(100, description="Attempts of a page.")
    before: Annotated[int | None, integer(1, _NEWEST)] = Field(
        None, description="Attempts before this one: `page.next` of the page before."
    )


class WebhookDeliveries(WebhookPath, Resource):
    """``/v1/webhooks/{webhook}/deliveries``: attempts, the newest first."""

    summary: ClassVar = "Attempts to deliver, the newest first"
    codes: ClassVar = ("NOT_FOUND",)
    params: ClassVar = DeliveryParameters
    answer: ClassVar = an_object(
        {"data": an_array(_DELIVERY), "page": an_object({"next": nullable({"type": "integer"}), "limit": BLOCK})}
    )

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with a page."""
        parameters = DeliveryParameters.read(request.query_string)
        self.format(request)
        owner, webhook = self.owner(request), known(path["webhook"])
        if self.find(sql.ONE, owner, webhook) is None:
            raise nothing(webhook)
        limit = parameters.limit
        found = orjson.loads(
            self.find(sql.DELIVERIES, owner, webhook, parameters.before or _NEWEST, limit + 1) or b"[]"
        )
        following = found[limit - 1]["id"] if len(found) > limit else None
        send_json(response, {"data": found[:limit], "page": {"next": following, "limit": limit}})


class WebhookReplay(WebhookPath):
    """``/v1/webhooks/{webhook}/replay``: be told again."""

    again: ClassVar = Operation(
        "Be told again from a block on",
        ReplayRequest,
        ONE,
        codes=("NOT_CONFIGURED", "NOT_FOUND", "BLOCK_NOT_INDEXED", "OVERLOADED"),
    )
    operations: ClassVar = {"post": again}

    def on_post(self, req: falcon.Request, resp: falcon.Response, webhook: str) -> None:
        """Set a subscription back.

        Rows that can still be reorganised are reverted first: what becomes of them would else not be noticed while
        earlier ones are told again.
        """
        self.require_on()
        asked = self.again.read(req)
        owner = self.owner(req)
        for _ in range(_TRIES):
            text = self.find(sql.STANDING, owner, known(webhook))
            if text is None:
                raise nothing(webhook)
            standing = orjson.loads(text)
            position = self.place(standing["chain_id"], asked.from_block)
            values = _set_back(webhook, standing, position)
            found = self.run(sql.REPLAY, owner, webhook, standing["sequence"], str(position), *values)
            if found is not None:
                send_json(resp, {"data": self.shown(found)})
                return
        raise ApiError(
            "OVERLOADED", "messages are being delivered all the time: pause the webhook first", retry_after=1
        )


def _set_back(webhook: str, standing: Mapping[str, Any], position: Position) -> Sequence[object]:
    """Id, type and body of the message that comes first, if one must, and what counts as told then."""
    told: int | None = standing["told_block"]
    finalized: int | None = standing["finalized"]
    if told is None or told <= max(position.block, -1 if finalized is None else finalized):
        return None, None, None, told
    message = subscription.reverted(
        webhook,
        standing["sequence"] + 1,
        standing["chain_id"],
        position.block,
        position=str(position),
        why="replay",
        now=datetime.now(UTC),
    )
    return message.message_id, message.kind, message.body, message.told_block


class WebhookTest(WebhookPath):
    """``/v1/webhooks/{webhook}/test``: send a message that says nothing."""

    ping: ClassVar = Operation(
        "Send a test message; what came of it is among the deliveries",
        NoBody,
        an_object({"data": an_object({"message_id": TEXT})}),
        status=202,
        codes=("NOT_CONFIGURED", "NOT_FOUND"),
    )
    operations: ClassVar = {"post": ping}

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._limits = RateLimits(context.cache)

    def on_post(self, req: falcon.Request, resp: falcon.Response, webhook: str) -> None:
        """Ask for one: it is sent once, whatever the subscription's state.

        Raises:
            ApiError: RATE_LIMITED: too many a minute, or one of another webhook of the same key is on its way.
        """
        self.require_on()
        self.ping.read(req)
        self._take_turn(req, known(webhook))
        message_id = f"msg_{known(webhook).removeprefix('wh_')}_test_{secrets.token_hex(6)}"
        if self.run(sql.TEST, self.owner(req), webhook, message_id) is None:
            raise nothing(webhook)
        resp.status = falcon.HTTP_202
        send_json(resp, {"data": {"message_id": message_id}})

    def _take_turn(self, request: falcon.Request, webhook: str) -> None:
        if self.find(sql.TESTING, self.owner(request), webhook) is not None:
            raise ApiError(
                "RATE_LIMITED",
                "a test message of another webhook of this key is under way: wait",
                retry_after=1,
            )
        taken = self._limits.take(f"webhook-test:{principal_of(request).bucket}", TESTS)
        if not taken.allowed:
            raise ApiError(
                "RATE_LIMITED",
                f"more than {TESTS} test messages a minute: wait",
                retry_after=taken.retry_after,
            )


class WebhookSecret(WebhookPath):
    """``/v1/webhooks/{webhook}/rotate``: a new secret."""

    rotate: ClassVar = Operation(
        "Replace the secret: the new one is shown this once",
        RotateRequest,
        ONE_WITH_SECRET,
        required=False,
        codes=("NOT_CONFIGURED", "NOT_FOUND"),
    )
    operations: ClassVar = {"post": rotate}

    def on_post(self, req: falcon.Request, resp: falcon.Response, webhook: str) -> None:
        """Replace the secret; for a while both sign."""
        vault = self.vault
        asked = self.rotate.read(req)
        secret = sealed_secrets.new_secret()
        sealed = vault.seal(secret, f"{known(webhook)} secret")
        found = self.run(sql.ROTATE, self.owner(req), webhook, sealed, asked.overlap_hours)
        if found is None:
            raise nothing(webhook)
        send_json(resp, {"data": {**self.shown(found), "secret": secret}})
