"""One module a family of resources.

A collection is a subclass of ``collection.Collection``: it declares its parameters, its order and its members, and
pages, counts, exports, cursors and the OpenAPI document follow (docs/collections.md).

* ``base``, ``numbered``, ``waiting``, ``common_parameters``: what resources do alike.
* ``collection``, ``row_page``: what all collections do.
* ``contracts``, ``events``, ``daily``, ``feed``, ``stream``, ``blocks``, ``transactions``, ``snapshots``: what
  contracts said and answer.
* ``derived``, ``derived_stream``: what follows from events.
* ``tokens``, ``transfers``, ``balances``, ``addresses``: tokens, and who moves and holds them.
* ``webhooks``, ``webhook_paths``, ``webhook_deliveries``, ``keys``, ``jobs``: what clients and administrators change.
* ``service``, ``pages``: the API about itself, and its pages for people.
"""
