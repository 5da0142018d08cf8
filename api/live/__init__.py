"""What happens, as it happens: rows and reorganisations behind a position, and the streams that carry them.

* ``changes``, ``scopes``: what happened behind a position, of what.
* ``hub``, ``topic``, ``carrier``, ``server``, ``http``, ``sse``: one look for all, clients that share it, one
  connection, the listener, and what goes over the wire.
"""
