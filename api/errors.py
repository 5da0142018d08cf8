"""Every error that the API answers with.

An error is ``{"error": "text for a person", "code": "CODE"}``; validation adds ``details``. :data:`CODES` is the whole
list: the OpenAPI document and the tests are made from it. However much is wrong with a request, an error is short.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import falcon
import orjson

#: Bytes of an error's body.
MAX_ERROR_BYTES: Final = 8 * 1024
#: Problems that one error names; of more it says how many there are.
MAX_PROBLEMS: Final = 10
#: Characters of an error's text, of the text of one problem, and of a name that a client made up.
MAX_TEXT: Final = 3000
MAX_PROBLEM_TEXT: Final = 1500
MAX_NAME: Final = 100

#: code -> (HTTP status, what it means). A code that is not here cannot be raised.
CODES: Final[Mapping[str, tuple[int, str]]] = {
    "INVALID_PARAMETER": (400, "A parameter has a value that is not allowed."),
    "UNKNOWN_PARAMETER": (400, "A parameter that this resource does not have, or one given twice that is no list."),
    "INVALID_ADDRESS": (400, "An address that is not 20 bytes of hex, or whose checksum is wrong."),
    "INVALID_CURSOR": (400, "`after` or `before` is neither a row's id nor a cursor of this API."),
    "CHAIN_REQUIRED": (400, "Several chains are indexed: say which with `chain`."),
    "BAD_REQUEST": (400, "The request is not HTTP as it should be."),
    "AUTHENTICATION_REQUIRED": (401, "A key or token is needed here: `Authorization: Bearer` or `X-API-Key`."),
    "INVALID_API_KEY": (401, "The key or token is not valid here, or its key is revoked."),
    "TOKEN_EXPIRED": (401, "The key or token has expired."),
    "INSUFFICIENT_SCOPE": (403, "The key or token lacks the scope that this path needs."),
    "ORIGIN_NOT_ALLOWED": (403, "The key or token is for web pages of other origins."),
    "ROUTE_NOT_FOUND": (404, "There is no such path."),
    "CHAIN_NOT_FOUND": (404, "No chain of this name or id is indexed."),
    "CONTRACT_NOT_FOUND": (404, "No contract of this name or address is indexed."),
    "EVENT_NOT_FOUND": (404, "The contract has no such event, or it is not indexed."),
    "NOT_FOUND": (404, "The path is right, but there is nothing there."),
    "METHOD_NOT_ALLOWED": (405, "The path does not take this method."),
    "NOT_ACCEPTABLE": (406, "None of the formats in Accept can be made."),
    "AMBIGUOUS_CONTRACT": (409, "Several contracts are indexed at this address: use a name."),
    "AMBIGUOUS_EVENT": (409, "The event is overloaded: use one of the names given."),
    "BLOCK_NOT_INDEXED": (409, "The block asked for is not indexed yet."),
    "REORGED": (409, "The cursor's block was reorganised away: start again after `common_block`."),
    "REQUEST_TIMEOUT": (408, "The request did not come within the time that it may take."),
    "PAYLOAD_TOO_LARGE": (413, "The request's body is too large."),
    "URI_TOO_LONG": (414, "The request's URL is too long."),
    "UNSUPPORTED_MEDIA_TYPE": (415, "The request's body has a media type that is not read here."),
    "LIMIT_REACHED": (409, "There are as many of these as there may be: delete one first."),
    "QUERY_TOO_EXPENSIVE": (422, "The query would take too long: narrow it."),
    "KIND_UNSUPPORTED": (422, "This kind of derived table cannot answer that: the message says what to ask instead."),
    "RATE_LIMITED": (429, "Too many requests a minute: wait as long as `Retry-After` says."),
    "HEADERS_TOO_LARGE": (431, "The request's headers are too large."),
    "INTERNAL_ERROR": (500, "A defect; the server's log has it under the request id."),
    "NOT_IMPLEMENTED": (501, "HTTP that this server does not speak."),
    "VERSION_NOT_SUPPORTED": (505, "A version of HTTP that this server does not speak."),
    "NOT_CONFIGURED": (501, "The operator of this server has not switched that on."),
    "ISSUER_UNAVAILABLE": (503, "The issuer of the token does not answer, so that nobody can judge it: try again."),
    "DATABASE_UNAVAILABLE": (503, "The database does not answer: try again."),
    "DATABASE_READ_ONLY": (503, "The database takes no changes at the moment; reading works: try again."),
    "NOT_READY": (503, "The head of a chain stands still, and the operator wants that to be told here."),
    "STREAMS_FULL": (503, "As many streams are open as there may be: try again."),
    "OVERLOADED": (503, "Too much is asked at once: try again."),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one parameter."""

    parameter: str
    message: str
    code: str = "INVALID_PARAMETER"


class ApiError(Exception):
    """An answer that is an error.

    Attributes:
        code: one of :data:`CODES`.
        details: the problems with parameters.
        retry_after: seconds to wait, for the header of that name.
        extra: further members of the body, such as ``common_block``.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        details: Sequence[Problem] = (),
        retry_after: int | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        message = shortened(message, MAX_TEXT)
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = tuple(details)
        self.retry_after = retry_after
        self.extra = dict(extra or {})

    @property
    def status(self) -> int:
        """The HTTP status that belongs to the code."""
        return CODES[self.code][0]

    @classmethod
    def invalid(cls, problems: Sequence[Problem], *, more: int = 0) -> "ApiError":
        """One answer for the problems with a request's parameters, of which the first ten are told.

        The code is that of the problems that are told where they agree, and ``INVALID_PARAMETER`` where they differ.

        Args:
            problems: one or more.
            more: how many there are besides.
        """
        more += max(0, len(problems) - MAX_PROBLEMS)
        told = [
            Problem(shortened(problem.parameter, MAX_NAME), shortened(problem.message, MAX_PROBLEM_TEXT), problem.code)
            for problem in problems[:MAX_PROBLEMS]
        ]
        codes = {problem.code for problem in told}
        texts = [f"{problem.parameter}: {problem.message}" for problem in told]
        if more:
            texts.insert(0, f"{len(told) + more} problems, of which these are the first {len(told)}")
        return cls(codes.pop() if len(codes) == 1 else "INVALID_PARAMETER", "; ".join(texts), details=told)

    def body(self) -> bytes:
        """The JSON that is sent."""
        text = self.message
        details = [{"parameter": p.parameter, "message": p.message} for p in self.details]
        while True:
            body: dict[str, object] = {"error": text, "code": self.code, **self.extra}
            if details:
                body["details"] = details
            dumped = orjson.dumps(body)
            if len(dumped) <= MAX_ERROR_BYTES or len(text) < MAX_NAME:
                return dumped
            # In characters it is short already: most of these are written as escapes.
            if len(details) > 1:
                details.pop()
            else:
                text = shortened(text, len(text) // 2)
                details = [one | {"message": shortened(one["message"], len(text))} for one in details]


def shortened(text: str, most: int) -> str:
    """A text, cut to so many characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


_HTTP_CODES: Final = {
    400: "BAD_REQUEST",
    404: "ROUTE_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    406: "NOT_ACCEPTABLE",
    408: "REQUEST_TIMEOUT",
    413: "PAYLOAD_TOO_LARGE",
    414: "URI_TOO_LONG",
    415: "UNSUPPORTED_MEDIA_TYPE",
    431: "HEADERS_TOO_LARGE",
    500: "INTERNAL_ERROR",
    501: "NOT_IMPLEMENTED",
    503: "OVERLOADED",
    505: "VERSION_NOT_SUPPORTED",
}


def from_http_status(status: int, message: str) -> ApiError:
    """The error for a refusal that Falcon or waitress made by status alone."""
    return ApiError(_HTTP_CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR"), message)


def send(response: falcon.Response, error: ApiError) -> None:
    """Make an error the response."""
    response.status = falcon.code_to_http_status(error.status)
    response.content_type = falcon.MEDIA_JSON
    response.data = error.body()
    response.text = None
    response.stream = None
    response.set_header("Cache-Control", "no-store")
    if error.status == 401:
        # RFC 6750, 3.1: a client that sent nothing is told no error.
        wrong = "" if error.code == "AUTHENTICATION_REQUIRED" else ', error="invalid_token"'
        response.set_header("WWW-Authenticate", f'Bearer realm="gapless"{wrong}')
    if error.retry_after is not None:
        response.set_header("Retry-After", str(error.retry_after))
