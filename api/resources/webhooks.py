"""``/v1/webhooks``: subscriptions to rows, each seen and changed by the key that made it."""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import falcon
import orjson
from pydantic import Field

from api.access import principal_of
from api.body import Body, NoBody, Operation
from api.catalog import Catalog, Chain
from api.context import Context
from api.cursors import Position
from api.errors import ApiError, Problem
from api.live import changes
from api.live.changes import Scope, end_of
from api.resources.base import Path, Resource, send_json
from api.schemas import FINALITY, TIME, Schema, an_array, an_object, nullable
from api.sql import webhooks as sql
from api.sql.statement import sent
from api.values import MAX_BLOCK
from api.webhooks import sealed_secrets, subscription, targets
from api.webhooks.sealed_secrets import SealedError, Vault
from api.webhooks.targets import Target, TargetError, networks, system_resolver
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

_Name = Annotated[str, Field(min_length=1, max_length=300)]
_Url = Annotated[
    str, Field(min_length=1, max_length=targets.MAX_URL, description="Where messages go. Its query is not shown again.")
]
_Description = Annotated[str, Field(max_length=200, description="For people.")]


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


class WebhookRequest(Body):
    """A subscription that is asked for."""

    url: _Url
    chain: Annotated[_Name | None, Field(description="Name or id; needed where several are possible.")] = None
    contract: Annotated[_Name | None, Field(description="Its name; left out: all of the chain.")] = None
    event: Annotated[_Name | None, Field(description="Of the contract; left out: all.")] = None
    filters: Annotated[
        dict[str, Annotated[str, Field(max_length=5000)]],
        Field(max_length=50, description="address, and with event arg.*: each as in the URL of the rows."),
    ] = Field(default_factory=dict)
    finality: Annotated[
        Literal["latest", "safe", "finalized"],
        Field(description="Rows are told once their block is at least this final. Finalized rows are never reverted."),
    ] = "finalized"
    from_block: Annotated[
        int | None, Field(ge=0, le=MAX_BLOCK, description="Rows from this block on; left out: from now on.")
    ] = None
    batch: Annotated[int, Field(ge=1, le=500, description="Most rows of a message.")] = 100
    description: _Description | None = None


class WebhookChange(Body):
    """What is to change; what is left out stays."""

    state: Annotated[
        Literal["active", "paused"] | None, Field(description="active goes on, after a failure or 410 too.")
    ] = None
    url: _Url | None = None
    description: _Description | None = None


class Webhooks(WebhookPath, Resource):
    """``/v1/webhooks``: all of a key, and a new one."""

    summary: ClassVar = "All webhooks of the key"
    codes: ClassVar = ("NOT_CONFIGURED",)
    answer: ClassVar = an_object({"data": an_array(an_object(MEMBERS))})
    create: ClassVar = Operation(
        "Subscribe to rows: the secret is shown this once",
        WebhookRequest,
        ONE_WITH_SECRET,
        status=201,
        codes=(
            "NOT_CONFIGURED",
            "LIMIT_REACHED",
            "CHAIN_REQUIRED",
            "CHAIN_NOT_FOUND",
            "CONTRACT_NOT_FOUND",
            "EVENT_NOT_FOUND",
            "AMBIGUOUS_EVENT",
            "BLOCK_NOT_INDEXED",
        ),
    )
    operations: ClassVar = {"post": create}

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with all that the key has made."""
        self.params.read(request.query_string)
        self.format(request)
        self.require_on()
        found = orjson.loads(self.find(sql.LIST, self.owner(request)) or b"[]")
        send_json(response, {"data": [self.with_url(each) for each in found]})

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make one."""
        vault = self.vault
        asked = self.create.read(req)
        asking = principal_of(req)
        target = self.target(asked.url)
        chain, scope = self._compiled(asked)
        if asked.from_block is not None:
            position = self.place(chain.chain_id, asked.from_block)
        else:
            position = changes.read(self.context.database, scope, None).position or end_of(0)
        webhook = "wh_" + secrets.token_hex(10)
        secret = sealed_secrets.new_secret()
        event = None if asked.event is None else next(iter(scope.events.values())).api_name
        made = self.run(
            sql.CREATE,
            asking.bucket,
            webhook,
            asking.key_id,
            vault.seal(asked.url, f"{webhook} url"),
            target.host,
            vault.seal(secret, f"{webhook} secret"),
            asked.description,
            chain.chain_id,
            asked.contract,
            event,
            orjson.dumps(asked.filters).decode(),
            asked.finality,
            asked.batch,
            str(position),
            self.context.settings.webhooks_per_key,
        )
        if made is None:
            most = self.context.settings.webhooks_per_key
            raise ApiError("LIMIT_REACHED", f"a key may have {most} webhooks: delete one first")
        resp.status = falcon.HTTP_201
        send_json(resp, {"data": {**self.shown(made), "secret": secret}})

    def _compiled(self, asked: WebhookRequest) -> tuple[Chain, Scope]:
        try:
            return self._compiled_by(self.context.catalog.current(), asked)
        except ApiError as error:
            if error.status != 404:
                raise
            return self._compiled_by(self.context.catalog.renewed(), asked)

    def _compiled_by(self, catalog: Catalog, asked: WebhookRequest) -> tuple[Chain, Scope]:
        contract = catalog.contracts.get(asked.contract) if asked.contract is not None else None
        chain = catalog.chain(asked.chain, contract.deployments if contract is not None else None)
        scope = subscription.compile_scope(
            catalog,
            chain,
            asked.contract,
            asked.event,
            asked.filters,
            asked.finality,
            limit=asked.batch,
            window=self.context.settings.api_unindexed_window,
        )
        return chain, scope


class OneWebhook(WebhookPath, Resource):
    """``/v1/webhooks/{webhook}``: one, to be seen, changed or deleted."""

    summary: ClassVar = "A webhook"
    codes: ClassVar = ("NOT_CONFIGURED", "NOT_FOUND")
    answer: ClassVar = ONE
    change: ClassVar = Operation(
        "Pause it, let it go on, or send it elsewhere", WebhookChange, ONE, codes=("NOT_CONFIGURED", "NOT_FOUND")
    )
    end: ClassVar = Operation("Delete it", NoBody, None, status=204, codes=("NOT_FOUND",))
    operations: ClassVar = {"patch": change, "delete": end}

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with one."""
        self.params.read(request.query_string)
        self.format(request)
        self.require_on()
        found = self.find(sql.ONE, self.owner(request), known(path["webhook"]))
        if found is None:
            raise nothing(path["webhook"])
        send_json(response, {"data": self.shown(found)})

    def on_patch(self, req: falcon.Request, resp: falcon.Response, webhook: str) -> None:
        """Change one."""
        vault = self.vault
        asked = self.change.read(req)
        known(webhook)
        url = host = None
        if asked.url is not None:
            host = self.target(asked.url).host
            url = vault.seal(asked.url, f"{webhook} url")
        found = self.run(sql.CHANGE, self.owner(req), webhook, url, host, asked.description, asked.state)
        if found is None:
            raise nothing(webhook)
        send_json(resp, {"data": self.shown(found)})

    def on_delete(self, req: falcon.Request, resp: falcon.Response, webhook: str) -> None:
        """Delete one, with what is remembered of its deliveries."""
        self.end.read(req)
        if self.run(sql.DELETE, self.owner(req), known(webhook)) is None:
            raise nothing(webhook)
        resp.status = falcon.HTTP_204
