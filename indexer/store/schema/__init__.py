"""Tables as SQL.

* ``tables``: the static tables, schema ``gapless``.
* ``layout``: the tables of events and of snapshot series, made from ABIs. ``multirange``: range sets as Postgres
  writes them.
* ``server``: which Postgres stands behind DATABASE_URL, and whether it can be used.
"""
