"""Who may ask: keys, short-lived tokens made from keys, tokens of an outside issuer; what they may do and how often.

* ``middleware``, ``principal``: who asks, also by a token in the URL, and whether they may.
* ``keys``, ``tokens``, ``issuer``: the proofs: keys, tokens and what all must say, an issuer's tokens.
"""

from api.access.middleware import Access
from api.access.principal import ANY_KEY, Principal, principal_of

__all__ = ["ANY_KEY", "Access", "Principal", "principal_of"]
