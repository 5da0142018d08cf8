"""Request ids, the access log, and the headers that every answer has."""

import logging
import re
import secrets
from time import perf_counter
from typing import Any, Final

import falcon

from api.caching import VARY
from api.limits import ClientAddress

log = logging.getLogger("api.access")

#: A token that was sent to a path that takes none, or twice.
_TOKEN: Final = re.compile(r"(access_token=)[^&]+", re.IGNORECASE)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


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
        if not log.isEnabledFor(logging.INFO):
            return
        status = falcon.http_status_to_code(resp.status)
        milliseconds = (perf_counter() - req.context.started) * 1000
        log.info(
            "%s %s %d in %.1f ms",
            req.method,
            req.path.encode("unicode_escape").decode(),
            status,
            milliseconds,
            extra={
                "request_id": req.context.request_id,
                "method": req.method,
                "path": req.path,
                "query": _TOKEN.sub(r"\1***", req.query_string),
                "status": status,
                "milliseconds": round(milliseconds, 1),
                "client": self._clients.named(req.remote_addr, req.get_header("X-Forwarded-For")),
            },
        )
