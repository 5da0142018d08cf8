"""SQL of the read API: texts with ``$1``-style parameters, built once per query shape.

* ``source``, ``query_shape``, ``row_order``, ``members``: from where rows are, what decides a statement's text, the
  order of rows and what they have, the statements of a collection: page, state, estimate, export.
* ``statement``, ``json_text``, ``scope``, ``coverage``, ``counting``, ``included``: parts of statements: their
  values, JSON, which blocks, how far, how many, what goes with rows.
* ``events``, ``daily``, ``feed``, ``series``, ``transfers``, ``balances``: the sources of one kind of rows each.
* ``live``, ``blocks``, ``addresses``, ``status``, ``keys``, ``jobs``, ``webhooks``: the statements of one family of
  resources each.
"""
