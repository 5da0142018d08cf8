"""The part of a chain that can still be reorganised, as one follower writes it.

Blocks are appended to the tip, or a branch is swapped for another in one transaction. The coverage of a followed
source is open at its end, so a block costs one row of ``gapless.chains`` however many sources there are. A commit by
a follower that lost its lease fails: it presents an epoch that its successor has changed.

* ``branch``: extend, swap, finalise; which events have rows that a reorganisation may take back. ``state``: who
  follows, how far and for which sources, and how that goes; the number that fences others off.
"""
