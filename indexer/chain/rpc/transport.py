"""Bytes to a node and bytes back: web3's HTTP provider, without its retries and formatters.

requests works out once for each endpoint what its URL and the environment say (proxies, certificates, credentials);
each question then goes straight to urllib3's pool. Asking requests each time took three times the CPU.

Whatever goes wrong below JSON-RPC ends as one of our own errors, built from redacted text and raised outside the
handler of the foreign exception: requests' and urllib3's exceptions carry the URL, in their text and in their context.

The sockets of a session are kept, so that requests under way can be ended: nothing else wakes a thread that reads one.
"""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.cookies import extract_cookies_to_jar, get_cookie_header
from requests.utils import get_environ_proxies, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from web3 import HTTPProvider
from web3.types import RPCEndpoint

from indexer.chain.records.errors import FatalError, ProviderError, RangeError, TransientError
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from indexer.chain.rpc.exchange import CutShortError, Exchange, HttpAnswer, OpenSockets, TooLongError
from indexer.redact import RedactingFilter, redact_url

_PIECE = 256 * 1024
_NO_RETRIES = urllib3.Retry(0, read=False)
# The one telling part of "HTTPConnectionPool(...): Max retries exceeded ... (Caused by ...: [Errno 111] Connection
# refused"))".
_REASON = re.compile(r"(?:\[Errno -?\d+\] |Failed to resolve [^(]*|RemoteDisconnected\(['\"])([^'\")(\[]+)")

for _logger in ("urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_logger).addFilter(RedactingFilter())


class Adapter(HTTPAdapter):
    """requests' adapter, which notes the sockets that are opened.

    Args:
        sockets: where.
        more: as of requests' own.
    """

    def __init__(self, sockets: OpenSockets, **more: Any) -> None:
        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self._pools = {"http": PlainPool, "https": SecurePool}
        super().__init__(**more)

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        """As requests' own."""
        super().init_poolmanager(*arguments, **more)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **more: Any) -> urllib3.ProxyManager:
        """As requests' own."""
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **more)
        manager.pool_classes_by_scheme = self._pools
        return manager


@dataclass(frozen=True, slots=True)
class _Route:
    """What every request to an endpoint has in common.

    Attributes:
        request: one without a body, as requests prepares it.
        headers: of each; the body's length comes by itself.
        pool: the connections, to the endpoint or to a proxy.
        target: the request's target: a path, or the whole URL for a proxy.
    """

    request: requests.PreparedRequest
    headers: Mapping[str, str]
    pool: HTTPConnectionPool
    target: str


class Transport(Exchange, HTTPProvider):
    """web3's provider for one endpoint, speaking bytes. Thread-safe: all threads share one session.

    It may also be handed to ``web3.Web3`` where web3's own comfort is worth its price; time-outs and redaction hold
    there too.
    """

    failures = (OSError, urllib3.exceptions.HTTPError, TooLongError, CutShortError)

    def __init__(
        self, config: EndpointConfig, settings: ClientSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        Exchange.__init__(self, config, settings, clock)
        session = requests.Session()
        adapter = Adapter(self._sockets, pool_connections=2, pool_maxsize=config.max_concurrency, max_retries=0)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        timeout = (settings.connect_timeout, settings.read_timeout)
        headers = {**self.get_request_headers(), "Accept-Encoding": accepted_encoding(config.url), **config.headers}
        HTTPProvider.__init__(
            self,
            config.url,
            request_kwargs={"timeout": timeout, "headers": headers},
            session=session,
            exception_retry_configuration=None,
        )
        self._url = config.url
        self._session = session
        self._route: _Route | None = None
        self._cookies: str | None = None
        proxy = select_proxy(config.url, get_environ_proxies(config.url))
        self._way = f" through the proxy {redact_url(proxy)}, which the environment names" if proxy else ""

    def close(self) -> None:
        """Closes idle connections."""
        self._route = None
        self._session.close()

    def _make_request(self, method: RPCEndpoint, request_data: bytes) -> bytes:
        answer = self.exchange(request_data, ranged=method == "eth_getLogs")
        if answer.status != 200:
            raise TransientError(f"{method}: HTTP {answer.status}", host=self._host)
        return answer.body

    def _exchange(self, body: bytes, timeout: float | None) -> HttpAnswer:
        started = self._clock()
        route = self._route or self._prepare()
        connect = self._settings.connect_timeout if timeout is None else min(timeout, self._settings.connect_timeout)
        read = self._settings.read_timeout if timeout is None else timeout
        deadline = self._settings.deadline if timeout is None else 2 * timeout
        response = route.pool.urlopen(
            "POST",
            route.target,
            body=body,
            headers={**route.headers, "Cookie": cookies} if (cookies := self._cookies) else route.headers,
            timeout=urllib3.Timeout(connect=connect, read=read),
            retries=_NO_RETRIES,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )
        pieces = []
        size = 0
        is_whole = False
        try:
            for piece in response.stream(_PIECE, decode_content=True):
                pieces.append(piece)
                size += len(piece)
                if size > self._settings.max_bytes:
                    raise TooLongError
                if self._clock() - started > deadline:
                    raise TimeoutError(f"the answer was not complete after {deadline:.0f} s")
            is_whole = True
        except (urllib3.exceptions.ProtocolError, urllib3.exceptions.DecodeError) as error:
            raise CutShortError(str(error)) from None
        finally:
            if not is_whole:
                response.close()
            response.release_conn()
        if "Set-Cookie" in response.headers:  # of a balancer that has one client meet one node
            extract_cookies_to_jar(self._session.cookies, route.request, response)  # type: ignore[no-untyped-call]
            self._cookies = get_cookie_header(self._session.cookies, route.request)  # type: ignore[no-untyped-call]
        return HttpAnswer(response.status, b"".join(pieces), _retry_after(response.headers))

    def _prepare(self) -> _Route:
        """What requests makes of the URL and of the environment."""
        session = self._session
        request = session.prepare_request(requests.Request("POST", self._url, self.get_request_kwargs()["headers"]))
        adapter: Any = session.get_adapter(request.url or "")
        found = session.merge_environment_settings(request.url or "", {}, True, None, None)
        verify, proxies, cert = found["verify"], found["proxies"], found["cert"]
        pool = adapter.get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)
        adapter.cert_verify(pool, request.url, verify, cert)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
        self._route = route = _Route(request, headers, pool, adapter.request_url(request, proxies))
        return route

    def _failure(self, error: Exception, ranged: bool, timeout: float) -> ProviderError:
        if isinstance(error, TooLongError):
            if ranged:
                return RangeError(self._too_long, limit="bytes", host=self._host)
            return TransientError(self._too_long, host=self._host)
        text = self.redact(str(error))
        reason = match[1] if (match := _REASON.search(text)) else text
        cut = isinstance(error, CutShortError)
        timed_out = isinstance(error, TimeoutError) or "Read timed out" in text
        if isinstance(
            error,
            requests.exceptions.InvalidURL
            | requests.exceptions.InvalidSchema
            | requests.exceptions.MissingSchema
            | urllib3.exceptions.LocationValueError,
        ):
            return FatalError("this is not a URL that can be asked", host=self._host, hint="check the endpoint's URL")
        # A connection that was opened and then closed may be the node's way of saying "too much".
        opened = not timed_out and ("Connection aborted" in text or "reset" in text.lower())
        if timed_out:
            what = f"no answer within {timeout:.0f} s{self._way}"
        elif cut:
            what = f"the answer was cut short{self._way} ({reason})"
        else:
            what = f"the connection was closed{self._way}" if opened else f"no connection{self._way}"
            what = f"{what} ({reason})"
        if ranged and (timed_out or cut):
            return RangeError(what, timed_out=timed_out, host=self._host)
        return TransientError(what, shrinkable=opened, host=self._host)


def accepted_encoding(url: str) -> str:
    """How answers may be compressed: packing and unpacking costs more than a way within this machine."""
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return "identity" if ip_address(host).is_loopback else "gzip"
    return "identity" if host == "localhost" else "gzip"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        now = parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError):
        now = datetime.now(UTC)
    return retry_after_seconds(value, now)


def retry_after_seconds(value: str | None, now: datetime | None = None) -> float | None:
    """The seconds that a ``Retry-After`` header asks for (RFC 9110, 10.2.3: seconds or an HTTP date).

    Args:
        value: the header's value.
        now: the time to count a date from; best the answer's own ``Date``.

    Returns:
        The seconds, at least 0, or None where the value is missing or senseless.
    """
    if value is None:
        return None
    value = value.strip()
    try:
        return min(max(0.0, float(value)), 86_400.0)
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max(0.0, (when - (now or datetime.now(UTC))).total_seconds()), 86_400.0)
