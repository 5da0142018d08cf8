"""What a node says: asked, checked, retried and failed over.

:class:`~indexer.chain.client.ChainClient` is the way in: all endpoints of one chain as one. Nothing a node says is
passed on before it was held against the question and against what the same answer says elsewhere; what does not fit
is that endpoint's failure, and the question goes to another. An endpoint is *healthy*, *resting* (it failed, and is
tried again later) or *banned* (it contradicted finalized history; see ``disagreement``).

Rooms, each standing on those below it:

* ``client``: all endpoints of a chain as one. ``disagreement``: what every endpoint says: its newest block, and
  final blocks about which endpoints contradict each other.
* ``logs``: the logs of ranges and of blocks.
* ``reads``: single questions and contract calls. ``proof``: a block's logs proven by its hash.
* ``rpc``: one endpoint, and the choice among many.
* ``records``: what answers hold, as typed and checked records. Pure.
"""

import indexer.recursion_limit  # noqa: F401 - for its effect
