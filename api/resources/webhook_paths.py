"""What all paths of webhooks share: who may see them, how they are shown, where they may lead."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import falcon
import orjson

from api.access import principal_of
from api.context import Context
from api.cursors import Position
from api.errors import ApiError, Problem
from api.live.changes import end_of
from api.resources.base import Path
from api.schemas import FINALITY, TIME, Schema, an_object, nullable
from api.sql import webhooks as sql
from api.sql.statement import sent
from api.webhooks import targets
from api.webhooks.targets import Target, TargetError, networks, system_resolver
from api.webhooks.vault import SealedError, Vault
from api.webhooks.worker import vault_of

_ID: Final = re.compile(r"wh_[0-9a-f]{20}")

TEXT: Final[Schema] = {"type": "string"}
_SECRET: Final[Schema] = {
    "type": "string",
    "pattern": "^whsec_",
    "description": "Checks the messages' signatures. It is not shown again.",
}
MEMBERS: Final[Mapping[str, Schema]] = {
    "id": TEXT,
    "url": {**TEXT, "description": "Without its query."},
    "description": nullable(TEXT),
    "chain_id": {"type": "integer"},
    "contract": nullable({**TEXT, "description": "Null: all of the chain."}),
    "event": nullable({**TEXT, "description": "Null: all of the contract."}),
    "filters": {"type": "object", "additionalProperties": TEXT},
    "finality": FINALITY,
    "batch": {"type": "integer", "description": "Most rows of a message."},
    "state": {"type": "string", "enum": ["active", "failing", "paused", "disabled"]},
    "reason": nullable({**TEXT, "description": "Why it is failing, waiting or disabled."}),
    "cursor": {**TEXT, "description": "All rows up to it were delivered."},
    "sequence": {"type": "integer", "description": "Number of the newest message."},
    "pending": nullable(
        an_object(
            {
                "message_id": TEXT,
                "type": TEXT,
                "failures": {"type": "integer"},
                "next_attempt_at": nullable(TIME),
            },
            description="The message that is not acknowledged yet.",
        )
    ),
    "old_secret_until": nullable({**TIME, "description": "Until then the secret of before signs too."}),
    "created_at": TIME,
    "delivered_at": nullable({**TIME, "description": "When a message was last acknowledged."}),
}
ONE: Final = an_object({"data": an_object(MEMBERS)})
ONE_WITH_SECRET: Final = an_object({"data": an_object({**MEMBERS, "secret": _SECRET})})


class WebhookPath(Path):
    """What all paths of webhooks have in common."""

    scope: ClassVar = "webhooks"
    tag: ClassVar = "webhooks"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._vault = vault_of(context.settings)

    @property
    def vault(self) -> Vault:
        """Seals and opens secrets.

        Raises:
            ApiError: NOT_CONFIGURED.
        """
        if self._vault is None:
            raise ApiError(
                "NOT_CONFIGURED", "webhooks are switched off here: the operator must set WEBHOOKS_SECRET_KEY"
            )
        return self._vault

    def require_on(self) -> None:
        """Refuse where webhooks are switched off.

        Raises:
            ApiError: NOT_CONFIGURED.
        """
        assert self.vault

    def run(self, text: str, *values: object) -> bytes | None:
        """Run a statement that changes something. Returns its one value, or None if there is no row."""
        rows = self.context.writes.query(text, [sent(value) for value in values])
        return rows[0][0] if rows else None

    def find(self, text: str, *values: object) -> bytes | None:
        """Run a statement that only reads; as :meth:`run`."""
        rows = self.context.database.query(text, [sent(value) for value in values])
        return rows[0][0] if rows else None

    def owner(self, request: falcon.Request) -> str | None:
        """Whose subscriptions may be seen; None: all, for administrators."""
        asking = principal_of(request)
        return None if "admin" in asking.scopes else asking.bucket

    def shown(self, text: bytes) -> dict[str, Any]:
        """A subscription as its owner may see it."""
        found: dict[str, Any] = orjson.loads(text)
        return self.with_url(found)

    def with_url(self, found: dict[str, Any]) -> dict[str, Any]:
        """The same with the URL opened, and cut down to what may be shown."""
        try:
            url = self.vault.open(bytes.fromhex(found["url"]), f"{found['id']} url")
            found["url"] = targets.parse(url, allow_http=True).shown
        except (SealedError, TargetError):
            found["url"] = "sealed with a key that is not there any more"
        return found

    def resolve(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name."""
        return system_resolver(host, port)

    def target(self, url: str) -> Target:
        """Take a URL apart, and judge where it leads.

        Raises:
            ApiError: INVALID_PARAMETER.
        """
        settings = self.context.settings
        try:
            target = targets.parse(url, allow_http=settings.webhooks_allow_http)
            targets.addresses(target, networks(settings.webhooks_allow_private), self.resolve)
        except TargetError as error:
            raise ApiError.invalid([Problem("url", str(error))]) from None
        return target

    def place(self, chain_id: int, from_block: int) -> Position:
        """Where to stand so as to be told from a block on.

        Raises:
            ApiError: BLOCK_NOT_INDEXED.
        """
        before = max(0, from_block - 1)
        found = orjson.loads(self.find(sql.PLACE, chain_id, before) or b"{}")
        if before > (found.get("indexed") or 0):
            raise ApiError("BLOCK_NOT_INDEXED", f"block {from_block} is not indexed yet", retry_after=1)
        branch = found.get("branch")
        return end_of(found.get("block") or 0, bytes.fromhex(branch) if branch else None)


def known(webhook: str) -> str:
    """The id of a path, if it may be one.

    Raises:
        ApiError: NOT_FOUND.
    """
    if not _ID.fullmatch(webhook):
        raise nothing(webhook)
    return webhook


def nothing(webhook: str) -> ApiError:
    """The error that says so: another key's webhook is not there either."""
    return ApiError("NOT_FOUND", f"there is no webhook {webhook[:40]!r} of this key")
