"""Tokens: who moved them, who holds them, what they are called.

* ``transfers``: the view over all events that move tokens.
* ``balances``: every holder's amount, exact, in step with the transfers in the tables.
* ``earlier_transfers``: whether tokens gave anything before their transfers are counted.
* ``metadata``: the ``tokens`` table. ``metadata_cache``: the same in Redis, signed, for other deployments.
"""
