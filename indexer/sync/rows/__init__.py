"""From sources to questions, and from checked logs to rows. Pure.

* ``log_filters``: what to ask a node for, so that sources get all their logs in few requests.
* ``router``: which tables a log belongs to, decoded once for each. ``batch_encoder``: the same for many logs of one
  event at once.
"""
