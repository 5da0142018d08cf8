"""Who asks, once that is proven: all that the rest of the API needs to know of a key or a token."""

from dataclasses import dataclass
from typing import Final

import falcon

from api.errors import ApiError

#: The scope of a path that any key opens, whatever it may do otherwise.
ANY_KEY: Final = "any"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        name: for people and for the tables, such as ``key 3``.
        bucket: what its requests are counted under.
        scopes: what it may do.
        origins: the web origins that may use it; none: any, and programs too.
        rate: requests a minute; None: as the settings say.
        key_id: of the key that was sent, or that the token was made from; None for a token of an outside issuer.
        is_key: whether the key itself was sent.
        ends: the moment on the API's own monotonic clock at which the key expires, or None.
    """

    name: str
    bucket: str
    scopes: frozenset[str]
    origins: frozenset[str]
    rate: int | None
    key_id: int | None = None
    is_key: bool = False
    ends: float | None = None


def principal_of(request: falcon.Request) -> Principal:
    """The principal of a request, on a path that needs a key.

    Raises:
        ApiError: AUTHENTICATION_REQUIRED; the request bears none.
    """
    found: Principal | None = request.context.get("principal")
    if found is None:
        raise ApiError("AUTHENTICATION_REQUIRED", "send a key: `Authorization: Bearer gapless_…`")
    return found
