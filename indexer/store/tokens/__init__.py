"""Tokens: who moved them, who holds them, what they are called.

* ``transfers``: the view over all events that move tokens. ``readable_transfers``: the one for people beside it.
* ``balances``: every holder's amount, exact, in step with the transfers in the tables.
* ``daily_balances``: the same at the ends of days. ``orphan_holdings``: deletes those of ledgers that are gone.
* ``balance_checks``: whether they are exact: holdings compared with the tables, and what was given before the counting.
* ``metadata``: the ``tokens`` table.
"""
