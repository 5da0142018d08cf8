"""Paths that end in a number of ours, such as ``/v1/keys/7``."""

from typing import ClassVar

import falcon
import orjson

from api.errors import ApiError
from api.resources.base import Resource, send_json


class Numbered(Resource):
    """One thing that has a number. Its path ends in ``{what}``."""

    #: What it is: for people, and the name in the path.
    what: ClassVar[str]
    #: A statement that yields its JSON object. $1: its number.
    one: ClassVar[str]
    codes: ClassVar = ("NOT_FOUND",)

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with it."""
        self.params.read(request.query_string)
        self.format(request)
        text = path[self.what]
        rows = self.context.database.query(self.one, [numbered(text, self.what)])
        if not rows:
            raise nothing(self.what, text)
        send_json(response, {"data": orjson.loads(rows[0][0] or b"{}")})


def numbered(text: str, what: str) -> int:
    """The number of a path.

    Args:
        text: as it stands in the path.
        what: of what, for people.

    Raises:
        ApiError: NOT_FOUND: it is no number, so that nothing has it.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise nothing(what, text)
    return int(text)


def nothing(what: str, text: str) -> ApiError:
    """The refusal where there is nothing of that number."""
    return ApiError("NOT_FOUND", f"there is no {what} {text[:40]}")
