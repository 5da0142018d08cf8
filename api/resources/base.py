"""What all resources do alike."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, ClassVar, TypeAlias, TypeVar

import falcon
import orjson
from psycopg import errors as pg_errors

from api import caching
from api.body import Operation
from api.catalog import Catalog, ContractPath, Event
from api.context import Context
from api.errors import ApiError
from api.parameters import Parameters, one_of
from api.schemas import Schema
from api.values import BadValueError, parse_address
from indexer.abi.columns import Column

T = TypeVar("T")
Columns: TypeAlias = tuple[Column, ...]

#: Characters of the header Accept.
MOST_ACCEPT = 1000

CSV = "text/csv"
NDJSON = "application/x-ndjson"
PARQUET = "application/vnd.apache.parquet"
MEDIA_TYPES: Mapping[str, str] = {"json": falcon.MEDIA_JSON, "csv": CSV, "ndjson": NDJSON, "parquet": PARQUET}


class Path:
    """A path of the API: whom it lets in, and what it does.

    Subclasses define ``on_post``, ``on_patch`` or ``on_delete`` for each of their :attr:`operations`.
    """

    #: What a key must be allowed to do for it; None: no key is ever needed. Reading may be open, nothing else is.
    scope: ClassVar[str | None] = "read"
    #: Whether reading it counts against the client's rate. Liveness alone does not, so that it is always told.
    counted: ClassVar[bool] = True
    tag: ClassVar[str] = "service"
    #: What can be done here beside reading, by method.
    operations: ClassVar[Mapping[str, Operation[Any]]] = {}

    def __init__(self, context: Context) -> None:
        self.context = context


class Resource(Path):
    """A path that is read.

    Subclasses define :meth:`read` and, for those without arguments of events, :attr:`params`.
    """

    params: ClassVar[Any] = Parameters
    #: What the resource can answer with.
    formats: ClassVar[Sequence[str]] = ("json",)

    # For the OpenAPI document: what it is, what it answers, with which codes beside the usual ones, and whether
    # If-None-Match is heeded.
    summary: ClassVar[str] = ""
    answer: ClassVar[Schema] = {"type": "object"}
    codes: ClassVar[Sequence[str]] = ()
    conditional: ClassVar[bool] = False
    #: Media type of :attr:`answer`.
    media: ClassVar[str] = falcon.MEDIA_JSON

    @classmethod
    def described(cls) -> tuple[Sequence[Schema], Schema]:
        """The parameters and the answer, for the OpenAPI document."""
        return cls.params.openapi(), cls.answer

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer a request."""
        raise NotImplementedError

    def on_get(self, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        """Answer a GET."""
        try:
            self.read(req, resp, **path)
        except (pg_errors.UndefinedTable, pg_errors.UndefinedColumn):
            # A table was dropped or laid out anew since the catalog was read.
            self.context.catalog.renewed()
            self.read(req, resp, **path)

    def on_head(self, req: falcon.Request, resp: falcon.Response, **path: str) -> None:
        """Answer a HEAD: as a GET, of which Falcon sends the headers only."""
        self.on_get(req, resp, **path)

    def format(self, request: falcon.Request, given: str | None = None) -> str:
        """The format of the answer: the parameter ``format``, or what ``Accept`` prefers.

        Raises:
            ApiError: NOT_ACCEPTABLE.
        """
        if given is not None:
            return given
        accept = request.accept
        if len(accept) > MOST_ACCEPT:  # Falcon keeps what it read
            raise ApiError("NOT_ACCEPTABLE", f"the header Accept has more than {MOST_ACCEPT} characters")
        if accept in ("*/*", falcon.MEDIA_JSON):
            return "json"
        # Problems with the header itself are answered like a header that allows nothing that there is.
        preferred = request.client_prefers([MEDIA_TYPES[name] for name in self.formats])
        for name in self.formats:
            if MEDIA_TYPES[name] == preferred:
                return name
        raise ApiError(
            "NOT_ACCEPTABLE", f"only {', '.join(MEDIA_TYPES[name] for name in self.formats)} can be made here"
        )

    def address(self, text: str) -> bytes:
        """The address of a path.

        Raises:
            ApiError: INVALID_ADDRESS.
        """
        try:
            return parse_address(text)
        except BadValueError as error:
            raise ApiError("INVALID_ADDRESS", f"{text} {error}") from None

    def looked_up(self, find: Callable[[Catalog], T]) -> T:
        """What is found in the catalog; one in which it is not found is renewed first.

        Raises:
            ApiError: as ``find``.
        """
        try:
            return find(self.context.catalog.current())
        except ApiError as error:
            if error.status != falcon.http_status_to_code(404):
                raise
            return find(self.context.catalog.renewed())

    def contract(self, name: str, query_string: str) -> tuple[Catalog, ContractPath]:
        """The contract of a path.

        Args:
            name: in the path.
            query_string: of the request, whose ``chain`` tells contracts of one address apart.

        Raises:
            ApiError: as :meth:`api.catalog.Catalog.contract`.
        """
        chain = one_of(query_string, "chain")
        return self.looked_up(lambda catalog: (catalog, catalog.contract(name, self.context.database, chain)))

    def event(self, contract: str, event: str, query_string: str) -> tuple[Catalog, ContractPath, Event]:
        """The contract and the event of a path; arguments as of :meth:`contract`.

        Raises:
            ApiError: as :meth:`contract` and :meth:`api.catalog.Catalog.event`.
        """
        chain = one_of(query_string, "chain")
        catalog = self.context.catalog.current()
        known = catalog.contracts.get(contract) if chain is None else None
        if known is not None and (found := known.events.get(event)) is not None:
            return catalog, ContractPath(known), found

        def find(catalog: Catalog) -> tuple[Catalog, ContractPath, Event]:
            path = catalog.contract(contract, self.context.database, chain)
            return catalog, path, catalog.event(path.contract, event)

        return self.looked_up(find)


def send_json(response: falcon.Response, body: Any, *, cache_control: str = "no-store") -> None:
    """Make a JSON value the response."""
    response.content_type = falcon.MEDIA_JSON
    response.data = orjson.dumps(body)
    response.set_header("Cache-Control", cache_control)


def body_tag(body: bytes) -> str:
    """An entity tag made from the answer itself, where no version stands for it."""
    return f'W/"{blake2b(body, digest_size=12).hexdigest()}"'


def send_kept(request: falcon.Request, response: falcon.Response, body: bytes, etag: str, cache_control: str) -> None:
    """Make JSON text the response, or 304 if the client has it."""
    if caching.not_modified(request, etag):
        caching.answer_not_modified(response, etag, cache_control)
        return
    response.content_type = falcon.MEDIA_JSON
    response.data = body
    caching.describe(response, etag, cache_control)
