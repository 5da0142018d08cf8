"""Finalized history from sources that are not nodes: read, compared with the chain's nodes, and completed by them.

Whoever reads history knows a :class:`~indexer.chain.history.source.HistoryReader`: the nodes
(:class:`~indexer.chain.client.ChainClient`) are one, and :class:`~indexer.chain.history.reader.SourcedHistory` is
another, which reads a source and stands on a reader for what the source lacks or serves wrongly. A new kind of source
is a room of its own with a :class:`~indexer.chain.history.source.HistorySource` (``portal`` is one).

A source is *used*, or *rests* after failures in a row; it is tried again by itself. A range that cannot be read from
it, or that contradicts a node, is read from the nodes, which is logged and counted.

* ``source``: what a source and a reader are.
* ``reader``: ranges from a source, in order, a few under way, the others from the nodes.
* ``verification``: a range compared with what the nodes say of its blocks.
* ``estimate``: what reading some ranges will take.
* ``usage``: what became of a source, for people, and when it is used.
"""
