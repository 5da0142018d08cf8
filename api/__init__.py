"""The read API: rows over HTTP, as Postgres has them, with how far they are indexed.

One statement reads a page's rows and the coverage in one snapshot. A page carries an entity tag made of versions, so
an unchanged page is answered without a look at the rows.

* ``app``, ``server``, ``http_server``, ``settings``, ``context``: the routes and what each request passes, the
  processes that serve them, waitress and its threads, the environment, what resources share.
* ``door``, ``http_channel``: a client's bytes become a request or a refusal; a connection, its deadlines, its handing
  over.
* ``cors``, ``limits``, ``metrics``: pages elsewhere, how often, and how it goes.
* ``outbound``: requests to servers elsewhere: receivers of webhooks, an issuer of tokens.
* ``parameters``, ``arguments``, ``values``, ``body``, ``cursors``, ``errors``, ``schemas``, ``openapi``: what may be
  asked, described once for reading, refusing and the OpenAPI document.
* ``database``, ``catalog``, ``catalog_watch``, ``state``, ``transfer_tables``: Postgres and its statements, what is
  indexed, how far, and where transfers are.
* ``caching``, ``bounded_cache``, ``token_lookup``, ``export``: entity tags and gzip, what is kept under what clients
  write, tokens from Redis or Postgres, rows by ``COPY``.
* ``parquet``: such rows as Parquet.
"""
