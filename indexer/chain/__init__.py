"""What a node says: asked, checked, retried and failed over.

:class:`~indexer.chain.client.ChainClient` is the way in: all endpoints of one chain as one. Nothing a node says is
passed on before it was held against the question and against what the same answer says elsewhere; what does not fit
is that endpoint's failure, and the question goes to another. An endpoint is *healthy*, *resting* (it failed, and is
tried again later) or *banned* (it contradicted finalized history; see ``disagreement``).

Rooms, each standing on those below it:

* ``portal``: SQD portals, a source of history. ``history``: history from such sources, compared with the nodes.
* ``client``: all endpoints of a chain as one. ``disagreement``: what every endpoint says: its newest block, and
  final blocks about which endpoints contradict each other.
* ``logs``: the logs of ranges and of blocks.
* ``reads``: single questions and contract calls. ``proof``: a block's logs proven by its hash.
* ``rpc``: one endpoint, and the choice among many.
* ``records``: what answers hold, as typed and checked records. Pure.

Importing it keeps Python's recursion limit where it was. ``py_ecc``, which web3 brings along, raises the limit to
100,000 when it is imported. At that depth a hostile JSON document (``[[[[…``, from a node or a file) overflows the C
stack and kills the process, where it should be a ``RecursionError``. Imported before anything that imports web3, this
lets py_ecc do it now and takes it back.
"""

import importlib.util
import sys

_limit = sys.getrecursionlimit()
if importlib.util.find_spec("py_ecc") is not None:
    importlib.import_module("py_ecc")
    sys.setrecursionlimit(_limit)
