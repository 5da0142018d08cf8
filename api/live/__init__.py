"""What happens, as it happens: rows and reorganisations behind a position, and requests that wait for a block.

* ``changes``, ``scopes``, ``views``, ``derived_rows``: what happened behind a position, of what: events, or
  collections.
* ``hub``, ``topic``, ``waits``, ``carrier``, ``sse``: one look for all, clients that share it, requests that wait, one
  client's stream, and what goes over the wire.
* ``server``, ``connection``, ``application``: uvicorn's part of the API's port, and Falcon's application there.
"""
