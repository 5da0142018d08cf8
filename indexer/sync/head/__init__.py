"""The head: one chain's newest blocks, followed by one process at a time.

States of a follower: *standing by* (another holds the lease), *following*, *waiting* (a node or the database does not
answer; tried again), *halted* (the nodes contradict finalized rows; looked at again with growing pauses). A tick asks
for the head, reads the blocks up to it with their logs, finds the common ancestor where they do not link, and
commits. What may be wrong after an error is forgotten and read from the database again.

* ``follower``: one tick. ``leadership``: the lease and its epoch; what is told of the chain in the database.
* ``local_branch``, ``followed_sources``: our unfinalised blocks; which sources are followed.
* ``decisions``: when the next look is; where two branches part; how long a head that went backwards is taken for a node
  that lags. Pure.
* ``finality``: which block can no longer be reorganised; below it is history. ``chain_identity``: whether the nodes
  serve the chain that was indexed.
"""
