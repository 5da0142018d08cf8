"""SQD portals: history as a stream of lines, one a block, that serves many blocks with one request.

What a portal says is never believed as it is: :mod:`indexer.chain.history` compares it with the chain's own nodes.

* ``portal``: a data set: how far it reaches, and a range of blocks by one request or some.
* ``stream``: a request and the whole lines of its answer, however it ends.
* ``lines``: lines read and checked, in columns.
"""
