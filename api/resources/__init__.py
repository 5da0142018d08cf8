"""One module a family of resources.

* ``base``, ``collection``, ``rows``, ``numbered``, ``waiting``, ``exporting``: what resources do alike.
* ``contracts``, ``events``, ``daily``, ``feed``, ``stream``, ``blocks``, ``snapshots``: what contracts said and
  answer.
* ``tokens``, ``transfers``, ``balances``, ``addresses``: tokens, and who moves and holds them.
* ``webhooks``, ``webhook_paths``, ``webhook_deliveries``, ``keys``, ``jobs``: what clients and administrators change.
* ``service``, ``pages``: the API about itself, and its pages for people.
"""
