"""From sources to questions, and from checked logs to rows. Pure.

* ``gaps``: what is missing, in which order it may be fetched, and what to ask a node for.
* ``router``: which tables a log belongs to, decoded once for each. ``batch_encoder``: the same for many logs of one
  event at once.
"""
