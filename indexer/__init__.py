"""Gapless: copy what contracts said and answer from JSON-RPC nodes into typed Postgres tables.

Wings, from the top: ``cli`` and ``demo`` (commands), ``service`` (``gapless run``), ``sync`` (what to fetch, and
doing it), then ``chain`` (nodes), ``store`` (Postgres and Redis), ``abi`` (decoding) and ``manifest``, which do not
know each other. Each wing's and each folder's own docstring is its page. What lies here is used by several wings:

* ``settings``, ``errors``, ``redact``: the environment; errors for people, and mistakes of theirs, all at once; what
  may be shown of a URL.
* ``request_head``, ``request_body``: the bytes of a client, checked before any parser sees them.
* ``log``, ``admin``, ``signals``: log lines, and how often a trouble is told; the administrator's port; how a process
  is told to stop.
* ``intervals``, ``addresses``: arithmetic of coverage; very many addresses in little memory.
* ``block_records``: what nodes say of blocks and transactions.
* ``processes``: child processes that never outlive us.
"""

__version__ = "0.2.0"
