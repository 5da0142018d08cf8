"""``/v1/keys`` and ``/v1/auth/token``: who may ask, asked by an administrator; tokens for whoever has a key."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from time import monotonic, time
from typing import Annotated, Any, ClassVar, Final, Literal

import falcon
import orjson
from pydantic import AfterValidator, AwareDatetime, Field

from api.access import ANY_KEY, principal_of, tokens
from api.body import Body, NoBody, Operation
from api.context import Context
from api.errors import ApiError, Problem
from api.resources.base import Path, Resource, send_json
from api.resources.numbered import Numbered, nothing, numbered
from api.schemas import TIME, an_array, an_object, nullable
from api.sql import administration
from indexer.store.access.key_format import MOST_DAYS, SCOPES, is_origin, new_key

Scope = Literal["read", "webhooks", "admin"]


def _web_origin(text: str) -> str:
    if not is_origin(text):
        raise ValueError("must be a web origin: scheme, host and port alone, such as https://app.example")
    return text


Origin = Annotated[str, Field(max_length=300), AfterValidator(_web_origin)]

_TEXTS: Final = an_array({"type": "string"})
_SCOPES: Final = an_array({"type": "string", "enum": list(SCOPES)})
_MEMBERS: Final[Mapping[str, Any]] = {
    "id": {"type": "integer"},
    "name": {"type": "string"},
    "begins": {"type": "string", "description": "Its first characters, to recognise it by."},
    "scopes": _SCOPES,
    "origins": _TEXTS,
    "rate": nullable({"type": "integer", "description": "Requests a minute; null: as the settings say."}),
    "created_at": TIME,
    "expires_at": nullable(TIME),
    "revoked_at": nullable(TIME),
}
_KEY: Final = an_object(_MEMBERS)


class KeyRequest(Body):
    """A key that is asked for."""

    name: Annotated[str, Field(min_length=1, max_length=200, description="Whose it is, for people.")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=3, description="What it may do.")] = ("read",)
    origins: Annotated[
        tuple[Origin, ...],
        Field(max_length=50, description="Web origins that may use it; none: any, and programs too."),
    ] = ()
    rate: Annotated[
        int | None, Field(ge=1, le=1_000_000_000, description="Requests a minute; left out: as the settings say.")
    ] = None
    expires_at: Annotated[
        AwareDatetime | None, Field(description="When it ends, at most 36500 days ahead; left out: never.")
    ] = None


class AllKeys(Resource):
    """``/v1/keys``: all of them, and a new one."""

    summary: ClassVar = "All keys"
    tag: ClassVar = "access"
    scope: ClassVar = "admin"
    answer: ClassVar = an_object({"data": an_array(_KEY)})
    operations: ClassVar = {
        "post": Operation(
            "Make a key: it is shown this once",
            KeyRequest,
            an_object({"data": an_object({**_MEMBERS, "key": {"type": "string", "pattern": "^gapless_"}})}),
            status=201,
        )
    }

    def read(self, request: falcon.Request, response: falcon.Response, **path: str) -> None:
        """Answer with all keys; the keys themselves cannot be shown."""
        self.params.read(request.query_string)
        self.format(request)
        found = self.context.database.query(administration.LIST_KEYS)[0][0]
        send_json(response, {"data": orjson.loads(found or b"[]")})

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make a key."""
        asked = self.operations["post"].read(req)
        if asked.expires_at is not None:
            left = asked.expires_at - datetime.now(UTC)
            if left <= timedelta(0):
                raise ApiError.invalid([Problem("expires_at", "is past")])
            if left > timedelta(days=MOST_DAYS):
                problem = f"lies more than {MOST_DAYS} days ahead: leave it out for a key that does not end"
                raise ApiError.invalid([Problem("expires_at", problem)])
        key = new_key()
        scopes = [scope for scope in SCOPES if scope in asked.scopes]
        values = [asked.name, key.hash, key.prefix, scopes, list(asked.origins), asked.rate, asked.expires_at]
        made = orjson.loads(self.context.writes.query(administration.CREATE_KEY, values)[0][0] or b"{}")
        resp.status = falcon.HTTP_201
        send_json(resp, {"data": {**made, "key": key.text}})
        resp.set_header("Location", f"/v1/keys/{made['id']}")


class OneKey(Numbered):
    """``/v1/keys/{key}``: one of them, and its end."""

    what: ClassVar = "key"
    one: ClassVar = administration.ONE_KEY
    summary: ClassVar = "One key"
    tag: ClassVar = "access"
    scope: ClassVar = "admin"
    answer: ClassVar = an_object({"data": _KEY})
    operations: ClassVar = {
        "delete": Operation(
            "Make a key, and the tokens made from it, worthless for good",
            NoBody,
            None,
            status=204,
            codes=("NOT_FOUND",),
        )
    }

    def on_delete(self, req: falcon.Request, resp: falcon.Response, key: str) -> None:
        """Revoke the key."""
        self.operations["delete"].read(req)
        if not self.context.writes.query(administration.REVOKE_KEY, [numbered(key, "key")]):
            raise nothing("key", key)
        resp.status = falcon.HTTP_204
        resp.set_header("Cache-Control", "no-store")


class TokenRequest(Body):
    """A token that is asked for; all of it may be left out."""

    scopes: Annotated[
        tuple[Scope, ...] | None, Field(min_length=1, max_length=3, description="What it may do; left out: as its key.")
    ] = None
    ttl: Annotated[int, Field(ge=1, le=tokens.LONGEST, description="Seconds that it lives.")] = 900
    origin: Annotated[
        Origin | None, Field(description="The web origin that may use it; left out: those of its key.")
    ] = None


class TokenOfKey(Path):
    """``/v1/auth/token``: a short-lived token, so that a browser never holds the key."""

    tag: ClassVar = "access"
    scope: ClassVar = ANY_KEY
    operations: ClassVar = {
        "post": Operation(
            "Make a short-lived token from the key that is sent",
            TokenRequest,
            an_object(
                {
                    "data": an_object(
                        {
                            "access_token": {"type": "string"},
                            "token_type": {"const": "Bearer"},
                            "expires_in": {"type": "integer", "description": "Seconds."},
                            "scope": {"type": "string", "description": "Scopes, with blanks between them."},
                        }
                    )
                }
            ),
            required=False,
        )
    }

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._secrets = tokens.Secrets(context.database, context.writes)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make a token."""
        asked: TokenRequest = self.operations["post"].read(req)
        key = principal_of(req)
        scopes = key.scopes if asked.scopes is None else frozenset[str](asked.scopes)
        if lacking := sorted(scopes - key.scopes):
            raise ApiError("INSUFFICIENT_SCOPE", f"this key may not do that itself: it lacks the scope {lacking[0]}")
        if asked.origin is not None and key.origins and asked.origin not in key.origins:
            raise ApiError("ORIGIN_NOT_ALLOWED", "this key is for web pages of other origins")
        left = asked.ttl if key.ends is None else int(key.ends - monotonic())
        seconds = max(1, min(asked.ttl, left))
        token = tokens.make(self._secrets, key, scopes, seconds, asked.origin, time())
        answer = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": seconds,
            "scope": " ".join(sorted(scopes)),
        }
        send_json(resp, {"data": answer})
