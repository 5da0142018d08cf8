"""What endpoints have cost: credits by endpoint and day (UTC), counted and bounded by all processes together.

* ``budget``: how much of a day's credits may be taken now, for the head and for history. Pure.
* ``days``: those days in Postgres. ``accounts``: the accounts of the endpoints that a process asks.
* ``usage``: what status and monitoring show of them.
"""
