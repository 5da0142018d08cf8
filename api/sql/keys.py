"""Keys of the API: what its own paths read and write of them. Never a hash."""

from typing import Final

from api.sql.json_text import time

_SHOWN: Final = f"""json_build_object(
    'id', id, 'name', name, 'begins', prefix, 'scopes', scopes, 'origins', origins, 'rate', rate,
    'created_at', {time("created_at")}, 'expires_at', {time("expires_at")}, 'revoked_at', {time("revoked_at")})"""

#: One JSON array: all keys, the oldest first.
LIST: Final = f"SELECT coalesce(json_agg({_SHOWN} ORDER BY id), '[]') FROM gapless.api_keys"

#: One row with the key's JSON object, or none. $1: its id.
ONE: Final = f"SELECT {_SHOWN} FROM gapless.api_keys WHERE id = $1"

#: Makes a key: name, hash, prefix, scopes, origins, rate, expiry.
CREATE: Final = f"""
INSERT INTO gapless.api_keys (name, hash, prefix, scopes, origins, rate, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING {_SHOWN}
"""

#: Makes a key worthless; one that is so already stays as it is. $1: its id.
REVOKE: Final = """
UPDATE gapless.api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING id
"""
