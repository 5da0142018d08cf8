"""Who may ask: keys, short-lived tokens made from keys, tokens of an outside issuer; what they may do and how often.

* ``middleware``, ``principal``: who asks, and whether they may.
* ``keys``, ``tokens``, ``issuer``, ``claims``, ``query_token``: the proofs: keys, our own tokens, an issuer's tokens,
  what all must say, tokens in a URL.
"""

from api.access.middleware import Access
from api.access.principal import ANY_KEY, Principal, principal_of

__all__ = ["ANY_KEY", "Access", "Principal", "principal_of"]
