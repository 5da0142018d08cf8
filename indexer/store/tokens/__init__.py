"""Tokens: who moved them, who holds them, what they are called.

* ``transfers``: the view over all events that move tokens.
* ``balances``: every holder's amount, exact, in step with the transfers in the tables.
* ``balance_checks``: whether they are exact: holdings compared with the tables, and what was given before the counting.
* ``metadata``: the ``tokens`` table.
"""
