"""Bodies of requests: one pydantic model an operation drives reading, checking and the OpenAPI document.

As strict as query parameters are: a member that is unknown or given twice is refused, and so is a value of another type
than the document says.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import falcon
from pydantic import BaseModel, ConfigDict, ValidationError

from api.errors import MAX_PROBLEMS, ApiError, Problem
from api.parameters import Parameters
from api.schemas import Schema

#: Enough for filters with hundreds of addresses; the HTTP server refuses far longer ones before they come here.
MAX_BYTES: Final = 64 * 1024

#: What any operation with a body may answer.
BODY_CODES: Final = ("BAD_REQUEST", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE")

_HALF: Final = re.compile("[\ud800-\udfff]")


class Body(BaseModel):
    """The body of a request: a JSON object with these members and no others, each of the type that it says."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NoBody(Body):
    """An operation that is told nothing but its path; ``{}`` is nothing too."""


B = TypeVar("B", bound=Body)


@dataclass(frozen=True, slots=True)
class Operation(Generic[B]):
    """A method of a path other than GET: what it takes, what it answers.

    Attributes:
        summary: for the OpenAPI document.
        body: the model of the request's body.
        answer: the schema of the answer; None where it has no body.
        status: of the answer when all went well.
        required: whether the body may be left out, which then means ``{}``.
        codes: of errors, beside those that every path may answer with.
    """

    summary: str
    body: type[B]
    answer: Schema | None
    status: int = 200
    required: bool = True
    codes: Sequence[str] = field(default=())

    def read(self, request: falcon.Request) -> B:
        """Read a request: its body, and that its URL has no parameters.

        Raises:
            ApiError: INVALID_PARAMETER and UNKNOWN_PARAMETER with all problems; BAD_REQUEST, PAYLOAD_TOO_LARGE or
                UNSUPPORTED_MEDIA_TYPE.
        """
        Parameters.read(request.query_string)
        return _model(self.body, _document(request, required=self.required and self.body is not NoBody))


def request_body(operation: Operation[Any], known: dict[str, Schema]) -> Schema | None:
    """The request body object of the OpenAPI document, or None for an operation without.

    Args:
        operation: whose.
        known: schemas of the document by name, which those that the model is made of join.
    """
    if operation.body is NoBody:
        return None
    schema = operation.body.model_json_schema(ref_template="#/components/schemas/{model}")
    known.update(schema.pop("$defs", {}))
    known[operation.body.__name__] = schema
    reference = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
    return {"required": operation.required, "content": {falcon.MEDIA_JSON: {"schema": reference}}}


def _document(request: falcon.Request, *, required: bool) -> Any:
    if (request.content_length or 0) > MAX_BYTES:
        raise _too_large()
    text = request.bounded_stream.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise _too_large()
    if not text and not required:
        return {}
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if media_type != falcon.MEDIA_JSON or request.get_header("Content-Encoding"):
        raise ApiError("UNSUPPORTED_MEDIA_TYPE", "send JSON, uncompressed: Content-Type: application/json")
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ApiError("BAD_REQUEST", "the request's body is no JSON document in UTF-8") from None
    _check_texts(document)
    return document


def _too_large() -> ApiError:
    return ApiError("PAYLOAD_TOO_LARGE", f"the request's body is longer than {MAX_BYTES} bytes")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ApiError.invalid([Problem(_shown(name), "is given twice", "UNKNOWN_PARAMETER")])
        found[name] = value
    return found


def _check_texts(document: Any) -> None:
    """Refuse what neither Postgres nor an answer could hold: NUL, and halves of surrogate pairs."""
    left = [("body", document)]
    while left:
        name, value = left.pop()
        if isinstance(value, dict):
            left += [(key, text) for key, item in value.items() for text in (key, item)]
        elif isinstance(value, list):
            left += [(name, item) for item in value]
        elif isinstance(value, str) and ("\0" in value or _HALF.search(value)):
            raise ApiError.invalid([Problem(_shown(name), "holds a character that is none")])


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in name)[:100]


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are not JSON


def _model(model: type[B], document: Any) -> B:
    if not isinstance(document, dict):
        raise ApiError("BAD_REQUEST", "the request's body must be a JSON object")
    try:
        # From JSON, not from Python: only so do strict models take strings for enumerations and times.
        return model.model_validate_json(json.dumps(document))
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)
        problems = []
        names_told = False
        for found in wrong[:MAX_PROBLEMS]:
            problems.append(_problem(model, found, names_told=names_told))
            names_told = names_told or found["type"] == "extra_forbidden"
        raise ApiError.invalid(problems, more=len(wrong[MAX_PROBLEMS:])) from None


def _problem(model: type[Body], found: Any, *, names_told: bool) -> Problem:
    name = _shown(".".join(map(str, found["loc"])) or "body")
    match found["type"]:
        case "extra_forbidden":
            allowed = ", ".join(f.alias or n for n, f in model.model_fields.items()) or "none"
            hint = "" if names_told else f"; there are {allowed}"
            return Problem(name, f"is not a member here{hint}", "UNKNOWN_PARAMETER")
        case "missing":
            return Problem(name, "is required")
        case _:
            message = str(found["msg"]).removeprefix("Value error, ")
            return Problem(name, message[:1].lower() + message[1:])
