"""Snapshot series: multicall reads, each point at one block.

A point is *due*, then *taken*, or *lost* where no node has its state any more.

* ``series``: taking points. ``due_points``: when they are due. ``reader``: one point's calls. ``revert_reasons``: why
  a call failed.
"""
