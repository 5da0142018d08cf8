"""What people and monitoring are shown, each read in one snapshot of the database.

* ``overview``: ``gapless status``. ``gauges``: cheap figures for monitoring. ``endpoints``: the nodes, as the indexer
  sees them.
"""
