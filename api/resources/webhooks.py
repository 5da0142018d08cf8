"""``/v1/webhooks``: subscriptions to rows, each seen and changed by the key that made it."""

import secrets
from typing import Annotated, ClassVar, Literal

import falcon
import orjson
from pydantic import Field

from api.access import principal_of
from api.body import Body, NoBody, Operation
from api.catalog import Catalog, Chain
from api.errors import ApiError
from api.live import changes
from api.live.changes import Scope, end_of
from api.resources.base import Resource, send_json
from api.resources.webhook_paths import MEMBERS, ONE, ONE_WITH_SECRET, WebhookPath, known, nothing
from api.schemas import an_array, an_object
from api.sql import webhooks as sql
from api.values import MAX_BLOCK
from api.webhooks import signing, subscription, targets

_Name = Annotated[str, Field(min_length=1, max_length=300)]
_Url = Annotated[
    str, Field(min_length=1, max_length=targets.MAX_URL, description="Where messages go. Its query is not shown again.")
]
_Description = Annotated[str, Field(max_length=200, description="For people.")]


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
        secret = signing.new_secret()
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
