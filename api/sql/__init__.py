"""SQL of the read API: texts with ``$1``-style parameters, built once per query shape.

* ``source``, ``query_shape``, ``members``: from where rows are and what goes with them, what decides a statement's
  text (their order, how they are counted), what they have.
* ``statement``, ``scope``: parts of statements: their values and JSON, which blocks.
* ``events``, ``daily``, ``feed``, ``series``, ``transfers``, ``balances``, ``derived``: the sources of one kind of
  rows each.
* ``live``, ``blocks``, ``status``, ``administration``, ``webhooks``: the statements of one family of resources each.
"""
