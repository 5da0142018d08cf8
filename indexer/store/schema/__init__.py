"""Tables as SQL.

* ``tables``: the static tables, schema ``gapless``.
* ``layout``: the tables of events and of snapshot series, made from ABIs; range sets as Postgres writes them.
"""
