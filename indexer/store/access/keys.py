"""Keys of the read API: random, shown once, and kept as a hash.

A key has 256 random bits, so an attacker cannot try all of them against its SHA-256: a slow hash, which protects what
people choose, would only cost every request time.
"""

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from indexer.store.access.key_format import new_key
from indexer.store.schema.tables import api_keys


def create(
    connection: Connection,
    name: str,
    *,
    scopes: Sequence[str] = ("read",),
    origins: Sequence[str] = (),
    rate: int | None = None,
    expires_at: datetime | None = None,
    random_bytes: Callable[[int], str] = secrets.token_urlsafe,
) -> tuple[int, str]:
    """Make a key.

    Args:
        connection: in a transaction.
        name: whose it is.
        scopes: some of :data:`indexer.store.access.key_format.SCOPES`.
        origins: web origins that may use it; none: any, and programs too.
        rate: requests a minute; None: as the API's settings say.
        expires_at: None: never.
        random_bytes: makes so many random bytes, as URL-safe text.

    Returns:
        Its id, and the key itself, which cannot be had again.
    """
    key = new_key(random_bytes)
    values = {"name": name, "hash": key.hash, "prefix": key.prefix, "scopes": list(scopes),
              "origins": list(origins), "rate": rate, "expires_at": expires_at}  # fmt: skip
    made = connection.execute(api_keys.insert().values(values).returning(api_keys.c.id)).scalar_one()
    return int(made), key.text


def load(connection: Connection) -> list[dict[str, Any]]:
    """All keys, without their hashes, the oldest first."""
    columns = [column for column in api_keys.c if column.name != "hash"]
    return [dict(row._mapping) for row in connection.execute(sa.select(*columns).order_by(api_keys.c.id))]


def revoke(connection: Connection, key_id: int) -> bool:
    """Make a key worthless for good. Returns whether there was such a key that was not revoked yet."""
    done = connection.execute(
        api_keys.update()
        .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=sa.func.now())
        .returning(api_keys.c.id)
    )
    return done.first() is not None


_RENEW_SECRET = sa.text("""
    INSERT INTO gapless.token_secrets (secret) SELECT :secret
    WHERE NOT EXISTS (SELECT FROM gapless.token_secrets WHERE created_at > now() - interval '15 days')
""")


def renew_token_secret(connection: Connection) -> None:
    """Makes the next secret that the API signs its short-lived tokens with, long before the API would have to.

    So it never needs to write for a token: a database that takes no changes for two weeks stops none.
    """
    connection.execute(_RENEW_SECRET, {"secret": secrets.token_bytes(32)})
