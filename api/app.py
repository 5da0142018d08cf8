"""The Falcon application, with request ids, the access log and the headers that every answer has."""

import logging
import re
import secrets
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Final

import falcon
import falcon.asgi

from api.access import Access
from api.caching import VARY, Compression
from api.context import Context
from api.cors import Cors
from api.errors import ApiError, from_http_status, send
from api.limits import ClientAddress
from api.live.application import LiveRequest, Middleware, RequestThreads, StreamPath, ThreadedPath, in_thread
from api.live.carrier import HEARTBEAT
from api.live.hub import Hub
from api.openapi import OpenApi
from api.resources.addresses import OneAddress
from api.resources.balances import Balances, Holders
from api.resources.base import Path, Resource
from api.resources.blocks import BlockByTime, OneBlock
from api.resources.contracts import ContractAbi, ContractEvents, Contracts, OneContract
from api.resources.daily import Daily
from api.resources.derived import DerivedRows, DerivedTables
from api.resources.derived_stream import DerivedStream
from api.resources.events import EventRow, Events
from api.resources.feed import Feed
from api.resources.jobs import Jobs, OneJob
from api.resources.keys import AllKeys, OneKey, TokenOfKey
from api.resources.pages import DocsAsset, DocsPage, StatusPage
from api.resources.service import Health, Ready, Root, Status
from api.resources.snapshots import SeriesLatest, SeriesList, SeriesRows
from api.resources.stream import BalancesStream, EventStream, FeedStream, SeriesStream, StreamResource
from api.resources.tokens import OneToken, Tokens
from api.resources.transactions import OneTransaction
from api.resources.transfers import AddressTransfers, TokenTransfers
from api.resources.webhook_deliveries import WebhookDeliveries, WebhookReplay, WebhookSecret, WebhookTest
from api.resources.webhooks import OneWebhook, Webhooks
from indexer.log import write

access_log = logging.getLogger("api.access")

#: A token that was sent to a path that takes none, or twice.
_TOKEN: Final = re.compile(r"(access_token=)[^&]+", re.IGNORECASE)

#: A path that a terminal shows as it is.
_HARMLESS: Final = re.compile(r"[A-Za-z0-9/._-]*")

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger(__name__)

ROUTES: Final[tuple[tuple[str, type[Path]], ...]] = (
    ("/health", Health),
    ("/ready", Ready),
    ("/status", Status),
    ("/openapi.json", OpenApi),
    ("/v1", Root),
    ("/v1/contracts", Contracts),
    ("/v1/contracts/{contract}", OneContract),
    ("/v1/contracts/{contract}/abi", ContractAbi),
    ("/v1/contracts/{contract}/events", ContractEvents),
    ("/v1/contracts/{contract}/events/{event}", Events),
    ("/v1/contracts/{contract}/events/{event}/daily", Daily),
    ("/v1/contracts/{contract}/events/{event}/stream", EventStream),
    ("/v1/contracts/{contract}/events/{event}/{id}", EventRow),
    ("/v1/contracts/{contract}/snapshots", SeriesList),
    ("/v1/contracts/{contract}/snapshots/{series}", SeriesRows),
    ("/v1/contracts/{contract}/snapshots/{series}/latest", SeriesLatest),
    ("/v1/contracts/{contract}/snapshots/{series}/stream", SeriesStream),
    ("/v1/derived", DerivedTables),
    ("/v1/derived/{table}", DerivedRows),
    ("/v1/derived/{table}/stream", DerivedStream),
    ("/v1/events", Feed),
    ("/v1/events/stream", FeedStream),
    ("/v1/blocks", BlockByTime),
    ("/v1/blocks/{number}", OneBlock),
    ("/v1/transactions/{hash}", OneTransaction),
    ("/v1/webhooks", Webhooks),
    ("/v1/webhooks/{webhook}", OneWebhook),
    ("/v1/webhooks/{webhook}/deliveries", WebhookDeliveries),
    ("/v1/webhooks/{webhook}/replay", WebhookReplay),
    ("/v1/webhooks/{webhook}/rotate", WebhookSecret),
    ("/v1/webhooks/{webhook}/test", WebhookTest),
    ("/v1/tokens", Tokens),
    ("/v1/tokens/{address}", OneToken),
    ("/v1/tokens/{address}/transfers", TokenTransfers),
    ("/v1/tokens/{address}/holders", Holders),
    ("/v1/addresses/{address}", OneAddress),
    ("/v1/addresses/{address}/transfers", AddressTransfers),
    ("/v1/addresses/{address}/balances", Balances),
    ("/v1/addresses/{address}/balances/stream", BalancesStream),
    ("/v1/auth/token", TokenOfKey),
    ("/v1/keys", AllKeys),
    ("/v1/keys/{key}", OneKey),
    ("/v1/jobs", Jobs),
    ("/v1/jobs/{job}", OneJob),
)

#: For people: no part of the OpenAPI document.
PAGES: Final[tuple[tuple[str, type[Resource]], ...]] = (
    ("/", StatusPage),
    ("/docs", DocsPage),
    ("/docs/{file}", DocsAsset),
)


class RequestLog:
    """Falcon middleware: gives each request an id, and logs it when it is answered.

    A client's or proxy's own ``X-Request-Id`` is kept if it is harmless.

    Args:
        clients: whose request it is, behind proxies too.
    """

    def __init__(self, clients: ClientAddress) -> None:
        self._clients = clients

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Note the id and the time."""
        given = req.get_header("X-Request-Id")
        req.context.request_id = given if given and _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        req.context.started = perf_counter()
        resp.set_header("X-Request-Id", req.context.request_id)
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Vary", VARY)

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, req_succeeded: bool) -> None:
        """Log the request."""
        if not access_log.isEnabledFor(logging.INFO):
            return
        status = resp.status_code
        milliseconds = (perf_counter() - req.context.started) * 1000
        path, query = req.path, req.query_string
        write(
            access_log,
            logging.INFO,
            "%s %s %d in %.1f ms",
            req.method,
            path if _HARMLESS.fullmatch(path) else path.encode("unicode_escape").decode(),
            status,
            milliseconds,
            request_id=req.context.request_id,
            method=req.method,
            path=path,
            query=_TOKEN.sub(r"\1***", query) if "token" in query.lower() else query,
            status=status,
            milliseconds=round(milliseconds, 1),
            client=self._clients.named(req.remote_addr, req.get_header("X-Forwarded-For")),
        )


def create_app(
    context: Context, access: Access | None = None, *, routes: Sequence[tuple[str, type[Path]]] = ROUTES
) -> falcon.App[Any, Any]:
    """The application: a WSGI callable.

    Args:
        context: what the resources share; the caller closes it.
        access: who may ask; left out, as the settings say.
        routes: paths and what answers there; the OpenAPI document has them.
    """
    access = access or Access(context)
    app: falcon.App[Any, Any] = falcon.App(middleware=_middleware(context, access))
    app.req_options.strip_url_path_trailing_slash = False
    app.add_sink(access.nowhere, re.compile(""))
    for kind, handler in _ERRORS:
        app.add_error_handler(kind, handler)
    for path, resource in (*routes, *PAGES):
        made = resource(context)
        if isinstance(made, OpenApi):
            made.routes = routes
        app.add_route(path, made)
    return app


def create_live_app(
    context: Context, access: Access, hub: Hub, threads: RequestThreads, *, heartbeat: float = HEARTBEAT
) -> falcon.asgi.App[Any, Any]:
    """The application of the event loop, an ASGI callable: streams, and every other path for requests that wait.

    Args:
        context: what the resources share; the caller closes it.
        access: that of the other application: who may ask, and what clients have asked already.
        hub: of streams and waiting requests.
        threads: for everything that is not waiting.
        heartbeat: seconds after which a silent stream says that it is alive.
    """
    middleware = Middleware(_middleware(context, access), threads)
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App(middleware=[middleware], request_type=LiveRequest)
    app.req_options.strip_url_path_trailing_slash = False
    app.add_sink(in_thread(threads, access.nowhere), re.compile(""))
    for kind, handler in _ERRORS:
        app.add_error_handler(kind, in_thread(None, handler))
    for path, resource in ROUTES:
        made = resource(context)
        if isinstance(made, StreamResource):
            app.add_route(path, StreamPath(made, hub, threads, heartbeat=heartbeat))
        elif isinstance(made, Resource):
            app.add_route(path, ThreadedPath(made, hub, context.waits, threads))
    return app


def _middleware(context: Context, access: Access) -> list[Any]:
    counted = [] if context.metrics is None else [context.metrics]
    return [
        *counted,
        RequestLog(ClientAddress(context.settings.trusted_proxies)),
        Cors(context.settings.cors_origins),
        Compression(),
        access,
    ]


def _on_api_error(_: falcon.Request, response: falcon.Response, error: ApiError, __: Any) -> None:
    send(response, error)


def _on_http_error(request: falcon.Request, response: falcon.Response, error: falcon.HTTPError, _: Any) -> None:
    status = falcon.http_status_to_code(error.status)
    described = {
        404: f"there is no path {request.path}; /v1 has links to what there is",
        405: f"{request.path} does not take {request.method}",
    }
    send(response, from_http_status(status, described.get(status) or error.description or error.title or "refused"))
    response.set_headers({name: value for name, value in dict(error.headers or {}).items() if name.lower() == "allow"})


def _on_defect(request: falcon.Request, response: falcon.Response, error: Exception, _: Any) -> None:
    request_id = request.context.get("request_id")
    log.error("defect in %s %s", request.method, request.path, exc_info=error, extra={"request_id": request_id})
    send(
        response, ApiError("INTERNAL_ERROR", "something went wrong here; the server's log has it under the request id")
    )


_ERRORS: Final[Sequence[tuple[type[Exception], Callable[..., None]]]] = (
    (Exception, _on_defect),
    (falcon.HTTPError, _on_http_error),
    (ApiError, _on_api_error),
)
