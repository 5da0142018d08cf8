"""Webhooks: rows, and reorganisations, delivered to subscribers by the rules of Standard Webhooks.

A subscription has a position in its chain's order of events. What follows it becomes a message; the message is kept
until it is acknowledged, and only then the position moves on: so nothing is left out, and the order is the chain's.

* ``worker``, ``delivery``, ``looking``, ``messages``, ``retries``: the threads, one delivery, what is next, what it
  says, when again.
* ``sender``, ``targets``, ``signing``, ``vault``: sending, where to, signed, with sealed secrets.
* ``store``, ``subscription``: subscriptions in Postgres, and what they ask for.
"""
