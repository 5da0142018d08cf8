"""Webhooks: rows, and reorganisations, delivered to subscribers by the rules of Standard Webhooks.

A subscription has a position in its chain's order of events. What follows it becomes a message; the message is kept
until it is acknowledged, and only then the position moves on: so nothing is left out, and the order is the chain's.

* ``worker``, ``delivery``: the threads; what is next, and its delivery.
* ``sender``, ``targets``, ``sealed_secrets``: sending and when again, where to, signed with secrets kept sealed.
* ``store``, ``subscription``: subscriptions in Postgres, what they ask for, and what their messages say.
"""
