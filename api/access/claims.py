"""What any token must be and say, whoever made it (RFC 7519); the time is passed in."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jwt
from jwt.types import Options

from api.access.keys import invalid
from api.errors import ApiError

#: Seconds that the clocks of two machines may differ.
LEEWAY: Final = 5.0
MOST_CHARACTERS: Final = 8192

#: Header ``typ`` of a token that is meant for this (RFC 9068, 2.1); most issuers say ``JWT``, or nothing.
_ACCESS_TYPE: Final = "at+jwt"
#: Claims by which issuers say what a token is, and what they say of access tokens: Keycloak, Cognito.
_KINDS: Final = {"typ": "Bearer", "token_use": "access"}
#: Claims of ID tokens and of logout tokens (OpenID Connect Core 2 and 3.3.2.11, Back-Channel Logout 2.4).
_OF_OTHERS: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "events"})
#: Claims that access tokens have and ID tokens do not: what was granted, and to which client. RFC 9068, Auth0, Okta,
#: Entra.
_OF_ACCESS: Final = frozenset({"scope", "scp", "client_id", "cid", "appid", "azpacr", "permissions", "gty"})

_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")

#: Signature, audience and issuer are PyJWT's to check; times are checked here, against a clock that tests can set.
OPTIONS: Final[Options] = {
    "require": ["iss", "aud", "sub", "exp"],
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "enforce_minimum_key_length": True,
}


def is_token(text: str) -> bool:
    """Whether a text has the form of a signed token, and is not a key."""
    return len(text) <= MOST_CHARACTERS and _FORM.fullmatch(text) is not None


def unverified(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token, of which nothing is proven yet.

    Raises:
        ApiError: INVALID_API_KEY.
    """
    try:
        found = jwt.decode_complete(text, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise invalid("this is no token") from None
    return found["header"], found["payload"]


def proven(
    text: str, keys: Sequence[Any], algorithm: str, *, issuer: str, audience: str, now: float
) -> Mapping[str, Any]:
    """The claims of a token.

    Args:
        text: the token.
        keys: with one of which it must be signed.
        algorithm: how: the one that belongs to the keys, whatever the token says of itself (RFC 8725, 3.1).
        issuer: who must have made it.
        audience: whom it must be for.
        now: seconds since 1970.

    Raises:
        ApiError: TOKEN_EXPIRED, INVALID_API_KEY.
    """
    for key in keys:
        try:
            claims: dict[str, Any] = jwt.decode(
                text, key, algorithms=[algorithm], issuer=issuer, audience=audience, options=OPTIONS
            )
        except jwt.InvalidAudienceError:
            raise invalid("this token is for another audience") from None
        except jwt.InvalidIssuerError:
            raise invalid("this token is of another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise invalid(f"this token lacks the claim {error.claim}") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            continue
        _check_times(claims, now)
        return claims
    raise invalid("this token is not signed as it should be")


def require_access_token(header: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Refuse what an issuer signed for another use: ID tokens, refresh tokens, logout tokens, proofs.

    Args:
        header: of the token.
        said: its claims.

    Raises:
        ApiError: INVALID_API_KEY.
    """
    kind = header.get("typ")
    if isinstance(kind, str) and kind.lower().removeprefix("application/") == _ACCESS_TYPE:
        return
    is_any = kind is None or (isinstance(kind, str) and kind.upper() == "JWT")
    told = {name: said[name] for name in _KINDS if name in said}
    if not is_any or any(said[name] != _KINDS[name] for name in told):
        raise invalid("this is no access token: its issuer made it for another use")
    if not told and (said.keys() & _OF_OTHERS or not said.keys() & _OF_ACCESS):
        raise invalid("this is an ID token, or another one that is no access token: send the access token")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name, now)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
            raise invalid(f"the claim {name} of this token is no time")
    if now >= claims["exp"] + LEEWAY:
        raise ApiError("TOKEN_EXPIRED", "this token has expired: ask for a new one")
    if max(claims.get("nbf", now), claims.get("iat", now)) > now + LEEWAY:
        raise invalid("this token is not valid yet: do the clocks agree?")


def scopes(value: object) -> frozenset[str]:
    """The scopes of a claim: a string with blanks between them (RFC 8693, 4.2), or a list of strings."""
    if isinstance(value, str):
        return frozenset(value.split())
    if isinstance(value, list):
        return frozenset(one for one in value if isinstance(one, str))
    return frozenset()
