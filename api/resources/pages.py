"""The pages for people."""

import threading
from collections.abc import Callable
from time import monotonic
from typing import ClassVar, Final

import falcon

from api.context import Context
from api.errors import ApiError
from api.page import docs, facts, render
from api.resources.base import Resource, send_kept
from api.resources.service import package_version

#: Seconds for which the page is not made anew: it asks more than an answer of the API does.
KEPT: Final = 2.0
#: Seconds for which a page that was made before is shown while another request makes the next one.
SHOWN_MEANWHILE: Final = 60.0
#: Seconds to wait for a page that is being made, where there is none to show meanwhile.
WAIT: Final = 1.0
#: Seconds of making it after which something must be wrong: just after the start of a slow machine some are needed.
MOST_MAKING: Final = 10.0
_ASSETS_KEPT: Final = "public, max-age=3600"


class StatusPage(Resource):
    """``/``: how everything stands, as one HTML page."""

    #: Where a key is needed, a browser asks its user for one.
    is_page: ClassVar = True

    def __init__(self, context: Context, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(context)
        self._clock = clock
        self._making = threading.Lock()
        self._made: tuple[float, bytes] = (float("-inf"), b"")
        self._begun = float("-inf")

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the page; where the database is away or the page is not made yet, with one that says that."""
        self.params.read(request.query_string)
        response.content_type = falcon.MEDIA_HTML
        response.set_header("Cache-Control", "no-store")
        response.set_header("Content-Security-Policy", render.POLICY)
        response.set_header("Referrer-Policy", "no-referrer")
        try:
            page = self._current()
        except ApiError as error:
            response.status = falcon.code_to_http_status(error.status)
            if error.retry_after is not None:
                response.set_header("Retry-After", str(error.retry_after))
            page = render.failure(error.message, package_version())
        if page is None:
            response.status = falcon.HTTP_202
            response.set_header("Retry-After", "1")
            response.set_header("Refresh", "1")
            page = render.not_yet(package_version())
        response.data = page

    def _current(self) -> bytes | None:
        """The page; one request at a time makes it, and the others do not hold threads until it is made.

        Returns:
            None: another request began to make the first page a moment ago.

        Raises:
            ApiError: the database does not answer, or not in time.
        """
        age = self._clock() - self._made[0]
        if age <= KEPT:
            return self._made[1]
        if not self._making.acquire(timeout=WAIT if age > SHOWN_MEANWHILE else 0):
            made_at, body = self._made
            if self._clock() - made_at <= SHOWN_MEANWHILE:
                return body
            if (making := self._clock() - self._begun) <= MOST_MAKING:
                return None
            why = f"the page is being made for {making:.0f} s: the database is slow, or a table is locked"
            raise ApiError("OVERLOADED", why, retry_after=1)
        self._begun = self._clock()
        try:
            if self._clock() - self._made[0] > KEPT:
                self._made = (self._clock(), render.page(facts.load(self.context), package_version()))
            return self._made[1]
        except ApiError:  # an old page would go on saying that all is well
            self._made = (float("-inf"), b"")
            raise
        finally:
            self._making.release()


class DocsPage(Resource):
    """``/docs``: the OpenAPI document to read and to try."""

    scope: ClassVar = None

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the page."""
        self.params.read(request.query_string)
        response.content_type = falcon.MEDIA_HTML
        response.data = docs.page()
        response.set_header("Cache-Control", _ASSETS_KEPT)
        response.set_header("Content-Security-Policy", docs.POLICY)
        response.set_header("Referrer-Policy", "no-referrer")


class DocsAsset(Resource):
    """``/docs/{file}``: the scripts and styles of that page."""

    scope: ClassVar = None

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with the file.

        Raises:
            ApiError: NOT_FOUND.
        """
        self.params.read(request.query_string)
        asset = docs.asset(path["file"])
        if asset is None:
            raise ApiError("NOT_FOUND", f"there is no file {path['file']!r} here")
        send_kept(request, response, asset.body, asset.etag, _ASSETS_KEPT)
        if response.data is not None:
            response.content_type = asset.media_type
