"""SQL of the read API: texts with ``$1``-style parameters, built once per query shape.

* ``statement``, ``json_text``, ``scope``, ``coverage``, ``counting``, ``included``, ``exports``: parts of statements:
  their values, JSON, which blocks, how far, how many, what goes with rows, as literals for ``COPY``.
* ``events``, ``daily``, ``feed``, ``live``, ``blocks``, ``series``, ``tokens``, ``transfers``, ``balances``,
  ``addresses``, ``status``, ``keys``, ``jobs``, ``webhooks``: the statements of one family of resources each.
"""
