"""Snapshot series: multicall reads, each point at one block.

A point is *due*, then *taken*, or *lost* where no node has its state any more.

* ``series``: taking points. ``points``: when they are due, their calls, and why a call failed.
"""
