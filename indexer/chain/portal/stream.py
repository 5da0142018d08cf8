"""A request to a portal, and the whole lines of its answer, however that ends."""

import contextlib
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import requests
import urllib3

from indexer.chain.portal.lines import is_whole
from indexer.chain.records.errors import (
    AnswerError,
    FatalError,
    LaggingError,
    ProviderError,
    RateError,
    Stopped,
    TransientError,
)
from indexer.chain.rpc.config import ClientSettings, RequestContext
from indexer.chain.rpc.exchange import OpenSockets
from indexer.chain.rpc.transport import Adapter, retry_after_seconds
from indexer.redact import Redactor, redact_url

_PIECE = 256 * 1024
_MOST_WORDS = 300
_CUT = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, zlib.error)


@dataclass(frozen=True, slots=True)
class Streamed:
    """What came of a stream.

    Attributes:
        text: whole lines, each with its break.
        seconds: how long it took.
    """

    text: bytes
    seconds: float


class PortalConnection:
    """Requests to one data set. Thread-safe.

    Args:
        url: of the data set; it may bear a key.
        headers: to send besides.
        settings: time-outs.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        settings: ClientSettings,
        *,
        most: int = 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = redact_url(url)
        self._url = url.rstrip("/")
        self._sockets = OpenSockets()
        self._session = requests.Session()
        adapter = Adapter(self._sockets, pool_connections=2, pool_maxsize=most, max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._session.headers.update({"Accept-Encoding": "gzip", **headers})
        self._settings = settings
        self._redactor = Redactor([url], headers.values())
        self._clock = clock
        self._is_aborted = threading.Event()

    def close(self) -> None:
        """Closes idle connections."""
        self._session.close()

    def abort(self) -> None:
        """Ends all requests that are under way, and those to come: each raises Stopped."""
        self._is_aborted.set()
        self._sockets.shut_down()

    def get(self, path: str) -> bytes:
        """The body of a short answer.

        Raises:
            ProviderError: there is none.
        """
        failure: ProviderError
        try:
            with self._session.get(f"{self._url}/{path}", timeout=self._timeout, allow_redirects=False) as response:
                if response.status_code == 200:
                    return response.content
                failure = self._refusal(response)
        except _CUT as error:
            failure = self._failure(error)
        self._require_open()
        raise failure

    def stream(self, body: bytes, context: RequestContext, most: int) -> Streamed:
        """The whole lines of ``finalized-stream``, no more than fit into so many bytes, but one at least.

        A stream that breaks off, or takes too long, counts as far as its last whole line.

        Raises:
            LaggingError: the portal has nothing at the first block yet.
            AnswerError: the first block's parent is another there.
            RateError, FatalError, TransientError: it was refused, or broke off before the first line's end.
        """
        self._require_open()
        context.check()
        context.requests += 1
        started = self._clock()
        pieces: list[bytes] = []
        failure: ProviderError | None = None
        try:
            with self._session.post(
                f"{self._url}/finalized-stream",
                data=body,
                headers={"Content-Type": "application/json"},
                stream=True,
                allow_redirects=False,
                timeout=self._timeout,
            ) as response:
                if response.status_code != 200:
                    failure = self._refusal(response)
                else:
                    self._collect(response, pieces, context, most, started)
        except _CUT as error:
            failure = self._failure(error)
        self._require_open()
        whole = b"".join(pieces)
        context.bytes += len(whole)
        if failure is not None and failure.code is not None:
            raise failure
        text = _whole_lines(whole)
        if text:
            return Streamed(text, self._clock() - started)
        raise failure or TransientError("the stream ended before the end of its first line", host=self.host)

    def _collect(
        self, response: requests.Response, pieces: list[bytes], context: RequestContext, most: int, started: float
    ) -> None:
        size, has_line = 0, False
        for piece in response.iter_content(_PIECE):
            pieces.append(piece)
            size += len(piece)
            has_line = has_line or b"\n" in piece
            context.check()
            if (size > most and has_line) or size > self._settings.max_bytes:
                response.close()
                return
            if has_line and self._clock() - started > self._settings.deadline:
                response.close()
                return

    @property
    def _timeout(self) -> tuple[float, float]:
        return self._settings.connect_timeout, self._settings.read_timeout

    def _require_open(self) -> None:
        if self._is_aborted.is_set():
            raise Stopped("a request to a portal was given up, since its work is to end")

    def _refusal(self, response: requests.Response) -> ProviderError:
        """What a status other than 200 means."""
        status = response.status_code
        words = ""
        with contextlib.suppress(*_CUT):
            words = self._redactor.text(response.raw.read(_MOST_WORDS, decode_content=True).decode(errors="replace"))
        said = f" (HTTP {status})" + (f": {' '.join(words.split())}" if words.strip() else "")
        found: ProviderError
        match status:
            case 204:
                found = LaggingError("it has nothing at the first block yet")
            case 409:
                found = AnswerError(f"the first block's parent is another there{said}")
            case 429 | 503:
                after = retry_after_seconds(response.headers.get("Retry-After"))
                found = RateError(f"too many requests, or too busy{said}", retry_after=after)
            case 404:
                hint = "check the URL: …/datasets/NAME, as the portal lists them"
                found = FatalError(f"there is no such data set{said}", hint=hint)
            case 400:
                found = FatalError(f"it refuses the question{said}", scope="question")
            case 401 | 403:
                found = FatalError(f"it refuses us{said}", hint="check its key")
            case _ if 300 <= status < 400:
                found = FatalError(f"its URL leads elsewhere{said}")
            case _:
                found = TransientError(f"no answer{said}")
        found.host, found.code = self.host, status
        return found

    def _failure(self, error: Exception) -> ProviderError:
        if isinstance(error, requests.ReadTimeout) or "timed out" in str(error):
            what = f"no answer within {self._settings.read_timeout:.0f} s"
        elif isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.MissingSchema):
            return FatalError("this is not a URL that can be asked", host=self.host)
        elif isinstance(error, requests.ConnectionError):
            what = "no connection"
        else:
            what = f"the answer was cut short ({self._redactor.text(type(error).__name__)})"
        return TransientError(what, host=self.host)


def _whole_lines(text: bytes) -> bytes:
    """The part of a text that is whole lines; the last one's break is added where it is whole without."""
    end = text.rfind(b"\n") + 1
    rest = text[end:]
    return text + b"\n" if rest.strip() and is_whole(rest) else text[:end]
