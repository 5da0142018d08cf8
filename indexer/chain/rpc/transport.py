"""Bytes to a node and bytes back: web3's HTTP provider, without its retries and formatters.

Whatever goes wrong below JSON-RPC ends as one of our own errors, built from redacted text and raised outside the
handler of the foreign exception: requests' and urllib3's exceptions carry the URL, in their text and in their context.

The sockets of a session are kept, so that requests under way can be ended: nothing else wakes a thread that reads one.
"""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from web3 import HTTPProvider
from web3.types import RPCEndpoint

from indexer.chain.records.errors import FatalError, ProviderError, RangeError, TransientError
from indexer.chain.rpc.config import ClientSettings, EndpointConfig
from indexer.chain.rpc.exchange import Exchange, HttpAnswer, OpenSockets, TooLongError
from indexer.redact import RedactingFilter, redact_url

_PIECE = 256 * 1024
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


class Transport(Exchange, HTTPProvider):
    """web3's provider for one endpoint, speaking bytes. Thread-safe: all threads share one session.

    It may also be handed to ``web3.Web3`` where web3's own comfort is worth its price; time-outs and redaction hold
    there too.
    """

    failures = (OSError, urllib3.exceptions.HTTPError, TooLongError)

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
        proxy = select_proxy(config.url, get_environ_proxies(config.url))
        self._way = f" through the proxy {redact_url(proxy)}, which the environment names" if proxy else ""

    def close(self) -> None:
        """Closes idle connections."""
        self._session.close()

    def _make_request(self, method: RPCEndpoint, request_data: bytes) -> bytes:
        answer = self.exchange(request_data, ranged=method == "eth_getLogs")
        if answer.status != 200:
            raise TransientError(f"{method}: HTTP {answer.status}", host=self._host)
        return answer.body

    def _exchange(self, body: bytes, timeout: float | None) -> HttpAnswer:
        started = self._clock()
        deadline = self._settings.deadline if timeout is None else 2 * timeout
        kwargs = self.get_request_kwargs()
        if timeout is not None:
            kwargs["timeout"] = (min(timeout, self._settings.connect_timeout), timeout)
        with self._session.post(self._url, data=body, stream=True, allow_redirects=False, **kwargs) as response:
            pieces = []
            size = 0
            for piece in response.iter_content(_PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > self._settings.max_bytes:
                    response.close()
                    raise TooLongError
                if self._clock() - started > deadline:
                    raise requests.ReadTimeout(f"the answer was not complete after {deadline:.0f} s")
            return HttpAnswer(response.status_code, b"".join(pieces), _retry_after(response.headers))

    def _failure(self, error: Exception, ranged: bool, timeout: float) -> ProviderError:
        if isinstance(error, TooLongError):
            if ranged:
                return RangeError(self._too_long, limit="bytes", host=self._host)
            return TransientError(self._too_long, host=self._host)
        text = self.redact(str(error))
        reason = match[1] if (match := _REASON.search(text)) else text
        cut = isinstance(error, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError)
        timed_out = isinstance(error, requests.ReadTimeout) or "Read timed out" in text
        if isinstance(
            error,
            requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema | requests.exceptions.MissingSchema,
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
